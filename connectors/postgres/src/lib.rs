//! PostgreSQL: change data capture, under Debezium's class name and keys.
//!
//! README.md beside this crate says what the connectors promise and how they fail.

mod cdc;
mod client;
mod config;
mod source;

use tributary_sdk::export::Plugin;

pub use source::{PostgresSource, PostgresSourceTask};

/// The source's class.
pub const SOURCE_CLASS: &str = "io.debezium.connector.postgresql.PostgresConnector";

/// The connectors, as the plugin library exports them and as a worker links them.
pub fn plugin() -> Plugin {
    Plugin::new("postgres", env!("CARGO_PKG_VERSION"))
        .source::<PostgresSource>(SOURCE_CLASS)
        .alias("io.tributary.PostgresSource")
        .documentation("Captures what changes in a PostgreSQL database from its log, after a consistent snapshot.")
}
