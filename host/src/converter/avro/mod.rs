//! `AvroConverter`: Avro with a schema registry, in Confluent's mapping.
//!
//! Schemas are read by [`schema`] and become Connect's by [`to_connect`]; Connect's become Avro's by [`from_connect`]. Values are
//! read by their writer's schema straight into columns ([`decode`]), and written from columns ([`encode`]). A schema that
//! contains itself has no columns and is refused.

mod decode;
mod defaults;
mod encode;
mod format;
mod from_connect;
mod names;
mod options;
mod schema;
mod to_connect;

pub use format::AvroFormat;

#[cfg(test)]
mod tests;
