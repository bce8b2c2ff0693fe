//! Transactions of a producer: several records, and a group's offsets, become visible together or not at all.
//!
//! A producer is known by its `transactional.id`. The latest one that calls [`TransactionalProducer::init`] with an id
//! fences every earlier one: whatever those do afterwards fails, and what they had open is aborted.

use std::time::Duration;

use super::{LogError, LogProducer, TopicPartition};

/// A producer with a `transactional.id`. Records are sent with [`LogProducer::send`], between `begin` and `commit`.
pub trait TransactionalProducer: LogProducer {
    /// Fences earlier producers of this id and waits until what they had open is finished. Once, before everything else;
    /// again only after [`NextStep::Retry`].
    fn init(&mut self, timeout: Duration) -> Result<(), TransactionError>;
    /// Opens a transaction.
    fn begin(&mut self) -> Result<(), TransactionError>;
    /// Makes next-to-read offsets of a consumer group part of the open transaction.
    fn send_offsets(
        &mut self,
        offsets: &[(TopicPartition, i64)],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), TransactionError>;
    /// Waits until everything sent is acknowledged, and commits. An error of [`NextStep::Retry`] leaves open whether it was
    /// committed: call again.
    fn commit(&mut self, timeout: Duration) -> Result<(), TransactionError>;
    /// Drops what the open transaction sent.
    fn abort(&mut self, timeout: Duration) -> Result<(), TransactionError>;
    /// As a plain producer.
    fn as_producer(&mut self) -> &mut dyn LogProducer;
    /// Frees the client; what is open is aborted by the next producer of this id, or by the cluster after
    /// `transaction.timeout.ms`.
    fn close_transactional(self: Box<Self>, timeout: Duration) -> Result<(), LogError>;
}

/// A consumer's membership, as the cluster checks it when offsets are committed in a transaction. Opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata(pub(super) Vec<u8>);

/// What went wrong with a transaction, and what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct TransactionError {
    /// What went wrong.
    pub error: LogError,
    /// What to do.
    pub next: NextStep,
}

/// What to do after a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// The same call again.
    Retry,
    /// Abort, and do the transaction again.
    Abort,
    /// Stop writing: another producer has the id.
    Fenced,
    /// Close this producer; another one may work.
    Close,
}

impl TransactionError {
    /// An error that ends the producer.
    pub fn fatal(error: LogError) -> Self {
        let fenced = error.code.is_some_and(is_fenced);
        Self { next: if fenced { NextStep::Fenced } else { NextStep::Close }, error }
    }
}

impl From<LogError> for TransactionError {
    fn from(error: LogError) -> Self {
        Self::fatal(error)
    }
}

/// Whether Kafka's error name says that another producer has the same `transactional.id`.
pub fn is_fenced(code: &str) -> bool {
    matches!(code, "_FENCED" | "PRODUCER_FENCED" | "INVALID_PRODUCER_EPOCH")
}
