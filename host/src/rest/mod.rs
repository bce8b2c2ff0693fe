//! The REST API: Kafka Connect's, request by request.
//!
//! Reads answer from the herder's snapshot and wait for nobody; commands wait for what Connect's wait for, within a
//! deadline whose message names the operation. Every error is `{"error_code", "message"}`. What Connect does plainly worse
//! (500 for malformed JSON) is done better, and listed in docs/compatibility.md. The routes and the OpenAPI document are one
//! table ([`routes`]), so that neither knows more than the other.

mod answer_headers;
mod api;
mod body;
mod cluster;
mod connectors;
mod control;
mod endpoint;
mod errors;
mod forward;
mod idle;
mod internal;
mod listener;
mod loggers;
mod metrics;
mod negotiation;
mod offsets;
mod openapi;
mod params;
mod peer;
mod plugins;
mod root;
mod routes;
mod security;
mod server;
mod shapes;
mod signature;
mod tls;

pub use api::{Api, ApiSettings};
pub use cluster::{Cluster, Health};
pub use peer::PeerClient;
pub use security::{AuthenticationSettings, Authenticator, BearerSettings};
pub use server::{RestServer, ServerError};
pub use signature::{Signing, is_known as is_known_algorithm};
pub use tls::{acceptor as tls_acceptor, towards_peers};
