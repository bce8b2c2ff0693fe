//! Transforms and predicates: the chain between Kafka and a connector.
//!
//! A [`TransformChain`] takes a batch and answers with batches. It never fails a batch: a record that a transform refuses is
//! named in the answer by its row in the input, and the rest goes on.
//!
//! Schemaless JSON is divided at most once per record, however long the chain: the built-in transforms work on a [`json::Json`]
//! that opens only the objects they look into and is written once, at the end or before a plugin's transform. Structured
//! values are edited as columns.

pub mod chain;
mod config;
pub mod cuts;
mod date_format;
mod field_path;
pub mod headers;
pub mod json;
mod merge;
pub(crate) mod part;
mod plugin_step;
pub mod predicate;
pub mod registry;
mod replacement;
mod single_message;
pub mod stateful;
mod structs;

pub use chain::{Applied, ChainFailure, Clock, Cut, Place, Resolve, TransformChain};
pub use date_format::DateFormat;
pub use registry::class_infos;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod bench;

#[cfg(test)]
mod reference;
