//! The two logs that every delivery test runs on.

use std::sync::Arc;

use tributary_harness::{KafkaBroker, Result};

/// What stands at `bootstrap.servers`.
#[derive(Clone, Debug)]
pub enum Log {
    /// A real Kafka broker.
    Kafka(Arc<KafkaBroker>),
    /// The log inside the worker.
    Embedded,
}

impl Log {
    /// The broker that the tests of a process share.
    pub fn kafka() -> Result<Self> {
        KafkaBroker::shared().map(Self::Kafka)
    }

    /// The value of `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Kafka(broker) => broker.bootstrap(),
            Self::Embedded => "embedded".into(),
        }
    }
}
