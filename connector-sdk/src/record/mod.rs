//! Records one by one: rows into batches for sources, batches into rows for sinks.
//!
//! The columns stay what crosses to the worker; this is the easy way to fill and read them. [`Records`] begins a new batch
//! whenever topic, source partition, or the form or type of key or value changes, so that a connector need not care.
//!
//! A source that emits a record a second, whole:
//!
//! ```
//! use std::time::Duration;
//!
//! use serde::Serialize;
//! use serde_json::json;
//! use tributary_sdk::*;
//!
//! #[derive(Serialize)]
//! struct Tick {
//!     number: u64,
//!     at_ms: i64,
//! }
//!
//! #[derive(Default)]
//! pub struct Ticks(Config);
//!
//! impl SourceConnector for Ticks {
//!     type Task = TicksTask;
//!
//!     fn config_def() -> ConfigDef {
//!         ConfigDef::new().define(ConfigKey::required("topic", Type::String, Importance::High, "Topic to write to."))
//!     }
//!
//!     fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
//!         self.0 = config.clone();
//!         Ok(())
//!     }
//!
//!     fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
//!         Ok(vec![self.0.clone()])
//!     }
//! }
//!
//! #[derive(Default)]
//! pub struct TicksTask(Option<(Context, String)>, u64);
//!
//! impl SourceTask for TicksTask {
//!     fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
//!         self.1 = context.offset_as(&json!({ "clock": 1 }))?.map_or(0, |at: serde_json::Value| at["next"].as_u64().unwrap_or(0));
//!         self.0 = Some((context.clone(), config.required("topic")?.to_owned()));
//!         Ok(())
//!     }
//!
//!     fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
//!         let Some((context, topic)) = &self.0 else { return Ok(()) };
//!         context.wait(Duration::from_secs(1));
//!         let tick = Tick { number: self.1, at_ms: context.now_ms() };
//!         self.1 += 1;
//!         let mut records = Records::to(topic.as_str()).from(&json!({ "clock": 1 }));
//!         records.push(Record::json(&tick)?.key("tick").offset(&json!({ "next": self.1 })))?;
//!         records.emit(output)
//!     }
//! }
//!
//! # #[allow(clippy::needless_doctest_main)]
//! # fn main() { let _ = plugin(); }
//! pub fn plugin() -> Plugin {
//!     Plugin::new("ticks", "1.0.0").source::<Ticks>("com.example.TicksSourceConnector")
//! }
//! ```

mod builder;
mod column;
mod headers;
mod infer;
mod read;
mod structured;
mod value;

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::errors::Result;

pub use builder::Records;
pub use infer::infer_fields;
pub use read::{Cell, Row, Rows};
pub use structured::struct_array;

/// One record on its way out. Made by its value; the rest is added.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) source_partition: Option<Arc<str>>,
    pub(crate) key: Datum,
    pub(crate) value: Datum,
    pub(crate) headers: Vec<Header>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<String>,
}

/// A key or value in one of the forms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum {
    Null,
    Bytes(Vec<u8>),
    Text(String),
    Json(String),
    Structured(Value),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub key: String,
    pub schema: Option<&'static str>,
    pub value: Option<Vec<u8>>,
}

impl Record {
    fn of(value: Datum) -> Self {
        Self {
            topic: None,
            source_partition: None,
            key: Datum::Null,
            value,
            headers: Vec::new(),
            timestamp: None,
            partition: None,
            offset: None,
        }
    }

    /// A text value.
    pub fn text(value: impl Into<String>) -> Self {
        Self::of(Datum::Text(value.into()))
    }

    /// A value of bytes.
    pub fn bytes(value: impl Into<Vec<u8>>) -> Self {
        Self::of(Datum::Bytes(value.into()))
    }

    /// A schemaless JSON value. Fails on types that JSON cannot express (maps with keys other than text).
    pub fn json(value: &impl Serialize) -> Result<Self> {
        Ok(Self::of(Datum::Json(serde_json::to_string(value)?)))
    }

    /// A schemaless JSON value from its text, which is trusted to be valid.
    pub fn raw_json(value: impl Into<String>) -> Self {
        Self::of(Datum::Json(value.into()))
    }

    /// A structured value: a struct row. Its schema is inferred, unless [`Records::with_value_schema`] declares one.
    pub fn row(value: &impl Serialize) -> Result<Self> {
        Ok(Self::of(Datum::Structured(serde_json::to_value(value)?)))
    }

    /// No value: in a compacted topic, the removal of the key.
    pub fn tombstone() -> Self {
        Self::of(Datum::Null)
    }

    /// A text key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Datum::Text(key.into());
        self
    }

    /// A key of bytes.
    pub fn key_bytes(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Datum::Bytes(key.into());
        self
    }

    /// A schemaless JSON key.
    pub fn key_json(mut self, key: &impl Serialize) -> Result<Self> {
        self.key = Datum::Json(serde_json::to_string(key)?);
        Ok(self)
    }

    /// A structured key.
    pub fn key_row(mut self, key: &impl Serialize) -> Result<Self> {
        self.key = Datum::Structured(serde_json::to_value(key)?);
        Ok(self)
    }

    /// Adds a text header. Keys may repeat.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let value = Some(value.into().into_bytes());
        self.headers.push(Header { key: key.into(), schema: Some("string"), value });
        self
    }

    /// Adds a header of bytes; `None` is a header without value.
    pub fn header_bytes(mut self, key: impl Into<String>, value: Option<Vec<u8>>) -> Self {
        self.headers.push(Header { key: key.into(), schema: Some("bytes"), value });
        self
    }

    /// Milliseconds since the epoch. Without it: the time of producing.
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.timestamp = Some(ms);
        self
    }

    /// The topic, where it is not the one of all [`Records`].
    pub fn topic(mut self, topic: impl Into<Arc<str>>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// The Kafka partition to write to. Without it: by the key.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The source partition, where it is not the one of all [`Records`].
    pub fn source_partition(mut self, partition: &Value) -> Self {
        self.source_partition = Some(partition.to_string().into());
        self
    }

    /// The source may resume behind this record: the offset to give back then, a JSON object.
    pub fn offset(mut self, offset: &Value) -> Self {
        self.offset = Some(offset.to_string());
        self
    }
}
