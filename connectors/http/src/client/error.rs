//! Why there is no answer.

use tributary_sdk::Error;

/// A call that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallError {
    /// What was tried and what happened, without secrets.
    pub message: String,
    /// The same call may succeed later, without anybody changing the config.
    pub passing: bool,
}

impl CallError {
    /// Away, slow, broken: try again.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), passing: true }
    }

    /// No retry helps.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), passing: false }
    }

    /// The same as a connector's error.
    pub fn into_error(self) -> Error {
        if self.passing { Error::retriable(self.message) } else { Error::failed(self.message) }
    }
}
