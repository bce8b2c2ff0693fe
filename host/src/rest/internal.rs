//! What workers of a group send each other.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tributary_sdk::Config;

use super::api::Api;
use super::body::{self, ConfigMap};
use super::errors::ApiError;
use super::params::Name;
use super::signature::{ALGORITHM, Refusal, SIGNATURE};

/// Asks the leader to fence former tasks of an exactly-once source.
pub(super) async fn fence_tasks(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    headers: HeaderMap,
    request: axum::body::Body,
) -> Result<StatusCode, ApiError> {
    let body = body::read(request, api.settings.max_body).await?;
    verify(&api, &headers, &body)?;
    api.within(|| format!("fencing former tasks of connector {name}"), api.herder.fence_tasks(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A connector's task configs, from the worker that runs it to the leader.
pub(super) async fn put_tasks(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    headers: HeaderMap,
    request: axum::body::Body,
) -> Result<StatusCode, ApiError> {
    // Only workers of the group get here, and a connector may have many tasks.
    let body = body::read(request, api.settings.max_body.max(64 << 20)).await?;
    verify(&api, &headers, &body)?;
    let tasks: Vec<ConfigMap> = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the task configs of {name} cannot be read: {error}")))?;
    let tasks: Vec<Config> = tasks.into_iter().map(ConfigMap::into_config).collect();
    api.within(|| format!("storing the task configs of connector {name}"), api.herder.put_tasks(&name, tasks)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether a worker of the group has signed the request.
fn verify(api: &Api, headers: &HeaderMap, body: &[u8]) -> Result<(), ApiError> {
    let Some(cluster) = &api.cluster else {
        return Err(ApiError::not_found("a standalone worker takes no requests from others"));
    };
    let key = (cluster.key)().ok_or_else(|| {
        let message =
            "This worker is still starting up and has not been able to read a session key from the config topic yet";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })?;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match cluster.signing.verify(&key, body, header(SIGNATURE), header(ALGORITHM)) {
        Ok(()) => Ok(()),
        Err(Refusal::Unsigned(message)) => Err(ApiError::bad_request(message)),
        Err(Refusal::Wrong) => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "Internal request contained invalid signature."))
        }
    }
}
