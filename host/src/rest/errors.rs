//! Error answers.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::shapes::ErrorMessage;
use crate::herder::HerderError;
use crate::storage::StorageError;

/// An error answer. 500s are logged when they are sent; the others are the client's affair.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    moment: Option<Moment>,
}

/// An error of the moment: the same request may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// A little later.
    Later,
    /// At once, on another worker.
    Elsewhere,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), moment: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// What Connect's HTTP library says by itself.
    pub(super) fn plain(status: StatusCode) -> Self {
        Self::new(status, format!("HTTP {} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()))
    }

    pub(super) fn timeout(operation: &str, after: Duration) -> Self {
        let seconds = after.as_secs_f64();
        Self::internal(format!(
            "Request timed out after {seconds} s. The worker is currently {operation}; that goes on, and its outcome shows in the connector's status"
        ))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(status = self.status.as_u16(), "a request failed: {}", self.message);
        }
        let body = ErrorMessage { error_code: self.status.as_u16(), message: self.message };
        let mut response = json(self.status, &body);
        if let Some(moment) = self.moment {
            response.extensions_mut().insert(moment);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE || self.moment.is_some() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("the API's shapes are valid JSON");
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

impl From<HerderError> for ApiError {
    fn from(error: HerderError) -> Self {
        let status = match &error {
            HerderError::NotFound(_) => StatusCode::NOT_FOUND,
            HerderError::AlreadyExists(_) | HerderError::Conflict(_) => StatusCode::CONFLICT,
            HerderError::Rebalancing(_) | HerderError::Elsewhere(_) => StatusCode::CONFLICT,
            HerderError::BadRequest(_) => StatusCode::BAD_REQUEST,
            HerderError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            HerderError::Storage(_) | HerderError::Internal(_) | HerderError::Ended => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let moment = match &error {
            HerderError::Rebalancing(_) => Some(Moment::Later),
            HerderError::Elsewhere(_) => Some(Moment::Elsewhere),
            _ => None,
        };
        Self { moment, ..Self::new(status, error.to_string()) }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::internal(error.message)
    }
}
