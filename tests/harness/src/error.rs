//! One error for the whole harness: a sentence for the person who reads the failed test.
//!
//! Nothing here is matched on, so there are no variants. `Debug` prints the same text as `Display`,
//! because `Debug` is what a test that returns `Err` shows.

use std::fmt;

/// What went wrong, where, and what to do about it.
pub struct Error(String);

/// The harness's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

macro_rules! from {
    ($($cause:ty),*) => {$(
        impl From<$cause> for Error {
            fn from(cause: $cause) -> Self {
                Self(cause.to_string())
            }
        }
    )*};
}
from!(
    std::io::Error,
    std::str::Utf8Error,
    std::num::ParseIntError,
    rdkafka::error::KafkaError,
    serde_json::Error,
    ureq::Error,
    String,
    &str
);

/// Says what was being done when an error came up.
pub trait Context<T> {
    /// Puts `what: ` before the message.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| Error(format!("{what}: {cause}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Error(what.to_string()))
    }
}
