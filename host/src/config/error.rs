//! What is wrong with a config.

use std::path::PathBuf;

/// What is wrong with a config, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
    /// A file that is not in its format.
    #[error("{}: line {line}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Keys that are missing, and values that are not what the key wants; one message each.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// A reference `${provider:path:key}` that leads nowhere. Never contains a resolved value.
    #[error("{0}")]
    Unresolved(String),
}
