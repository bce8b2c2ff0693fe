//! Write connectors and transforms for Tributary.
//!
//! A connector is a [`SourceConnector`] or [`SinkConnector`] with its task, or a [`Transform`]; it works on [`Batch`]es
//! (columns of Arrow arrays), or row by row through the builders of [`record`]. The same code runs as a plugin library,
//! linked into the worker, and in the test kit: it sees the worker only as its [`Context`].

pub mod batch;
pub mod config;
pub mod config_def;
pub mod context;
pub mod errors;
pub mod export;
pub mod ffi;
pub mod own_offsets;
pub mod pattern;
pub mod prepared;
pub mod record;
pub mod sink;
pub mod source;
pub mod state;
pub mod transform;

pub use batch::{Batch, Column, Form, Offsets, Origin};
pub use config::Config;
pub use config_def::{ConfigDef, ConfigKey, ConfigValue, Importance, Parsed, Type, Validator, Width};
pub use context::{Context, Level, Services};
pub use errors::{Error, Result};
pub use export::Plugin;
pub use pattern::Pattern;
pub use record::{Cell, Record, Records, Row};
pub use sink::{Failures, SinkConnector, SinkTask, TopicPartition, TopicPartitionOffset};
pub use source::{ExactlyOnceSupport, Output, SourceConnector, SourcePosition, SourceTask};
pub use state::State;
pub use transform::Transform;

/// The Arrow crates that the SDK's types come from, so that a connector needs no version of its own.
pub mod arrow {
    pub use arrow_array as array;
    pub use arrow_buffer as buffer;
    pub use arrow_schema as schema;
}
