//! Tasks: the loops between Kafka and a connector.
//!
//! A task is two threads with a bounded [`queue`] between them: one calls the plugin and transforms, the other talks to the
//! log and commits. Offsets move only after the acknowledgement, or, exactly once, together with the records: see
//! [`transaction`]. [`stream`] tasks, Kafka to Kafka, and sink tasks whose transforms keep state are one thread with transactions.

mod asked;
pub mod backoff;
mod consume;
pub mod control;
pub mod converters;
pub mod dead_letters;
pub mod delivery;
pub mod ensure_topic;
mod error_counters;
pub mod error_policy;
pub mod errors;
mod inbound;
pub mod inbound_converter;
mod lease;
pub mod letter_headers;
pub mod meters;
pub mod offset_tracker;
pub mod outbound_converter;
pub mod own_records;
pub mod polled;
pub mod prepared;
mod put;
pub mod queue;
mod retrying_transform;
pub(crate) mod rows;
pub mod services;
pub mod side_producer;
pub mod sink_task;
pub mod source_state;
pub mod source_task;
pub mod staged_state;
pub mod stream;
pub mod topic_creator;
pub mod transaction;
mod used_topics;

#[cfg(test)]
mod tests;

pub use consume::ConsumeSettings;
pub use lease::Lease;
pub use retrying_transform::RetryingTransform;
pub use sink_task::SinkTask;
pub use source_task::{SourceProducer, SourceTask};
