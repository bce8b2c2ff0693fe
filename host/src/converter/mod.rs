//! Converters: between the bytes in Kafka and the forms of a batch's columns.
//!
//! A [`Converter`] takes and gives whole columns. It never fails a batch: a row that cannot be converted is named in the
//! answer's failures with the reason, and the rest goes on. Text, bytes and schemaless JSON are passed through without a copy.
//!
//! Classes are known by Kafka Connect's Java names and their short aliases, see [`registry`].

mod avro;
mod bytes;
mod canonical;
mod class_info;
mod columns;
pub(crate) mod config;
mod conversion;
mod header;
pub(crate) mod header_schema;
mod header_text;
#[cfg(test)]
mod java;
pub mod json;
mod json_schema;
mod number;
mod protobuf;
pub mod registry;
pub mod schema_registry;
mod string;
pub(crate) mod utf8;
pub mod values;

pub use bytes::ByteArrayConverter;
pub use canonical::canonical;
pub use class_info::{ClassInfo, ClassKind};
pub(crate) use conversion::within;
pub use conversion::{Converter, FromConnect, RowFailure, Run, ToConnect};
pub(crate) use header::of_json;
pub use header::{HeaderConversion, HeaderConverter};
pub use header_text::HeaderText;
pub use json::JsonConverter;
pub use number::{Number, NumberConverter};
pub use registry::{converter, header_converter};
pub use string::StringConverter;
