//! What goes wrong between here and the server.

use tributary_sdk::Error;

/// Why a call to the server failed. No message contains a password: the server is sent none in the clear without TLS, and repeats none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PgError {
    /// The connection broke or could not be made.
    #[error("the server cannot be reached: {0}")]
    Away(String),
    /// The server refused.
    #[error("{message} (SQLSTATE {code}){}", detail_of(.detail))]
    Server {
        /// Five characters.
        code: String,
        /// The server's words.
        message: String,
        /// The server's second sentence, which may show a row's values.
        detail: String,
    },
    /// The server said what nobody expects, or TLS or logging in cannot be done as configured.
    #[error("{0}")]
    Refused(String),
}

fn detail_of(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

pub(crate) type PgResult<T> = Result<T, PgError>;

impl PgError {
    /// Whether another attempt may succeed without anybody changing something.
    pub fn passes(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Refused(_) => false,
            // Connections, resources, shutting down and starting up, objects that are in use (a slot by the task before), deadlocks.
            Self::Server { code, .. } => {
                ["08", "53", "57P"].iter().any(|class| code.starts_with(class))
                    || ["55006", "40001", "40P01", "55P03"].contains(&code.as_str())
            }
        }
    }

    /// Whether the server refuses what the statement says, and so will the next time: syntax, names, rights, values that an expression cannot
    /// have.
    pub fn is_of_statement(&self) -> bool {
        ["42", "22", "0A"].iter().any(|class| self.code().starts_with(class))
    }

    /// The SQLSTATE, if the server gave one.
    pub fn code(&self) -> &str {
        match self {
            Self::Server { code, .. } => code,
            _ => "",
        }
    }

    /// For the worker, with what was tried.
    pub fn into_error(self, what: &str) -> Error {
        let message = format!("{what}: {self}");
        if self.passes() { Error::Retriable(message) } else { Error::Failed(message) }
    }
}

impl From<std::io::Error> for PgError {
    fn from(error: std::io::Error) -> Self {
        Self::Away(error.to_string())
    }
}
