//! The routes: every operation of the API with its description.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

use super::answer_headers::AnswerHeaders;
use super::api::Api;
use super::endpoint::{Endpoint, inline, list_of, shape};
use super::errors::ApiError;
use super::listener::Peer;
use super::negotiation::negotiate;
use super::security::{Guard, Role, guard};
use super::shapes::{
    ConnectorInfo, ConnectorStateInfo, CreateConnectorRequest, ServerInfo, TaskInfo, TaskState, WorkerStatus,
};
use super::{connectors, control, forward, internal, loggers, metrics, offsets, openapi, plugins, root};
use crate::config::validation::{ConfigInfos, ConfigKeyInfo};
use crate::telemetry::LoggerLevel;

type StringMap = BTreeMap<String, String>;

/// Every operation.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = worker();
    endpoints.extend(configs());
    endpoints.extend(states());
    endpoints.extend(positions());
    endpoints.extend(plugin_classes());
    endpoints.extend(administration());
    endpoints
}

fn worker() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/", "The worker's version and its log's cluster", root::info).ok(
            200,
            "Version, commit and cluster id",
            shape::<ServerInfo>(),
        ),
        Endpoint::get("/health", "Whether the worker, or a connector with its tasks, is well", root::health)
            .queries("connector", "Ask for these connectors and their tasks instead of the worker alone")
            .guarded(Guard::OpenWithoutQuery)
            .ok(200, "healthy", shape::<WorkerStatus>())
            .error(404, "No such connector")
            .ok(500, "unhealthy: something has failed", shape::<WorkerStatus>()),
        Endpoint::get("/metrics", "What this worker runs, for Prometheus", metrics::metrics)
            .empty(200, "Samples in Prometheus' text format"),
        Endpoint::get("/openapi.json", "This document", openapi::document).ok(
            200,
            "The API as an OpenAPI document",
            inline::<serde_json::Value>(),
        ),
    ]
}

fn configs() -> Vec<Endpoint> {
    let invalid = "Invalid config; the message lists every error";
    vec![
        Endpoint::get("/connectors", "Names of all connectors, or their statuses and configs", connectors::list)
            .queries("expand", "status, info, or both: a map by name instead of a list")
            .ok(200, "The names; with expand, a map", inline::<Vec<String>>()),
        Endpoint::post("/connectors", "Create a connector", connectors::create)
            .body(shape::<CreateConnectorRequest>())
            .ok(201, "Created; Location names it", shape::<ConnectorInfo>())
            .error(400, invalid)
            .error(409, "The name is taken"),
        Endpoint::get("/connectors/{connector}", "A connector with its config and tasks", connectors::get)
            .ok(200, "The connector", shape::<ConnectorInfo>())
            .error(404, "No such connector"),
        Endpoint::delete(
            "/connectors/{connector}",
            "Stop a connector and forget it, except its offsets",
            connectors::delete,
        )
        .query("purgeState", "boolean", "Forget the state of its transforms, too. Not in Kafka Connect")
        .empty(204, "Stopped and forgotten")
        .error(404, "No such connector"),
        Endpoint::get("/connectors/{connector}/config", "A connector's config", connectors::get_config)
            .ok(200, "The config, references unresolved", inline::<StringMap>())
            .error(404, "No such connector"),
        Endpoint::put(
            "/connectors/{connector}/config",
            "Create a connector or replace its config",
            connectors::put_config,
        )
        .body(inline::<StringMap>())
        .ok(200, "Replaced", shape::<ConnectorInfo>())
        .ok(201, "Created; Location names it", shape::<ConnectorInfo>())
        .error(400, invalid),
        Endpoint::patch(
            "/connectors/{connector}/config",
            "Change some keys of a config; null removes a key",
            connectors::patch_config,
        )
        .body(inline::<BTreeMap<String, Option<String>>>())
        .ok(200, "Changed", shape::<ConnectorInfo>())
        .error(400, invalid)
        .error(404, "No such connector"),
    ]
}

fn states() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            "/connectors/{connector}/status",
            "States and progress of a connector and its tasks",
            connectors::status,
        )
        .ok(200, "The states", shape::<ConnectorStateInfo<'_>>())
        .error(404, "No such connector"),
        Endpoint::get("/connectors/{connector}/tasks", "A connector's tasks with their configs", connectors::tasks)
            .ok(200, "The tasks", list_of::<TaskInfo>())
            .error(404, "No such connector"),
        Endpoint::put(
            "/connectors/{connector}/fence",
            "Fencing of an exactly-once source's former tasks, which one worker of a group asks of another",
            internal::fence_tasks,
        )
        .guarded(Guard::Signed)
        .empty(204, "They write nothing more")
        .error(400, "Not signed, or no source")
        .error(403, "Wrongly signed")
        .error(404, "No such connector")
        .error(409, "This worker does not lead the group, or the connector's tasks have just changed")
        .error(503, "There is no key yet"),
        Endpoint::post(
            "/connectors/{connector}/tasks",
            "Task configs, from one worker of a group to another",
            internal::put_tasks,
        )
        .guarded(Guard::Signed)
        .body(inline::<Vec<StringMap>>())
        .empty(204, "Stored")
        .error(400, "Not signed")
        .error(403, "Wrongly signed")
        .error(404, "No such connector")
        .error(409, "This worker does not lead the group")
        .error(503, "There is no key yet"),
        Endpoint::get(
            "/connectors/{connector}/tasks/{task}/status",
            "State and progress of a task",
            connectors::task_status,
        )
        .ok(200, "The state", shape::<TaskState<'_>>())
        .error(404, "No such task"),
        Endpoint::post("/connectors/{connector}/tasks/{task}/restart", "Restart a task", control::restart_task)
            .role(Role::Operate)
            .empty(204, "The restart has begun")
            .error(404, "No such task"),
        Endpoint::put("/connectors/{connector}/pause", "Pause a connector and its tasks", control::pause)
            .role(Role::Operate)
            .empty(202, "Stored; the states follow")
            .error(404, "No such connector"),
        Endpoint::put("/connectors/{connector}/resume", "Resume a paused or stopped connector", control::resume)
            .role(Role::Operate)
            .empty(202, "Stored; the states follow")
            .error(404, "No such connector"),
        Endpoint::put(
            "/connectors/{connector}/stop",
            "Stop a connector and its tasks, and keep its config",
            control::stop,
        )
        .role(Role::Operate)
        .empty(204, "Stopped")
        .error(404, "No such connector"),
        Endpoint::post("/connectors/{connector}/restart", "Restart a connector, and tasks as asked", control::restart)
            .role(Role::Operate)
            .query("includeTasks", "boolean", "Restart the tasks, too")
            .query("onlyFailed", "boolean", "Restart only what has failed")
            .ok(202, "The restart has begun", shape::<ConnectorStateInfo<'_>>())
            .empty(204, "The restart of the connector alone has begun")
            .error(404, "No such connector"),
        Endpoint::get("/connectors/{connector}/topics", "Topics that a connector has used", control::topics)
            .ok(200, "By connector, its topics", inline::<BTreeMap<String, BTreeMap<String, Vec<String>>>>())
            .error(403, "Tracking is off"),
        Endpoint::put(
            "/connectors/{connector}/topics/reset",
            "Forget the topics that a connector has used",
            control::reset_topics,
        )
        .empty(202, "Forgotten")
        .error(403, "Tracking or resetting is off"),
    ]
}

fn positions() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/connectors/{connector}/offsets", "How far a connector is, by partition", offsets::list)
            .ok(200, "The stored offsets", shape::<offsets::ConnectorOffsets>())
            .error(404, "No such connector"),
        Endpoint::patch(
            "/connectors/{connector}/offsets",
            "Change offsets of a stopped connector; a null offset forgets that partition's",
            offsets::alter,
        )
        .body(shape::<offsets::ConnectorOffsets>())
        .ok(200, "Changed", shape::<offsets::Message>())
        .error(400, "The connector is not stopped, the offsets are none, or the connector refused them")
        .error(404, "No such connector"),
        Endpoint::delete(
            "/connectors/{connector}/offsets",
            "Forget all offsets of a stopped connector",
            offsets::reset,
        )
        .ok(200, "Forgotten", shape::<offsets::Message>())
        .error(400, "The connector is not stopped, or refused")
        .error(404, "No such connector"),
    ]
}

fn plugin_classes() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/connector-plugins", "Classes that configs can name", plugins::list)
            .query("connectorsOnly", "boolean", "Only sources and sinks; true by default")
            .ok(200, "The classes", list_of::<plugins::PluginInfo<'_>>()),
        Endpoint::get("/connector-plugins/{plugin}/config", "A class's keys", plugins::config)
            .query(
                "version",
                "string",
                "Of these versions (a version, or a range as Maven writes them) the newest; latest by default",
            )
            .ok(200, "The keys", list_of::<ConfigKeyInfo>())
            .error(400, "No such version")
            .error(404, "No such class"),
        Endpoint::put(
            "/connector-plugins/{plugin}/config/validate",
            "Check a connector's config without creating it",
            plugins::validate,
        )
        .role(Role::View)
        .body(inline::<StringMap>())
        .ok(200, "Every key with its value and errors", shape::<ConfigInfos>())
        .error(400, "The config is of another class, or of none"),
    ]
}

fn administration() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/admin/loggers", "Loggers that have a level of their own", loggers::list).ok(
            200,
            "Levels by logger",
            inline::<BTreeMap<String, LoggerLevel>>(),
        ),
        Endpoint::get("/admin/loggers/{logger}", "A logger's level", loggers::get)
            .ok(200, "The level", shape::<LoggerLevel>())
            .error(404, "No such logger"),
        Endpoint::put("/admin/loggers/{logger}", "Set the level of a logger and all below it", loggers::set)
            .role(Role::Admin)
            .query("scope", "string", "worker (the default) or cluster")
            .body(inline::<StringMap>())
            .ok(200, "The loggers that changed", inline::<Vec<String>>())
            .empty(204, "Changed, with scope=cluster")
            .error(400, "No level")
            .error(404, "No such level"),
    ]
}

/// Which part of the API a listener shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    /// All of it.
    Whole,
    /// What `admin.listeners` do not take away.
    WithoutAdmin,
    /// What those show.
    AdminOnly,
}

impl Surface {
    fn shows(self, endpoint: &Endpoint) -> bool {
        let admin = endpoint.tag == "admin";
        match self {
            Self::Whole => true,
            Self::WithoutAdmin => !admin,
            Self::AdminOnly => admin,
        }
    }
}

/// The API as a service.
pub(super) fn router(api: Arc<Api>, surface: Surface, headers: AnswerHeaders) -> Router {
    let mut routes: BTreeMap<&'static str, MethodRouter<Arc<Api>>> = BTreeMap::new();
    for endpoint in endpoints().into_iter().filter(|endpoint| surface.shows(endpoint)) {
        let route = routes.remove(endpoint.path).unwrap_or_default();
        let guarded = axum::middleware::from_fn_with_state((api.clone(), endpoint.guard), guard);
        // Who asks comes before what is asked for.
        let handler = endpoint.handler.layer(axum::middleware::from_fn(negotiate)).layer(guarded);
        routes.insert(endpoint.path, route.merge(handler));
    }
    let mut router = Router::new();
    for (path, route) in routes {
        let route = route.fallback(method_not_allowed);
        // Connect takes a trailing slash for none.
        if path != "/" {
            router = router.route(&format!("{path}/"), route.clone());
        }
        router = router.route(path, route);
    }
    let router = router.fallback(async || ApiError::plain(StatusCode::NOT_FOUND));
    let router = match &api.cluster {
        Some(_) => router.layer(axum::middleware::from_fn_with_state(api.clone(), forward::forward)),
        None => router,
    };
    let router = router.with_state(api).layer(axum::middleware::from_fn(working));
    if headers.is_empty() {
        return router;
    }
    let headers = Arc::new(headers);
    router.layer(axum::middleware::from_fn(move |request, next| {
        let headers = headers.clone();
        async move { headers.add(request, next).await }
    }))
}

/// Tells the connection that it is in use.
async fn working(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let _working = peer.map(|ConnectInfo(peer)| peer.activity.begin());
    next.run(request).await
}

/// Another method of a path that exists; `OPTIONS` asks which there are.
async fn method_not_allowed(method: Method, uri: axum::http::Uri) -> Response {
    if method != Method::OPTIONS {
        return ApiError::plain(StatusCode::METHOD_NOT_ALLOWED).into_response();
    }
    let matches = |pattern: &str| {
        let (path, pattern) = (uri.path().trim_matches('/').split('/'), pattern.trim_matches('/').split('/'));
        path.clone().count() == pattern.clone().count()
            && pattern.zip(path).all(|(pattern, part)| pattern.starts_with('{') || pattern == part)
    };
    let mut methods: Vec<&'static str> = vec!["OPTIONS"];
    for endpoint in endpoints().iter().filter(|endpoint| matches(endpoint.path)) {
        methods.push(match endpoint.method {
            Method::GET => "GET, HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            _ => "DELETE",
        });
    }
    let allow = methods.join(", ");
    let value = HeaderValue::try_from(&allow).unwrap_or(HeaderValue::from_static("OPTIONS"));
    let kind = HeaderValue::from_static("text/plain");
    ([(header::ALLOW, value), (header::CONTENT_TYPE, kind)], allow).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_names_every_route_and_no_other() {
        let guide = include_str!("../../../docs/guide/rest.md");
        let table = guide.split("## All routes").nth(1).expect("a table of routes");
        let mut named: Vec<String> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(route, _)| route.to_owned()))
            .collect();
        let short = [("{connector}", "{c}"), ("{task}", "{n}"), ("{plugin}", "{p}"), ("{logger}", "{l}")];
        let mut known: Vec<String> = endpoints()
            .iter()
            .map(|endpoint| {
                let path = short.iter().fold(endpoint.path.to_owned(), |path, (long, short)| path.replace(long, short));
                format!("{} {path}", endpoint.method)
            })
            .collect();
        named.sort();
        known.sort();
        assert_eq!(named, known);
    }
}
