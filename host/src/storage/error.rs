//! What goes wrong in a store, told so that a user knows what to do.

/// What went wrong; the message names the operation, the file, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    /// The sort of it.
    pub kind: StorageErrorKind,
    /// Lower-case, for users.
    pub message: String,
}

/// Sorts of storage errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// No room, or no permission: the same call succeeds once that is mended, and nothing of it was written.
    Unwritable,
    /// The file is not what it should be: restore or remove it.
    Damaged,
    /// Another worker owns the data directory.
    InUse,
    /// A newer version wrote it.
    Newer,
    /// Kafka did not answer in time, or cannot be reached: the same call may succeed once it can.
    Away,
    /// Another worker has taken this one's place: it is the leader now, or has this task.
    Fenced,
    /// A topic, its settings or this worker's rights on it are not as they have to be: no retry mends that.
    Misconfigured,
    /// The store is closed, or its writer has ended.
    Closed,
    /// Anything else.
    Other,
}

impl StorageError {
    /// An error of this kind.
    pub fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// An error of no particular kind.
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(StorageErrorKind::Other, message)
    }

    /// Whether the same call may succeed later.
    pub fn retriable(&self) -> bool {
        matches!(self.kind, StorageErrorKind::Unwritable | StorageErrorKind::Away)
    }
}
