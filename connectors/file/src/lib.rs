//! `FileStreamSource` and `FileStreamSink`: lines of a text file to a topic, and records of topics to lines of a file.
//!
//! Class names, keys and the offset format are Kafka Connect's, so that its configs and stored offsets carry over.
//! README.md beside this crate says what each connector promises and how it fails.

mod config;
mod errors;
mod json;
mod lines;
mod offsets;
mod output;
mod reader;
mod render;
mod sink;
mod source;
mod stream;
mod tail;

#[cfg(test)]
mod throughput;

pub use sink::{FileStreamSinkConnector, FileStreamSinkTask};
pub use source::{FileStreamSourceConnector, FileStreamSourceTask};

use tributary_sdk::export::Plugin;

/// The source's class, by Kafka Connect's name.
pub const SOURCE_CLASS: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";
/// The sink's class, by Kafka Connect's name.
pub const SINK_CLASS: &str = "org.apache.kafka.connect.file.FileStreamSinkConnector";

/// Both connectors, as the plugin library exports them and as a worker links them.
pub fn plugin() -> Plugin {
    Plugin::new("file", env!("CARGO_PKG_VERSION"))
        .source::<FileStreamSourceConnector>(SOURCE_CLASS)
        .documentation("Reads the lines of a file as records, and follows it through growth, rotation and truncation.")
        .sink::<FileStreamSinkConnector>(SINK_CLASS)
        .documentation("Appends records to a file as lines.")
}
