//! What a connector answers when something goes wrong.

/// The result of everything a connector does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. The message is shown to users in status: lower-case, naming what was wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The same call may succeed later: the worker backs off and calls again (a sink gets the same batch again).
    #[error("{0}")]
    Retriable(String),
    /// No retry helps: the task becomes FAILED with this message.
    #[error("{0}")]
    Failed(String),
    /// The plugin panicked; never called again.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message and place.
        message: String,
        /// The backtrace, if one was taken.
        trace: String,
    },
    /// The plugin does not implement this call.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl Error {
    /// An error that may pass by itself.
    pub fn retriable(message: impl Into<String>) -> Self {
        Self::Retriable(message.into())
    }

    /// An error that no retry mends.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// Whether calling again may help.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Retriable(_))
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(format!("malformed JSON: {error}"))
    }
}

impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Failed(format!("malformed columns: {error}"))
    }
}
