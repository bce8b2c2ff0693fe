//! Requests that another worker of the group has to carry out.
//!
//! Reads are answered by every worker. Changes go to the leader, restarts to whoever runs the connector or task: at most two
//! hops, as in Kafka Connect (`forward=true` from the first worker to the leader, `forward=false` from there to the owner).
//! While there is no leader, or it cannot be reached, the request waits; only when that takes too long it is answered 409 with
//! `Retry-After`. A request of which it is not known whether it was carried out is sent again only where that changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::api::Api;
use super::body;
use super::cluster::Cluster;
use super::errors::{ApiError, Moment};
use super::listener::Peer;
use super::peer::{PeerAnswer, PeerError, PeerRequest};
use super::security::{ON_BEHALF_OF, identify, on_behalf_of};
use crate::herder::{HerderError, Location, Place};

/// Between tries to reach a worker that does not answer.
const AGAIN: Duration = Duration::from_millis(200);

/// See the module.
pub(super) async fn forward(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let place = place(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
    let (Some(place), Some(cluster)) = (place, &api.cluster) else { return next.run(request).await };
    let (parts, body) = request.into_parts();
    // Over mTLS the next worker would see this worker's certificate, so who it is has to be found out here.
    if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<Peer>>() {
        let asked = (&parts.method, parts.uri.path(), &parts.headers);
        if let Err(response) = identify(&api, peer, asked).await {
            return response;
        }
    }
    let body = match body::read(body, api.settings.max_body).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let mut forwarding = Forwarding { api: &api, cluster, parts: &parts, body: &body, trouble: None };
    let deadline = Instant::now() + api.settings.request_timeout;
    match tokio::time::timeout(api.settings.request_timeout, forwarding.run(&place, next, deadline)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into_response(),
        Err(_) => {
            let operation = match &forwarding.trouble {
                Some(trouble) => {
                    format!("waiting for the worker that has to do this ({place:?}); the last try: {trouble}")
                }
                None => format!("waiting for the worker that has to do this ({place:?})"),
            };
            ApiError::timeout(&operation, api.settings.request_timeout).into_response()
        }
    }
}

struct Forwarding<'a> {
    api: &'a Arc<Api>,
    cluster: &'a Cluster,
    parts: &'a Parts,
    body: &'a Bytes,
    /// Why the last try failed.
    trouble: Option<String>,
}

impl Forwarding<'_> {
    async fn run(&mut self, place: &Place, next: Next, deadline: Instant) -> Result<Response, ApiError> {
        let hop = hop(self.parts.uri.query().unwrap_or_default());
        loop {
            let location = self.api.herder.locate(place.clone()).await?;
            let Location::At(url) = location else {
                let response = next.clone().run(self.request()).await;
                if response.extensions().get::<Moment>() == Some(&Moment::Elsewhere) && hop.is_some() {
                    // It led when it was asked, and does not any more.
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                return Ok(response);
            };
            let Some(flag) = hop else {
                let message = "Cannot complete request because of a conflicting operation (e.g. worker rebalance)";
                return Err(HerderError::Rebalancing(message.to_owned()).into());
            };
            match self.send(&url, flag, deadline).await {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                    // It ends, and has not begun with this; another one is about to take its place.
                    self.trouble = Some("it is shutting down".to_owned());
                }
                Ok(answer) => {
                    if answer.status.is_success() {
                        self.catch_up(place).await;
                    }
                    return Ok(self.answer(answer));
                }
                Err(PeerError::Unknown(message)) if self.parts.method == Method::POST => {
                    return Err(ApiError::internal(format!(
                        "the worker at {url} had to do this and did not answer to the end, so that it may or may not have been done; look, and try again if it has not: {message}"
                    )));
                }
                Err(error) => {
                    tracing::debug!("a request could not be forwarded yet: {error}");
                    self.trouble = Some(error.to_string());
                }
            }
            if Instant::now() + AGAIN >= deadline {
                let trouble = self.trouble.take().unwrap_or_default();
                return Err(HerderError::Rebalancing(format!(
                    "the worker at {url} has to do this and cannot be reached: {trouble}"
                ))
                .into());
            }
            // It has ended, most likely, and the group will find another one.
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Whoever asked this worker for a change, asks it next what there is now.
    async fn catch_up(&self, place: &Place) {
        if *place == Place::Leader {
            let catch_up = self.cluster.catch_up.clone();
            let _ = tokio::task::spawn_blocking(move || catch_up()).await;
            // The herder answers when it has taken over what was read.
            let _ = self.api.herder.locate(Place::Leader).await;
        }
    }

    fn request(&self) -> Request {
        Request::from_parts(self.parts.clone(), Body::from(self.body.clone()))
    }

    async fn send(&self, base: &str, flag: &str, deadline: Instant) -> Result<PeerAnswer, PeerError> {
        let query = self.parts.uri.query().unwrap_or_default();
        let mut pairs: Vec<&str> =
            query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("forward=")).collect();
        let flag = format!("forward={flag}");
        pairs.push(&flag);
        let url = format!("{}{}?{}", base.trim_end_matches('/'), self.parts.uri.path(), pairs.join("&"));
        let mut headers = HeaderMap::new();
        for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
            if let Some(value) = self.parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(value) = on_behalf_of(self.api, self.parts).and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static(ON_BEHALF_OF), value);
        }
        let request = PeerRequest { method: self.parts.method.clone(), url, headers, body: self.body.to_vec() };
        let (peers, left) = (self.cluster.peers.clone(), deadline.saturating_duration_since(Instant::now()));
        match tokio::task::spawn_blocking(move || peers.send(&request, left)).await {
            Ok(answer) => answer,
            Err(error) => Err(PeerError::Unknown(format!("the request's work ended early: {error}"))),
        }
    }

    /// The other worker's answer as this worker's.
    fn answer(&self, answer: PeerAnswer) -> Response {
        let mut response = (answer.status, answer.body).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        for name in [header::CONTENT_TYPE, header::RETRY_AFTER, header::ALLOW, header::WWW_AUTHENTICATE] {
            if let Some(value) = answer.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(location) = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) {
            headers.insert(HeaderName::from_static("location"), self.location(location));
        }
        response
    }

    /// Where something is, by the address under which this worker was asked.
    fn location(&self, location: &str) -> HeaderValue {
        let path =
            location.split_once("://").map_or(location, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
        let host = self.parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let scheme = self.parts.uri.scheme_str().unwrap_or("http");
        let whole = host.map_or_else(|| path.to_owned(), |host| format!("{scheme}://{host}{path}"));
        HeaderValue::try_from(whole).unwrap_or_else(|_| HeaderValue::from_static("/"))
    }
}

/// The flag for the next hop; `None`: there may be no other.
fn hop(query: &str) -> Option<&'static str> {
    let given = query.split('&').find_map(|pair| pair.strip_prefix("forward="));
    match given {
        None => Some("true"),
        Some(flag) if flag.eq_ignore_ascii_case("true") => Some("false"),
        Some(_) => None,
    }
}

/// Who has to carry out a request; `None`: whoever gets it.
fn place(method: &Method, path: &str, query: &str) -> Option<Place> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let flag = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    };
    match (method.as_str(), &parts[..]) {
        ("POST", ["connectors"]) | ("DELETE", ["connectors", _]) => Some(Place::Leader),
        ("PUT" | "PATCH", ["connectors", _, "config"]) => Some(Place::Leader),
        ("PUT", ["connectors", _, "pause" | "resume" | "stop"]) => Some(Place::Leader),
        ("PATCH" | "DELETE", ["connectors", _, "offsets"]) => Some(Place::Leader),
        ("POST", ["connectors", name, "restart"]) => Some(if flag("includeTasks") || flag("onlyFailed") {
            Place::Leader
        } else {
            Place::Connector(decoded(name))
        }),
        ("POST", ["connectors", name, "tasks", task, "restart"]) => {
            task.parse().ok().map(|task| Place::Task(decoded(name), task))
        }
        ("PUT", ["admin", "loggers", _]) => {
            let cluster = query.split('&').any(|pair| pair.eq_ignore_ascii_case("scope=cluster"));
            cluster.then_some(Place::Leader)
        }
        _ => None,
    }
}

/// A segment of a path without its percent-encoding.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'%').then(|| tail.get(..2)).flatten();
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_go_to_the_leader_restarts_to_the_owner_and_reads_nowhere() {
        let place = |method: &str, path, query| place(&Method::from_bytes(method.as_bytes()).unwrap(), path, query);
        for (method, path) in [
            ("POST", "/connectors"),
            ("POST", "/connectors/"),
            ("DELETE", "/connectors/a"),
            ("PUT", "/connectors/a/config"),
            ("PATCH", "/connectors/a/config"),
            ("PUT", "/connectors/a/pause"),
            ("PUT", "/connectors/a/resume"),
            ("PUT", "/connectors/a/stop/"),
            ("PATCH", "/connectors/a/offsets"),
            ("DELETE", "/connectors/a/offsets"),
        ] {
            assert_eq!(place(method, path, ""), Some(Place::Leader), "{method} {path}");
        }
        for (method, path) in [
            ("GET", "/connectors"),
            ("GET", "/connectors/a/status"),
            ("GET", "/connectors/a/offsets"),
            ("POST", "/connectors/a/tasks"),
            ("PUT", "/connectors/a/topics/reset"),
            ("PUT", "/admin/loggers/root"),
            ("PUT", "/connector-plugins/x/config/validate"),
        ] {
            assert_eq!(place(method, path, ""), None, "{method} {path}");
        }
        let restart = "/connectors/a%2Fb/restart";
        assert_eq!(place("POST", restart, ""), Some(Place::Connector("a/b".to_owned())));
        assert_eq!(place("POST", restart, "includeTasks=false&onlyFailed=TRUE"), Some(Place::Leader));
        let task = Place::Task("a".to_owned(), 3);
        assert_eq!(place("POST", "/connectors/a/tasks/3/restart", ""), Some(task));
        assert_eq!(place("PUT", "/admin/loggers/root", "scope=CLUSTER"), Some(Place::Leader));
    }

    #[test]
    fn there_are_two_hops() {
        assert_eq!(hop(""), Some("true"));
        assert_eq!(hop("a=b&forward=true"), Some("false"));
        assert_eq!(hop("forward=false"), None);
    }
}
