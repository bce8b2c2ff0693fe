//! A small Kafka client for what librdkafka has no calls for: membership in a group of Connect's own protocol, taking
//! members out of groups, fencing of transactional producers.
//!
//! | File | Noun |
//! |---|---|
//! | `settings` | Java's client settings as this client's |
//! | `connection` | one connection to a broker: TLS, SASL, one request at a time |
//! | `client` | which broker: bootstrap, cluster, coordinators |
//! | `security/` | TLS and SASL |
//! | `api` | the requests that are used, and their versions |
//!
//! Promises: every call ends by its time-out; versions are negotiated with each broker; a connection that failed is not used
//! again. Addresses are resolved anew at each connect.
//!
//! Fails: a [`WireError`] says which broker, what was tried and what to do; secrets are in none.

mod api;
mod client;
mod connection;
pub(crate) mod security;
mod settings;

pub use api::Api;
pub(super) use client::leave_request;
pub use client::{Cluster, CoordinatorKind, ProducerIdentity};
pub use connection::Connection;
pub use settings::WireSettings;

/// What went wrong between this client and a broker.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// The sort of it.
    pub kind: WireErrorKind,
    /// Lower-case; names the broker and what to do.
    pub message: String,
}

/// Sorts of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireErrorKind {
    /// The broker cannot be reached, or broke off: trying again may help.
    Away,
    /// No answer in time.
    TimedOut,
    /// A setting is wrong.
    Setting,
    /// TLS or SASL: the two do not accept each other.
    Refused,
    /// The broker does not speak as expected.
    Protocol,
    /// The broker answered with an error code.
    Code(kafka_protocol::ResponseError),
}

impl WireError {
    pub(super) fn new(kind: WireErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn away(message: impl Into<String>) -> Self {
        Self::new(WireErrorKind::Away, message)
    }

    /// Whether the same call may succeed by itself later.
    pub fn retriable(&self) -> bool {
        match self.kind {
            WireErrorKind::Away | WireErrorKind::TimedOut => true,
            // The abort of the fenced producer's transaction takes a moment.
            WireErrorKind::Code(kafka_protocol::ResponseError::ConcurrentTransactions) => true,
            WireErrorKind::Code(code) => code.is_retriable(),
            WireErrorKind::Setting | WireErrorKind::Refused | WireErrorKind::Protocol => false,
        }
    }
}
