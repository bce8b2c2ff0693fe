//! `/connector-plugins`: classes, their keys, and validation.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::Api;
use super::body::{Body, ConfigMap};
use super::errors::{ApiError, json};
use super::params::{Name, QueryParams};
use crate::herder::{PluginClass, PluginKind};
use crate::plugin::compare_versions;

/// A class that can be named in configs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PluginInfo<'a> {
    /// Its full name.
    class: &'a str,
    /// Its kind.
    #[serde(rename = "type")]
    kind: PluginKind,
    /// Its version.
    version: &'a str,
}

pub(super) async fn list(State(api): State<Arc<Api>>, query: QueryParams) -> Response {
    let connectors_only = query.flag("connectorsOnly", true);
    let mut classes: Vec<&PluginClass> =
        api.plugins.classes().iter().filter(|plugin| plugin.is_connector() || !connectors_only).collect();
    classes.sort_by(|a, b| {
        (a.kind, &a.class).cmp(&(b.kind, &b.class)).then_with(|| compare_versions(&a.version, &b.version))
    });
    let info = |plugin: &PluginClass| json_of(plugin);
    json(StatusCode::OK, &classes.into_iter().map(info).collect::<Vec<_>>())
}

fn json_of(plugin: &PluginClass) -> serde_json::Value {
    let info = PluginInfo { class: &plugin.class, kind: plugin.kind, version: &plugin.version };
    serde_json::to_value(info).expect("the API's shapes are valid JSON")
}

pub(super) async fn config(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    query: QueryParams,
) -> Result<Response, ApiError> {
    let keys = api.validator.keys(&name, query.get("version").unwrap_or("latest"))?;
    Ok(json(StatusCode::OK, &keys))
}

pub(super) async fn validate(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    Body(config): Body<ConfigMap>,
) -> Result<Response, ApiError> {
    let (config, nulls) = config.into_parts();
    if let Some(class) = config.get("connector.class")
        && !without_suffix(class).ends_with(without_suffix(&name))
    {
        return Err(ApiError::bad_request(format!(
            "Included connector type {class} does not match request type {name}"
        )));
    }
    let validator = api.validator.clone();
    let operation = || format!("validating the configuration of a {name}");
    let infos =
        api.blocking(operation, move || validator.validate_with_nulls(&config, &nulls).map_err(ApiError::from)).await?;
    Ok(json(StatusCode::OK, &infos))
}

fn without_suffix(class: &str) -> &str {
    class.strip_suffix("Connector").filter(|rest| !rest.is_empty()).unwrap_or(class)
}
