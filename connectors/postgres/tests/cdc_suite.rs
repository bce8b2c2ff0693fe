//! The behaviour suite that every connector passes: on the snapshot, and while streaming.

mod common;

use common::Database;
use tributary_connector_postgres::PostgresSource;
use tributary_sdk::{Batch, Config};
use tributary_testkit::{SourceSubject, source_suite, suite_tests};

/// Records in tables of ten, so that there are places to resume within the snapshot.
struct Tables(Option<Database>);

impl SourceSubject for Tables {
    type Connector = PostgresSource;

    fn prepare(&mut self, records: usize) -> Config {
        let database = Database::new();
        let mut sql = String::from("CREATE TABLE empty (id int PRIMARY KEY);");
        for (table, from) in (0..records).step_by(10).enumerate() {
            let last = (from + 9).min(records - 1);
            sql += &format!(
                "CREATE TABLE t{table} (id int PRIMARY KEY); INSERT INTO t{table} SELECT generate_series({from}, {last});"
            );
        }
        database.sql(&sql);
        // A table is a batch, and what was not delivered of it comes again as a whole: the suite takes no more than what is missing.
        let config = database.config(&[("max.batch.size", "10")]);
        self.0 = Some(database);
        config
    }

    fn spoil(&mut self) -> bool {
        let database = self.0.as_ref().expect("prepared");
        database.sql("CREATE TABLE zz (id int PRIMARY KEY, price money); INSERT INTO zz VALUES (1, 5)");
        true
    }

    fn identity(&self, batch: &Batch, row: usize) -> String {
        common::events(&[batch.slice(row, 1)])[0].key["id"].to_string()
    }
}

/// Records in the log, in transactions of different sizes.
struct Log(Option<Database>);

impl SourceSubject for Log {
    type Connector = PostgresSource;

    fn prepare(&mut self, records: usize) -> Config {
        let database = Database::new();
        let config = database.config(&[("snapshot.mode", "no_data"), ("max.batch.size", "7")]);
        database.sql(&format!(
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE PUBLICATION dbz_publication FOR ALL TABLES; \
             SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
            database.name
        ));
        let (mut sql, mut from, mut size) = (String::new(), 0, 1);
        while from < records {
            let last = (from + size - 1).min(records - 1);
            let table = if size % 2 == 0 { "a" } else { "b" };
            sql += &format!("INSERT INTO {table} SELECT generate_series({from}, {last});");
            (from, size) = (last + 1, size + 3);
        }
        if !sql.is_empty() {
            database.sql(&sql);
        }
        self.0 = Some(database);
        config
    }

    fn spoil(&mut self) -> bool {
        let database = self.0.as_ref().expect("prepared");
        database.sql("CREATE TABLE zz (id int PRIMARY KEY, n numeric(5, 2)); INSERT INTO zz VALUES (1, 'NaN')");
        true
    }

    fn identity(&self, batch: &Batch, row: usize) -> String {
        common::events(&[batch.slice(row, 1)])[0].key["id"].to_string()
    }
}

source_suite!(snapshot, Tables(None));
// Without the promise about kills, whose test reads the same records several times from their beginning, while a slot gives up what is stored:
// tests/resuming.rs has it instead.
suite_tests!(source, log, Log(None); reads_everything, resumes_from_offsets, backpressure, bad_record, idle_poll_returns,
    cancel_returns_promptly, stop_is_idempotent);
