//! HTTP: records to requests, requests to records, and the answers of APIs to records.
//!
//! README.md beside this crate says what each connector promises and how it fails.

mod client;
mod config;
mod sink;
mod source;
mod template;
mod webhook;

pub use sink::{HttpSink, HttpSinkTask};
pub use source::{HttpSource, HttpSourceTask};
pub use webhook::{WebhookSource, WebhookSourceTask};

use tributary_sdk::export::Plugin;

/// The sink's class.
pub const SINK_CLASS: &str = "io.tributary.HttpSink";

/// The class of the source that polls.
pub const SOURCE_CLASS: &str = "io.tributary.HttpSource";
/// The class of the source that listens.
pub const WEBHOOK_CLASS: &str = "io.tributary.WebhookSource";

/// All of them, as the plugin library exports them and as a worker links them.
pub fn plugin() -> Plugin {
    Plugin::new("http", env!("CARGO_PKG_VERSION"))
        .sink::<HttpSink>(SINK_CLASS)
        .alias("io.tributary.HttpSinkConnector")
        .documentation("Sends records as HTTP requests, single or in batches.")
        .source::<WebhookSource>(WEBHOOK_CLASS)
        .alias("io.tributary.WebhookSourceConnector")
        .documentation("Listens for webhooks, and answers when their records are durable.")
        .source::<HttpSource>(SOURCE_CLASS)
        .alias("io.tributary.HttpSourceConnector")
        .documentation("Polls a REST API page by page.")
}
