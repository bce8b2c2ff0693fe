//! The behaviour suites that every sink passes, and those that write exactly once.

mod common;

use common::Database;
use serde_json::json;
use tributary_connector_postgres::PostgresSink;
use tributary_harness::Proxy;
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::{Batch, Column, Config};
use tributary_testkit::{SinkSubject, exactly_once_sink_suite, sink_suite};

struct Subject {
    more: &'static [(&'static str, &'static str)],
    key: &'static str,
    database: Option<(Database, Proxy)>,
}

impl Subject {
    /// Rows by their key: what is written twice is there once.
    fn upserts() -> Self {
        let more = &[
            ("insert.mode", "upsert"),
            ("primary.key.mode", "record_value"),
            ("primary.key.fields", "id"),
            ("batch.size", "7"),
        ];
        Self { more, key: " PRIMARY KEY", database: None }
    }

    /// Rows without a key: what is written twice shows.
    fn exactly_once() -> Self {
        Self { more: &[("exactly.once.enabled", "true"), ("collection.name.format", "suite")], key: "", database: None }
    }

    fn database(&self) -> &(Database, Proxy) {
        self.database.as_ref().expect("prepared")
    }
}

fn batch(values: impl IntoIterator<Item = serde_json::Value>) -> Batch {
    let texts = values.into_iter().map(|value| Some(value.to_string()));
    Batch::new("suite", Column::json(texts.collect::<StringArray>()))
}

impl SinkSubject for Subject {
    type Connector = PostgresSink;

    fn prepare(&mut self) -> Config {
        let database = Database::new();
        database.sql(&format!("CREATE TABLE suite (id int{}, line text NOT NULL, CHECK (line <> 'bad'))", self.key));
        let proxy = Proxy::start(database.server.port()).unwrap();
        let config = database.sink_config_at(proxy.port(), self.more);
        self.database = Some((database, proxy));
        config
    }

    fn stored(&mut self) -> Vec<String> {
        let lines = self.database().0.sql("SELECT line FROM suite");
        lines.lines().map(str::to_owned).collect()
    }

    fn batch(&self, from: usize, rows: usize) -> Batch {
        batch((from..from + rows).map(|id| json!({"id": id, "line": self.record(id)})))
    }

    fn spoiled_batch(&self) -> Option<Batch> {
        // Where an offset moves past it, a bad record keeps its neighbours out.
        let neighbours = !self.key.is_empty();
        neighbours
            .then(|| batch(["a", "bad", "c"].into_iter().zip(0..).map(|(line, id)| json!({"id": id, "line": line}))))
    }

    fn set_broken(&mut self, broken: bool) -> bool {
        let (_, proxy) = self.database();
        if broken {
            proxy.cut()
        } else {
            proxy.resume()
        }
        true
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

sink_suite!(upserts, Subject::upserts());
sink_suite!(exactly_once_as_any_sink, Subject::exactly_once());
exactly_once_sink_suite!(exactly_once, Subject::exactly_once());
