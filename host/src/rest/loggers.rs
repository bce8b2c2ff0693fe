//! `/admin/loggers`: log levels while the worker runs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::api::Api;
use super::body::{Body, ConfigMap};
use super::errors::{ApiError, json};
use super::params::{Name, QueryParams};

pub(super) async fn list(State(api): State<Arc<Api>>) -> Response {
    json(StatusCode::OK, &api.loggers.all())
}

pub(super) async fn get(State(api): State<Arc<Api>>, Name(name): Name) -> Result<Response, ApiError> {
    match api.loggers.level(&name) {
        Some(level) => Ok(json(StatusCode::OK, &level)),
        None => Err(ApiError::not_found(format!("Logger {name} not found."))),
    }
}

/// In standalone mode this worker is the whole cluster, and the scopes differ only in their answers. In a group, a level of
/// the whole cluster goes through the config topic, from which this worker takes it, too.
pub(super) async fn set(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    query: QueryParams,
    Body(body): Body<ConfigMap>,
) -> Result<Response, ApiError> {
    let level = body.get("level");
    let level =
        level.ok_or_else(|| ApiError::bad_request("Desired 'level' parameter was not specified in request."))?;
    let changed = api.loggers.set(&name, level);
    let changed = changed.ok_or_else(|| ApiError::not_found(format!("invalid log level '{level}'.")))?;
    if query.get("scope").is_some_and(|scope| scope.eq_ignore_ascii_case("cluster")) {
        let operation = || format!("setting the level of {name} in all workers");
        api.within(operation, api.herder.set_cluster_level(&name, level)).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(json(StatusCode::OK, &changed))
}
