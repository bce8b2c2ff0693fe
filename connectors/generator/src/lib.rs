//! `GeneratorSource`: records made up on the spot, for demonstrations, tests and measurements.
//!
//! Record number n of a seed is always the same record, whatever happened before: restarts, batch sizes and the speed
//! change nothing. README.md beside this crate says what the connector promises and how it fails.

mod config;
mod offsets;
mod pacing;
mod random;
mod schema;
mod source;
mod writer;

use tributary_sdk::export::Plugin;

pub use source::{GeneratorSource, GeneratorSourceTask};

/// The source's class.
pub const SOURCE_CLASS: &str = "io.tributary.GeneratorSource";

/// The connector, as the plugin library exports it and as a worker links it.
pub fn plugin() -> Plugin {
    Plugin::new("generator", env!("CARGO_PKG_VERSION"))
        .source::<GeneratorSource>(SOURCE_CLASS)
        .alias("io.tributary.GeneratorSourceConnector")
        .alias("io.tributary.Generator")
        .documentation("Makes up orders, clicks or payments at a given rate, the same ones for the same seed.")
}
