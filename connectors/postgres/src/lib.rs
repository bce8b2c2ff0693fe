//! PostgreSQL: change data capture and a sink, under Debezium's class names and keys.
//!
//! README.md beside this crate says what the connectors promise and how they fail.

mod calendar;
mod cdc;
mod client;
mod config;
mod sink;
mod source;

use tributary_sdk::export::Plugin;

pub use sink::{PostgresSink, PostgresSinkTask};
pub use source::{PostgresSource, PostgresSourceTask};

/// The source's class.
pub const SOURCE_CLASS: &str = "io.debezium.connector.postgresql.PostgresConnector";

/// The sink's class.
pub const SINK_CLASS: &str = "io.debezium.connector.jdbc.JdbcSinkConnector";

/// The connectors, as the plugin library exports them and as a worker links them.
pub fn plugin() -> Plugin {
    Plugin::new("postgres", env!("CARGO_PKG_VERSION"))
        .source::<PostgresSource>(SOURCE_CLASS)
        .alias("io.tributary.PostgresSource")
        .documentation("Captures what changes in a PostgreSQL database from its log, after a consistent snapshot.")
        .sink::<PostgresSink>(SINK_CLASS)
        .alias("io.tributary.PostgresSink")
        .documentation("Writes records to tables of a PostgreSQL database: insert, upsert, update and delete.")
}
