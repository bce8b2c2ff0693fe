//! A small client for the REST API of a worker, Kafka Connect's or Tributary's.
//!
//! Every status is an answer, not an error: tests look at it. An error means that there was no
//! answer within the time limit.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::{Context, Error, Result, wait};

/// Longer than Connect takes to give up on a request by itself (90 s).
const TIMEOUT: Duration = Duration::from_secs(100);

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null where it is empty, a string where it is not JSON.
    pub body: Value,
}

impl Answer {
    /// The body if the status is 2xx, else an error with both.
    pub fn ok(self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        Err(Error::new(format!("status {}: {}", self.status, self.body)))
    }
}

/// A worker's REST address.
#[derive(Clone, Debug)]
pub struct Rest {
    base: String,
    agent: Agent,
    headers: Vec<(String, String)>,
}

impl Rest {
    /// A client of the worker at this URL, `http://127.0.0.1:8083` say.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into(), agent: agent(TlsConfig::default()), headers: Vec::new() }
    }

    /// A client of an https listener that trusts `ca` and shows `identity`, its certificate and key; all of them PEM.
    pub fn over_tls(base: impl Into<String>, ca: &str, identity: Option<(&str, &str)>) -> Result<Self> {
        let read = |pem: &str| Certificate::from_pem(pem.as_bytes()).context("not a certificate");
        let identity = match identity {
            Some((certificate, key)) => {
                let key = PrivateKey::from_pem(key.as_bytes()).context("not a private key")?;
                Some(ClientCert::new_with_certs(&[read(certificate)?], key))
            }
            None => None,
        };
        let tls =
            TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[read(ca)?])).client_cert(identity).build();
        Ok(Self { base: base.into(), agent: agent(tls), headers: Vec::new() })
    }

    /// The same, with a further header on every request.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut rest = self.clone();
        rest.headers.push((name.into(), value.into()));
        rest
    }

    /// The address, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None)
    }

    /// `POST path` with a JSON body; null sends none.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body))
    }

    /// `PUT path` with a JSON body; null sends none.
    pub fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, path, Some(body))
    }

    /// `PATCH path` with a JSON body.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, Some(body))
    }

    /// `DELETE path`.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, None)
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let what = format!("{method} {}{path}", self.base);
        let text = body.filter(|body| !body.is_null()).map(Value::to_string).unwrap_or_default();
        self.send_text(method, path, &text).context(what)
    }

    /// Sends a JSON text with headers of the test's own.
    pub fn send_with_headers(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers.iter().chain([&("Content-Type", "application/json")]) {
            request = request.header(*name, *value);
        }
        self.answer(self.agent.run(request.body(body.to_owned()).context("not a request")?)?)
    }

    /// Sends a body as it is, so that it may be no JSON at all. An empty one is not sent.
    pub fn send_text(&self, method: Method, path: &str, body: &str) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = if body.is_empty() {
            self.agent.run(request.body(()).context("not a request")?)?
        } else {
            let request = request.header("Content-Type", "application/json").body(body.to_owned());
            self.agent.run(request.context("not a request")?)?
        };
        self.answer(response)
    }

    fn answer(&self, mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
        let text = response.body_mut().read_to_string()?;
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// Creates or changes a connector.
    pub fn put_connector(&self, name: &str, config: &Value) -> Result<Value> {
        self.put(&format!("/connectors/{name}/config"), config)?.ok()
    }

    /// Removes a connector.
    pub fn delete_connector(&self, name: &str) -> Result<()> {
        self.delete(&format!("/connectors/{name}"))?.ok().map(drop)
    }

    /// The status of a connector.
    pub fn status(&self, name: &str) -> Result<Value> {
        self.get(&format!("/connectors/{name}/status"))?.ok()
    }

    /// Waits until a connector and at least one task are RUNNING; fails at once where one has FAILED.
    pub fn wait_running(&self, name: &str) -> Result<()> {
        self.wait_state(name, "RUNNING")
    }

    /// Waits until a connector and all its tasks, at least one, are in a state. One that has FAILED
    /// while another state is waited for is an error with its trace.
    pub fn wait_state(&self, name: &str, state: &str) -> Result<()> {
        let mut failed = None;
        let outcome = wait::until(&format!("{name} to be {state}"), wait::PATIENCE, || {
            let status = self.status(name)?;
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            let states = || tasks.iter().chain([&status["connector"]]).map(|part| &part["state"]);
            if state != "FAILED" && states().any(|state| state == "FAILED") {
                failed = Some(status.clone());
                return Ok(Some(()));
            }
            if !tasks.is_empty() && states().all(|is| is == state) {
                return Ok(Some(()));
            }
            Err(Error::new(status.to_string()))
        });
        match failed {
            Some(status) => Err(Error::new(format!("{name} has failed: {status:#}"))),
            None => outcome,
        }
    }
}

fn agent(tls: TlsConfig) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(TIMEOUT))
        // A worker that was restarted has closed its end of a kept connection.
        .max_idle_connections(0)
        .tls_config(tls)
        .build();
    config.into()
}
