//! The REST API: Kafka Connect's, request by request.
//!
//! Reads answer from the herder's snapshot and wait for nobody; commands wait for what Connect's wait for, within a
//! deadline whose message names the operation. Every error is `{"error_code", "message"}`. What Connect does plainly worse
//! (500 for malformed JSON) is done better, and listed in docs/compatibility.md. The routes and the OpenAPI document are one
//! table ([`routes`]), so that neither knows more than the other.

mod api;
mod body;
mod connectors;
mod control;
mod endpoint;
mod errors;
mod loggers;
mod offsets;
mod openapi;
mod params;
mod plugins;
mod root;
mod routes;
mod server;
mod shapes;

pub use api::{Api, ApiSettings};
pub use routes::router;
pub use server::{RestServer, ServerError};
