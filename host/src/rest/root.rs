//! `/` and `/health`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::api::Api;
use super::cluster::Health;
use super::errors::{ApiError, json};
use super::params::QueryParams;
use super::security::{Identity, Role, forbidden};
use super::shapes::{ServerInfo, WorkerStatus};
use crate::worker::State as TaskState;

/// Tools ask the version of Kafka Connect to know what the API can do; the worker's own follows as a pre-release part.
const VERSION: &str = concat!("4.3.1-tributary.", env!("CARGO_PKG_VERSION"));

pub(super) async fn info(State(api): State<Arc<Api>>) -> Response {
    let commit = option_env!("TRIBUTARY_COMMIT").unwrap_or("unknown");
    json(StatusCode::OK, &ServerInfo { version: VERSION, commit, kafka_cluster_id: api.cluster_id.get().cloned() })
}

/// The worker's health; with `connector=` that of a connector, which Kafka Connect does not tell.
pub(super) async fn health(
    State(api): State<Arc<Api>>,
    Extension(identity): Extension<Identity>,
    query: QueryParams,
) -> Result<Response, ApiError> {
    let Some(names) = query.all("connector") else {
        if let Some(trouble) = api.cluster.as_ref().and_then(|cluster| (cluster.health)()) {
            let (status, code) = match trouble {
                Health::Starting(_) => ("starting", StatusCode::SERVICE_UNAVAILABLE),
                Health::Unhealthy(_) => ("unhealthy", StatusCode::INTERNAL_SERVER_ERROR),
            };
            let (Health::Starting(message) | Health::Unhealthy(message)) = trouble;
            return Ok(json(code, &WorkerStatus { status, message }));
        }
        // The answer itself proves it: it is this thread that would be stuck.
        let message = "Worker has completed startup and is ready to handle requests.".to_owned();
        return Ok(json(StatusCode::OK, &WorkerStatus { status: "healthy", message }));
    };
    let mut failed = Vec::new();
    for name in names {
        if !identity.may(Role::View, Some(name)) {
            return Err(forbidden(Role::View, Some(name)));
        }
        let connector = api.connector(name)?;
        if connector.instance.state == TaskState::Failed {
            failed.push(format!("connector {name}"));
        }
        let tasks = connector.tasks.iter().filter(|task| task.instance.state == TaskState::Failed);
        failed.extend(tasks.map(|task| format!("task {name}-{}", task.id)));
    }
    Ok(if failed.is_empty() {
        let message = "No failed connector or task.".to_owned();
        json(StatusCode::OK, &WorkerStatus { status: "healthy", message })
    } else {
        let message = format!("Failed: {}.", failed.join(", "));
        json(StatusCode::INTERNAL_SERVER_ERROR, &WorkerStatus { status: "unhealthy", message })
    })
}
