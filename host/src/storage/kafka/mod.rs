//! Configs, source offsets and statuses of a worker group, in three compacted topics of Kafka, in Kafka Connect's own
//! record formats: the topics of a Connect cluster are taken over as they are, and can be handed back.
//!
//! | File | Noun |
//! |---|---|
//! | `settings` | the three topics as the worker's properties name them |
//!
//! Everything here blocks; nothing may be called on a tokio worker.

mod settings;

pub use settings::{InternalTopic, StorageSettings, TopicRole};
