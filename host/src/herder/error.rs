//! Why the herder refuses a command.

use crate::storage::StorageError;

/// Why a command was refused. Messages that Kafka Connect also gives are worded as there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HerderError {
    /// No such connector, task or plugin.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// What was asked makes no sense, or not now.
    #[error("{0}")]
    BadRequest(String),
    /// Somebody else changed the same thing in between.
    #[error("{0}")]
    Conflict(String),
    /// Another worker has to do it, at this REST address.
    #[error("another worker has to do this: {0}")]
    Elsewhere(String),
    /// Nobody can do it now: the group has no leader, or is rebalancing, and that lasted longer than a request waits.
    #[error("{0}")]
    Rebalancing(String),
    /// It could not be stored, and has no effect.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It could not be done.
    #[error("{0}")]
    Internal(String),
    /// The worker is ending, and has not begun with it.
    #[error("the worker is shutting down")]
    ShuttingDown,
    /// The worker has ended in the middle of it.
    #[error(
        "the worker ended before this was done, so that it may or may not have been done; look, and try again if it has not"
    )]
    Ended,
}
