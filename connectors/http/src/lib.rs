//! HTTP: records to requests.
//!
//! README.md beside this crate says what each connector promises and how it fails.

mod client;
mod config;
mod sink;
mod template;

pub use sink::{HttpSink, HttpSinkTask};

use tributary_sdk::export::Plugin;

/// The sink's class.
pub const SINK_CLASS: &str = "io.tributary.HttpSink";

/// All of them, as the plugin library exports them and as a worker links them.
pub fn plugin() -> Plugin {
    Plugin::new("http", env!("CARGO_PKG_VERSION"))
        .sink::<HttpSink>(SINK_CLASS)
        .alias("io.tributary.HttpSinkConnector")
        .documentation("Sends records as HTTP requests, single or in batches.")
}
