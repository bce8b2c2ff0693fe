//! What can go wrong with state.

/// An error of the state store. It fails the task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StateError {
    /// What went wrong and what to do.
    pub message: String,
    /// Whether another task has the shard now.
    pub taken_over: bool,
    /// Whether the same may work later.
    pub retriable: bool,
}

impl StateError {
    /// An error with its whole message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), taken_over: false, retriable: false }
    }

    /// One that may pass.
    pub fn retriable(message: impl Into<String>) -> Self {
        Self { retriable: true, ..Self::new(message) }
    }

    pub(super) fn taken_over(path: &str) -> Self {
        Self { taken_over: true, ..Self::new(format!("another task has taken over the state in {path}")) }
    }

    pub(super) fn damaged(what: &str) -> Self {
        Self::new(format!(
            "the state is damaged: it has {what}; delete the file, the changelog has its content, or the changelog if it is there"
        ))
    }

    pub(super) fn newer(version: u8) -> Self {
        Self::new(format!(
            "the state is in layout version {version}, which this version does not know (it knows {}): a newer one has written it",
            super::key::VERSION
        ))
    }

    pub(super) fn sqlite(what: &str, path: &str, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase};
        let advice = match error.sqlite_error_code() {
            Some(DiskFull) => "; free some space on its file system",
            Some(DatabaseCorrupt | NotADatabase) => {
                "; the file is damaged: delete it while the connector is stopped, it is restored from the changelog"
            }
            _ => "",
        };
        let busy = matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked));
        let error = Self::new(format!("{what} failed in {path}: {error}{advice}"));
        if busy { Self { retriable: true, ..error } } else { error }
    }
}
