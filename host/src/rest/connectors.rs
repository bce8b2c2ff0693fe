//! `/connectors`: what there is, creating, changing, deleting.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tributary_sdk::Config;

use super::api::Api;
use super::body::{Body, ConfigMap};
use super::errors::{ApiError, json};
use super::params::{Name, QueryParams, TaskPath};
use super::security::{Identity, Role, forbidden};
use super::shapes::{
    ConnectorInfo, ConnectorStateInfo, ConnectorTaskId, CreateConnectorRequest, InstanceState, Progress, TaskInfo,
    TaskState,
};
use crate::config::initial_state;
use crate::herder::{ConnectorView, Created, HerderError, TASK_CLASS, TaskView, task_class};
use crate::worker::TaskId;

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(identity): Extension<Identity>,
    query: QueryParams,
) -> Response {
    let mut connectors = api.herder.view().connectors();
    connectors.retain(|connector| identity.may(Role::View, Some(&connector.name)));
    let Some(expand) = query.all("expand") else {
        let names: Vec<&str> = connectors.iter().map(|connector| connector.name.as_str()).collect();
        return json(StatusCode::OK, &names);
    };
    let expanded = |connector: &Arc<ConnectorView>| {
        let mut parts = BTreeMap::new();
        for part in expand {
            let value = match part.as_str() {
                "status" => serde_json::to_value(status_of(&api, connector)),
                "info" => serde_json::to_value(ConnectorInfo::from(&**connector)),
                _ => continue,
            };
            parts.insert(part.clone(), value.expect("the API's shapes are valid JSON"));
        }
        (connector.name.clone(), parts)
    };
    let answer: BTreeMap<String, BTreeMap<String, Value>> = connectors.iter().map(expanded).collect();
    json(StatusCode::OK, &answer)
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    Body(request): Body<CreateConnectorRequest>,
) -> Result<Response, ApiError> {
    let name = request.name.as_deref().unwrap_or_default().trim().to_owned();
    if !identity.may(Role::Edit, Some(&name)) {
        return Err(forbidden(Role::Edit, Some(&name)));
    }
    let config = request.config.ok_or_else(|| ApiError::bad_request("the request has no \"config\""))?;
    let initial_state =
        request.initial_state.as_deref().map(initial_state).transpose().map_err(ApiError::bad_request)?;
    let (config, nulls) = config.into_parts();
    let config = named(&name, config)?;
    validate(&api, &config, nulls).await?;
    let operation = || format!("creating connector {name}");
    let created = api.within(operation, api.herder.create(&name, config, initial_state)).await?;
    Ok(created_answer(created, &headers))
}

pub(super) async fn get(State(api): State<Arc<Api>>, Name(name): Name) -> Result<Response, ApiError> {
    Ok(json(StatusCode::OK, &ConnectorInfo::from(&*api.connector(&name)?)))
}

pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    query: QueryParams,
) -> Result<StatusCode, ApiError> {
    let purged = if query.flag("purgeState", false) { Some(api.connector(&name)?) } else { None };
    api.within(|| format!("stopping connector {name} to delete it"), api.herder.delete(&name)).await?;
    if let Some(connector) = purged {
        let offsets = api.offsets.clone();
        let operation = || format!("purging the state of connector {name}, which is deleted");
        api.blocking(operation, move || offsets.purge_state(&connector)).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn get_config(State(api): State<Arc<Api>>, Name(name): Name) -> Result<Response, ApiError> {
    Ok(json(StatusCode::OK, &api.connector(&name)?.config.0))
}

pub(super) async fn put_config(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    headers: HeaderMap,
    Body(config): Body<ConfigMap>,
) -> Result<Response, ApiError> {
    let (config, nulls) = config.into_parts();
    let config = named(&name, config)?;
    validate(&api, &config, nulls).await?;
    let created = api.within(|| format!("changing connector {name}"), api.herder.put(&name, config, None)).await?;
    Ok(created_answer(created, &headers))
}

pub(super) async fn patch_config(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    patch: Result<Body<ConfigMap>, ApiError>,
) -> Result<Response, ApiError> {
    // As in Connect, what does not exist comes before what is wrong with the patch.
    api.connector(&name)?;
    let Body(patch) = patch?;
    loop {
        let base = api.connector(&name)?.config.clone();
        let mut config = Config::clone(&base);
        for (key, value) in &patch.0 {
            match value {
                Some(value) => config.set(key.clone(), value.clone()),
                None => drop(config.0.remove(key)),
            }
        }
        let config = if patch.removes("name") { config } else { named(&name, config)? };
        validate(&api, &config, Vec::new()).await?;
        let work = async { Ok::<_, ApiError>(api.herder.put(&name, config, Some(Config::clone(&base))).await) };
        match api.within(|| format!("changing connector {name}"), work).await? {
            Ok(created) => return Ok(json(StatusCode::OK, &ConnectorInfo::from(&created.connector))),
            // Somebody else changed the config between reading and writing: the patch applies to theirs.
            Err(HerderError::Conflict(_)) if *api.connector(&name)?.config != *base => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) async fn status(State(api): State<Arc<Api>>, Name(name): Name) -> Result<Response, ApiError> {
    let connector = api
        .herder
        .view()
        .connector(&name)
        .ok_or_else(|| ApiError::not_found(format!("No status found for connector {name}")))?;
    Ok(json(StatusCode::OK, &status_of(&api, &connector)))
}

pub(super) async fn tasks(State(api): State<Arc<Api>>, Name(name): Name) -> Result<Response, ApiError> {
    let connector = api.connector(&name)?;
    let class = class_of_tasks(&api, &connector);
    let info = |task: &TaskView| {
        let mut config = Config::clone(&task.config);
        if let Some(class) = &class {
            config.0.entry(TASK_CLASS.to_owned()).or_insert_with(|| class.clone());
        }
        TaskInfo { id: ConnectorTaskId { connector: name.clone(), task: task.id }, config: Arc::new(config) }
    };
    Ok(json(StatusCode::OK, &connector.tasks.iter().map(info).collect::<Vec<_>>()))
}

fn class_of_tasks(api: &Api, connector: &ConnectorView) -> Option<String> {
    let class = &api.plugins.connector(connector.config.get("connector.class")?.trim())?.class;
    Some(task_class(class))
}

pub(super) async fn task_status(
    State(api): State<Arc<Api>>,
    TaskPath(name, task): TaskPath,
) -> Result<Response, ApiError> {
    let connector = api.herder.view().connector(&name);
    let found = connector.as_deref().and_then(|connector| Some((connector, connector.tasks.get(task as usize)?)));
    let (connector, task) =
        found.ok_or_else(|| ApiError::not_found(format!("No status found for task {name}-{task}")))?;
    Ok(json(StatusCode::OK, &task_state(&api, connector, task)))
}

/// The states of a connector, with the progress of its tasks.
pub(super) fn status_of<'a>(api: &'a Api, connector: &'a ConnectorView) -> ConnectorStateInfo<'a> {
    ConnectorStateInfo {
        name: &connector.name,
        connector: InstanceState::new(&connector.instance, connector.version.as_deref(), &api.settings.worker_id),
        tasks: connector.tasks.iter().map(|task| task_state(api, connector, task)).collect(),
        kind: connector.kind.into(),
    }
}

fn task_state<'a>(api: &'a Api, connector: &'a ConnectorView, task: &'a TaskView) -> TaskState<'a> {
    let id = TaskId { connector: connector.name.clone(), task: task.id };
    TaskState {
        id: task.id,
        instance: InstanceState::new(&task.instance, connector.version.as_deref(), &api.settings.worker_id),
        progress: api.runner.progress(&id).map(|progress| Progress::new(&progress, task.records_per_second)),
    }
}

/// The config with the connector's name in it; a different name in it is an error.
fn named(name: &str, mut config: Config) -> Result<Config, ApiError> {
    match config.get("name") {
        Some(other) if other != name => Err(ApiError::bad_request(format!(
            "Connector name configuration ({other}) doesn't match connector name in the URL ({name})"
        ))),
        Some(_) => Ok(config),
        None => {
            config.set("name", name);
            Ok(config)
        }
    }
}

/// Connect's 400 if the config has errors; what is odd about it is logged.
async fn validate(api: &Arc<Api>, config: &Config, nulls: Vec<String>) -> Result<(), ApiError> {
    let (validator, config) = (api.validator.clone(), config.clone());
    let name = config.get("name").unwrap_or_default().to_owned();
    let operation = || "validating the connector's configuration".to_owned();
    let check = move || validator.validate_with_nulls(&config, &nulls).map_err(ApiError::from);
    let result = api.blocking(operation, check).await?;
    for warning in &result.warnings {
        tracing::warn!("connector {name}: {}", warning.message);
    }
    match result.summary() {
        None => Ok(()),
        Some(message) => Err(ApiError::bad_request(message)),
    }
}

fn created_answer(created: Created, headers: &HeaderMap) -> Response {
    let info = ConnectorInfo::from(&created.connector);
    if !created.created {
        return json(StatusCode::OK, &info);
    }
    let path = format!("/connectors/{}", percent_encoded(&info.name));
    let location = match headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        Some(host) => format!("http://{host}{path}"),
        None => path,
    };
    let mut response = json(StatusCode::CREATED, &info).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A name as one segment of a path.
pub(super) fn percent_encoded(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        // What RFC 3986 lets stand in a segment; so does Connect.
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
