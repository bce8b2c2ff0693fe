//! Pause, resume, stop, restart; topics in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::api::Api;
use super::connectors::status_of;
use super::errors::{self, ApiError};
use super::params::{Name, QueryParams, TaskPath};
use crate::herder::RestartRequest;

pub(super) async fn pause(State(api): State<Arc<Api>>, Name(name): Name) -> Result<StatusCode, ApiError> {
    api.within(|| format!("pausing connector {name}"), api.herder.pause(&name)).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn resume(State(api): State<Arc<Api>>, Name(name): Name) -> Result<StatusCode, ApiError> {
    api.within(|| format!("resuming connector {name}"), api.herder.resume(&name)).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn stop(State(api): State<Arc<Api>>, Name(name): Name) -> Result<StatusCode, ApiError> {
    api.within(|| format!("stopping connector {name} and its tasks"), api.herder.stop(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn restart(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    query: QueryParams,
) -> Result<Response, ApiError> {
    let request = RestartRequest {
        include_tasks: query.flag("includeTasks", false),
        only_failed: query.flag("onlyFailed", false),
    };
    let connector = api.within(|| format!("restarting connector {name}"), api.herder.restart(&name, request)).await?;
    Ok(if request.include_tasks || request.only_failed {
        errors::json(StatusCode::ACCEPTED, &status_of(&api, &connector))
    } else {
        StatusCode::NO_CONTENT.into_response()
    })
}

pub(super) async fn restart_task(
    State(api): State<Arc<Api>>,
    TaskPath(name, task): TaskPath,
) -> Result<StatusCode, ApiError> {
    api.within(|| format!("restarting task {name}-{task}"), api.herder.restart_task(&name, task)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Of a connector that does not exist the answer is an empty list, as in Kafka Connect.
pub(super) async fn topics(State(api): State<Arc<Api>>, Name(name): Name) -> Result<Response, ApiError> {
    if !api.settings.topic_tracking {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Topic tracking is disabled."));
    }
    let topics = api.herder.view().connector(&name).map(|connector| connector.topics.clone()).unwrap_or_default();
    Ok(errors::json(StatusCode::OK, &BTreeMap::from([(name, json!({ "topics": *topics }))])))
}

pub(super) async fn reset_topics(State(api): State<Arc<Api>>, Name(name): Name) -> Result<StatusCode, ApiError> {
    if !api.settings.topic_tracking {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Topic tracking is disabled."));
    }
    if !api.settings.topic_tracking_reset {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Topic tracking reset is disabled."));
    }
    api.within(|| format!("resetting the topics of connector {name}"), api.herder.reset_topics(&name)).await?;
    Ok(StatusCode::ACCEPTED)
}
