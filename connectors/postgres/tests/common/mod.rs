//! A database on the real server, and a source that reads it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_connector_postgres::PostgresSource;
use tributary_harness::{Postgres, postgres};
use tributary_sdk::{Batch, Config};
use tributary_testkit::{SourceRun, TestServices};

/// How long a test waits for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A database of its own on the shared server.
pub struct Database {
    pub server: Arc<Postgres>,
    pub name: String,
}

impl Database {
    pub fn new() -> Self {
        Self::on(Postgres::shared().unwrap())
    }

    pub fn on(server: Arc<Postgres>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("db_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        server.create_database(&name).unwrap();
        Self { server, name }
    }

    pub fn sql(&self, statements: &str) -> String {
        self.server.sql(&self.name, statements).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A source's config; the slot is named after the database.
    pub fn config(&self, more: &[(&str, &str)]) -> Config {
        let port = self.server.port().to_string();
        let mut config = Config::from_iter([
            ("name", "cdc"),
            ("database.hostname", "127.0.0.1"),
            ("database.port", &port),
            ("database.user", postgres::USER),
            ("database.password", postgres::PASSWORD),
            ("database.dbname", &self.name),
            ("topic.prefix", "server"),
            ("slot.name", &self.name),
            ("retriable.restart.connector.wait.ms", "1000"),
            ("status.update.interval.ms", "100"),
        ]);
        for (key, value) in more {
            config.set(*key, *value);
        }
        config
    }

    pub fn start(&self, more: &[(&str, &str)]) -> SourceRun<PostgresSource> {
        SourceRun::start(&self.config(more)).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Slots are few. One may be in use until its reader's end is noticed.
        let slots = format!("FROM pg_replication_slots WHERE database = '{}'", self.name);
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let _ = self.server.sql("postgres", &format!("SELECT pg_terminate_backend(active_pid) {slots} AND active"));
            let _ = self
                .server
                .sql("postgres", &format!("SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active"));
            match self.server.sql("postgres", &format!("SELECT count(*) {slots}")) {
                Ok(left) if left.trim() != "0" => std::thread::sleep(Duration::from_millis(50)),
                _ => break,
            }
        }
    }
}

/// A record as JSON: topic, key, value.
#[derive(Debug, Clone)]
pub struct Event {
    pub topic: String,
    pub key: Value,
    pub value: Value,
}

impl Event {
    /// `op` and the row after it, or before it for deletions.
    pub fn short(&self) -> (String, Value) {
        if self.value.is_null() {
            return ("tombstone".into(), self.key.clone());
        }
        let row = if self.value["after"].is_null() { &self.value["before"] } else { &self.value["after"] };
        (self.value["op"].as_str().unwrap_or_default().to_owned(), row.clone())
    }
}

pub fn events(batches: &[Batch]) -> Vec<Event> {
    let row = |row: tributary_sdk::Row<'_>| Event {
        topic: row.topic().to_owned(),
        key: row.key().to_json().unwrap(),
        value: row.value().to_json().unwrap(),
    };
    batches.iter().flat_map(|batch| batch.rows().map(row).collect::<Vec<_>>()).collect()
}

/// Polls so many records, and says that they are safe.
pub fn take(run: &mut SourceRun<PostgresSource>, count: usize) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    let mut taken = Vec::new();
    while taken.len() < count {
        let batches = run.poll().unwrap_or_else(|error| panic!("{error}"));
        run.deliver(&batches).unwrap();
        taken.extend(events(&batches));
        assert!(Instant::now() < deadline, "{} of {count}: {taken:#?}; {:#?}", taken.len(), run.services().logs());
    }
    assert_eq!(taken.len(), count, "{taken:#?}");
    taken
}

/// The source partition's stored offset.
pub fn stored(services: &TestServices) -> Value {
    services.stored_offsets().into_values().next().unwrap_or_default()
}

pub type Run = SourceRun<PostgresSource>;

/// The table of signals.
pub const SIGNALS: &str = "CREATE TABLE signals (id text PRIMARY KEY, type text, data text);";

/// Polls and delivers until something holds of the records so far.
pub fn until(run: &mut Run, mut holds: impl FnMut(&Run, &[Event]) -> bool) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    let mut read = Vec::new();
    while !holds(run, &read) {
        assert!(Instant::now() < deadline, "{} records; {:#?}", read.len(), run.services().logs());
        let batches = run.poll().unwrap_or_else(|error| panic!("{error}"));
        run.deliver(&batches).unwrap();
        read.extend(events(&batches));
    }
    read
}

/// Everything up to the row that is inserted into `done` now.
pub fn up_to_now(run: &mut Run, database: &Database) -> Vec<Event> {
    let id = database.sql("INSERT INTO done SELECT COALESCE(max(id), 0) + 1 FROM done RETURNING id");
    let id: i64 = id.trim().parse().unwrap();
    let is_it = |event: &Event| event.topic == "server.public.done" && event.key["id"] == serde_json::json!(id);
    until(run, |_, read| read.last().is_some_and(is_it) || read.iter().any(is_it))
}

pub fn signal(database: &Database, id: &str, kind: &str, data: &str) {
    database.sql(&format!("INSERT INTO signals VALUES ('{id}', '{kind}', '{data}')"));
}

impl Database {
    /// A sink's config, with the server behind `port`.
    pub fn sink_config_at(&self, port: u16, more: &[(&str, &str)]) -> Config {
        let url = format!("jdbc:postgresql://127.0.0.1:{port}/{}?sslmode=disable", self.name);
        let mut config = Config::from_iter([
            ("name", "sink"),
            ("connection.url", &url),
            ("connection.username", postgres::USER),
            ("connection.password", postgres::PASSWORD),
        ]);
        more.iter().for_each(|(key, value)| config.set(*key, *value));
        config
    }

    /// A sink's config.
    pub fn sink_config(&self, more: &[(&str, &str)]) -> Config {
        self.sink_config_at(self.server.port(), more)
    }
}
