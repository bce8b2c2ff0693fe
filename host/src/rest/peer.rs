//! Requests to other workers of the group. Blocking; none may be made on a tokio worker.

use std::time::Duration;

use tributary_sdk::Config;
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request, StatusCode};

use super::signature::{ALGORITHM, SIGNATURE, Signing};
use crate::herder::distributed::Peers;
use crate::storage::SessionKey;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long the leader may take to store task configs.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(30);
/// Answers are bounded, too.
const MAX_ANSWER: u64 = 256 << 20;

/// What another worker answered.
#[derive(Debug)]
pub struct PeerAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum PeerError {
    /// The request has not reached the other worker.
    NotSent(String),
    /// Whether it was carried out is not known.
    Unknown(String),
}

impl std::fmt::Display for PeerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NotSent(message) | Self::Unknown(message)) = self;
        f.write_str(message)
    }
}

/// A request to another worker.
#[derive(Debug, Clone)]
pub struct PeerRequest {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// Headers to send.
    pub headers: HeaderMap,
    /// The body; none is sent if it is empty.
    pub body: Vec<u8>,
}

/// The client of this worker's requests to others. How connections are secured is decided where the agent is made.
#[derive(Clone)]
pub struct PeerClient {
    agent: Agent,
    signing: Signing,
}

impl PeerClient {
    /// A client with this agent; see [`PeerClient::config`].
    pub fn new(agent: Agent, signing: Signing) -> Self {
        Self { agent, signing }
    }

    /// What every agent needs, before TLS is added.
    pub fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
        Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_WITHIN))
            // A worker that was restarted has closed its end of a kept connection, and not every request may be repeated.
            .max_idle_connections(0)
            .proxy(None)
    }

    /// Sends a request and waits for the answer, at most so long.
    pub fn send(&self, request: &PeerRequest, timeout: Duration) -> Result<PeerAnswer, PeerError> {
        let mut built = Request::builder().method(request.method.clone()).uri(&request.url);
        for (name, value) in &request.headers {
            built = built.header(name, value);
        }
        let failed = |error: ureq::Error| {
            let message = format!("{}: {error}", request.url);
            if never_sent(&error) { PeerError::NotSent(message) } else { PeerError::Unknown(message) }
        };
        let invalid = |error: ureq::http::Error| PeerError::NotSent(format!("{}: {error}", request.url));
        let answer = if request.body.is_empty() {
            let built = built.body(()).map_err(invalid)?;
            self.agent.run(self.agent.configure_request(built).timeout_global(Some(timeout)).build())
        } else {
            let built = built.body(&request.body[..]).map_err(invalid)?;
            self.agent.run(self.agent.configure_request(built).timeout_global(Some(timeout)).build())
        };
        let mut answer = answer.map_err(failed)?;
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(failed)?;
        Ok(PeerAnswer { status: answer.status(), headers: answer.headers().clone(), body })
    }
}

/// Whether the other worker cannot have seen the request.
fn never_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

impl PeerClient {
    /// Sends a signed request to the leader.
    fn ask_leader(
        &self,
        method: Method,
        leader: &str,
        path: &str,
        body: Vec<u8>,
        key: &SessionKey,
    ) -> Result<(), String> {
        let unknown = || format!("inter.worker.signature.algorithm={} is not known", self.signing.algorithm);
        let signature = self.signing.sign(key, &body).ok_or_else(unknown)?;
        let mut headers = HeaderMap::new();
        let mut header = |name: &'static str, value: &str| {
            let value = value.parse().map_err(|_| format!("the header {name} cannot be sent"))?;
            headers.insert(ureq::http::HeaderName::from_static(name), value);
            Ok::<_, String>(())
        };
        header("content-type", "application/json")?;
        header(signature_header(SIGNATURE), &signature)?;
        header(signature_header(ALGORITHM), &self.signing.algorithm)?;
        let url = format!("{}{path}?forward=true", leader.trim_end_matches('/'));
        let request = PeerRequest { method, url, headers, body };
        let answer = self.send(&request, HAND_OVER_WITHIN).map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(format!("the leader {leader} answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body)))
    }
}

impl Peers for PeerClient {
    fn put_tasks(&self, leader: &str, connector: &str, tasks: &[Config], key: &SessionKey) -> Result<(), String> {
        let body = serde_json::to_vec(&tasks.iter().map(|task| &task.0).collect::<Vec<_>>())
            .map_err(|error| format!("the task configs cannot be written as JSON: {error}"))?;
        let path = format!("/connectors/{}/tasks", super::connectors::percent_encoded(connector));
        self.ask_leader(Method::POST, leader, &path, body, key)
    }

    fn fence_tasks(&self, leader: &str, connector: &str, key: &SessionKey) -> Result<(), String> {
        let path = format!("/connectors/{}/fence", super::connectors::percent_encoded(connector));
        self.ask_leader(Method::PUT, leader, &path, Vec::new(), key)
    }
}

/// As HTTP libraries keep header names.
fn signature_header(name: &str) -> &'static str {
    if name == SIGNATURE { "x-connect-authorization" } else { "x-connect-request-signature-algorithm" }
}
