//! JSON: the converter, and the parts that it shares with the transforms.
//!
//! [`syntax`] checks and divides JSON text without building values; [`text`] writes it.

mod config;
mod converter;
pub mod decimal;
mod decode;
mod encode;
mod envelope;
mod incoming;
mod schema;
pub mod syntax;
pub mod text;
mod union;

pub use config::{Options, config_def};
pub use converter::JsonConverter;

pub use decode::decode;
pub use encode::Encoder;
pub use envelope::SchemaCache;
pub use schema::{
    connect_type, field_from_json, field_to_json, logical, parameters, schema_to_json, timestamp_type, type_name,
};
pub use union::{GENERAL_UNION, ONE_OF, is_union};

#[cfg(test)]
mod tests;
