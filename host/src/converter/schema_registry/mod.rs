//! Converters whose schemas live in a schema registry that speaks Confluent's API, and what they share.
//!
//! A value in Kafka is a zero byte, the id of its schema (four bytes, big-endian) and the value in the schema's format. What
//! the id means is asked once and kept: the registry is talked to once a schema, never once a record. A registry that cannot be
//! reached, or that is in trouble itself, makes the whole call retriable; an id that it does not know fails the rows that have it.
//!
//! [`RegistryConverter`] is the converter, [`Format`] what Avro, Protobuf and JSON Schema each know.

mod client;
mod config;
mod converter;
mod format;
mod keys;
mod registered;
mod subject;
mod tls;

pub use client::{RegistryClient, RegistryError};
pub use config::RegistryConfig;
pub use converter::RegistryConverter;
pub use format::{Decoded, Format, Outgoing, schemaless, write_rows};
pub use keys::common_def;
pub use registered::{Reference, Registered, SchemaText};
pub use subject::SubjectStrategy;

/// The whole definition of a converter.
pub fn config_def<F: Format>() -> tributary_sdk::ConfigDef {
    common_def().extend(F::own_def())
}

#[cfg(test)]
mod tests;
