//! The registry's HTTP API, as far as converters need it.
//!
//! Calls block, within deadlines, and are made on a task's own thread. Addresses are tried in turn, beginning with the one that
//! answered last. What fails on all of them, or with a status that says "later", is retriable; every other answer is final
//! and is told with subject or id, status and the registry's own message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tributary_sdk::{Config, Result};

use super::config::RegistryConfig;
use super::registered::{Reference, Registered, SchemaText};
use super::tls;

/// Larger answers are refused.
const MAX_ANSWER: u64 = 16 << 20;
/// Schemas that refer to more than so many others are refused.
const MAX_DEPENDENCIES: usize = 1000;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Why the registry gave no schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// What was asked, what came back, and what to do.
    pub message: String,
    /// The same may succeed later.
    pub retriable: bool,
}

impl RegistryError {
    /// An answer that no retry changes.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), retriable: false }
    }
}

/// Asks one registry, and keeps its answers.
pub struct RegistryClient {
    config: RegistryConfig,
    agent: ureq::Agent,
    /// The address that answered last.
    current: usize,
    by_id: HashMap<u32, Arc<Registered>>,
    missing: HashMap<u32, (Instant, RegistryError)>,
    ids: HashMap<(String, SchemaText), u32>,
    newest: HashMap<String, (Instant, Arc<Registered>)>,
}

impl RegistryClient {
    /// A client for a converter's config. Nothing is asked yet.
    pub fn new(parsed: RegistryConfig, config: &Config) -> Result<Self> {
        let mut builder = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(parsed.connect_timeout))
            .timeout_global(Some(parsed.connect_timeout + parsed.read_timeout))
            .max_redirects(3)
            .user_agent(concat!("tributary/", env!("CARGO_PKG_VERSION")))
            .proxy(None);
        if let Some(proxy) = &parsed.proxy {
            let proxy = ureq::Proxy::new(proxy).map_err(|error| {
                tributary_sdk::Error::failed(format!("Invalid value for configuration proxy.host: {error}"))
            })?;
            builder = builder.proxy(Some(proxy));
        }
        Ok(Self {
            config: parsed,
            agent: tls::agent(builder, config)?,
            current: 0,
            by_id: HashMap::new(),
            missing: HashMap::new(),
            ids: HashMap::new(),
            newest: HashMap::new(),
        })
    }

    /// The config it was made with.
    pub fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// The schema with an id, and all that it refers to.
    pub fn by_id(&mut self, id: u32) -> Result<Arc<Registered>, RegistryError> {
        if let Some(known) = self.by_id.get(&id) {
            return Ok(known.clone());
        }
        if let Some((asked, error)) = self.missing.get(&id)
            && asked.elapsed() < self.config.missing_ttl
        {
            return Err(error.clone());
        }
        let what = format!("the schema with id {id}");
        let answer = self.call("GET", &format!("/schemas/ids/{id}"), None, &what);
        let found = answer.and_then(|answer| self.registered(id, &answer, &what));
        match &found {
            Ok(registered) => {
                bound(&mut self.by_id, self.config.cache_size);
                self.by_id.insert(id, registered.clone());
            }
            Err(error) if !error.retriable => {
                bound(&mut self.missing, self.config.cache_size);
                self.missing.insert(id, (Instant::now(), error.clone()));
            }
            Err(_) => {}
        }
        found
    }

    /// The id of a schema under a subject: it is registered, or looked up where that is not wanted.
    pub fn id_of(&mut self, subject: &str, schema: &SchemaText) -> Result<u32, RegistryError> {
        let key = (subject.to_owned(), schema.clone());
        if let Some(&id) = self.ids.get(&key) {
            return Ok(id);
        }
        let normalize = if self.config.normalize { "?normalize=true" } else { "" };
        let subject_path = encoded(subject);
        let (path, what) = if self.config.auto_register {
            (
                format!("/subjects/{subject_path}/versions{normalize}"),
                format!("registering a schema under subject {subject}"),
            )
        } else {
            (format!("/subjects/{subject_path}{normalize}"), format!("looking a schema up under subject {subject}"))
        };
        let answer = self.call("POST", &path, Some(&schema.to_json()), &what)?;
        let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| RegistryError::refused(format!("{what}: the registry's answer has no id")))?;
        bound(&mut self.ids, self.config.cache_size);
        self.ids.insert(key, id);
        Ok(id)
    }

    /// The newest schema of a subject.
    pub fn newest(&mut self, subject: &str) -> Result<Arc<Registered>, RegistryError> {
        if let Some((asked, known)) = self.newest.get(subject)
            && self.config.latest_ttl.is_none_or(|ttl| asked.elapsed() < ttl)
        {
            return Ok(known.clone());
        }
        let what = format!("the newest schema of subject {subject}");
        let answer = self.call("GET", &format!("/subjects/{}/versions/latest", encoded(subject)), None, &what)?;
        let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| RegistryError::refused(format!("{what}: the registry's answer has no id")))?;
        let registered = self.registered(id, &answer, &what)?;
        bound(&mut self.newest, self.config.cache_size);
        self.newest.insert(subject.to_owned(), (Instant::now(), registered.clone()));
        Ok(registered)
    }

    /// A schema with the texts of what it refers to.
    fn registered(&mut self, id: u32, answer: &Value, what: &str) -> Result<Arc<Registered>, RegistryError> {
        let schema = SchemaText::from_json(answer)
            .ok_or_else(|| RegistryError::refused(format!("{what}: the registry's answer has no schema")))?;
        let mut dependencies = Vec::new();
        self.resolve(&schema.references, what, &mut dependencies)?;
        Ok(Arc::new(Registered { id, schema, dependencies }))
    }

    fn resolve(
        &mut self,
        references: &[Reference],
        what: &str,
        into: &mut Vec<(String, String)>,
    ) -> Result<(), RegistryError> {
        for Reference { name, subject, version } in references {
            if into.iter().any(|(known, _)| known == name) {
                continue;
            }
            if into.len() >= MAX_DEPENDENCIES {
                return Err(RegistryError::refused(format!("{what} refers to more than {MAX_DEPENDENCIES} schemas")));
            }
            let what = format!("version {version} of subject {subject}, to which {what} refers as {name}");
            let answer =
                self.call("GET", &format!("/subjects/{}/versions/{version}", encoded(subject)), None, &what)?;
            let schema = SchemaText::from_json(&answer)
                .ok_or_else(|| RegistryError::refused(format!("{what}: the registry's answer has no schema")))?;
            // Marked before it is looked into, so that a circle comes to an end.
            let place = into.len();
            into.push((name.clone(), schema.text));
            self.resolve(&schema.references, &what, into)?;
            let this = into.remove(place);
            into.push(this);
        }
        Ok(())
    }

    fn call(&mut self, method: &str, path: &str, body: Option<&str>, what: &str) -> Result<Value, RegistryError> {
        let count = self.config.urls.len();
        let mut last = None;
        for turn in 0..count {
            let index = (self.current + turn) % count;
            let url = &self.config.urls[index];
            let outcome = self.exchange(method, &format!("{url}{path}"), body);
            let error = match outcome {
                Ok((status, text)) if (200..300).contains(&status) => {
                    self.current = index;
                    return serde_json::from_str(&text).map_err(|_| {
                        RegistryError::refused(format!(
                            "{what}: {url} answered something that is not JSON; is it a schema registry's address?"
                        ))
                    });
                }
                Ok((status, text)) => {
                    let error = refusal(what, url, status, &text);
                    if !error.retriable {
                        self.current = index;
                        return Err(error);
                    }
                    error
                }
                Err(error) => unreachable_registry(what, url, &error),
            };
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| RegistryError::refused("schema.registry.url names no address")))
    }

    fn exchange(&self, method: &str, url: &str, body: Option<&str>) -> std::result::Result<(u16, String), ureq::Error> {
        let mut answer = if method == "GET" {
            let mut request = self.agent.get(url).header("Accept", format!("{CONTENT_TYPE}, application/json"));
            for (name, value) in self.headers() {
                request = request.header(name, value);
            }
            request.call()?
        } else {
            let mut request = self
                .agent
                .post(url)
                .header("Accept", format!("{CONTENT_TYPE}, application/json"))
                .header("Content-Type", CONTENT_TYPE);
            for (name, value) in self.headers() {
                request = request.header(name, value);
            }
            request.send(body.unwrap_or_default())?
        };
        let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string()?;
        Ok((answer.status().as_u16(), text))
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let authorization = self.config.authorization.as_deref().map(|value| ("Authorization", value));
        self.config.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(authorization)
    }
}

/// An answer other than 2xx.
fn refusal(what: &str, url: &str, status: u16, text: &str) -> RegistryError {
    let answer: Option<Value> = serde_json::from_str(text).ok();
    let part = |key: &str| answer.as_ref().and_then(|answer| answer.get(key));
    let message = part("message").and_then(Value::as_str).unwrap_or(text).trim();
    let message: String = message.chars().take(2000).collect();
    let code = part("error_code").and_then(Value::as_i64).unwrap_or(i64::from(status));
    let retriable = matches!(status, 408 | 425 | 429) || status >= 500;
    let advice = match (status, code) {
        (401 | 403, _) => "; check basic.auth.credentials.source and its credentials",
        (409, _) => {
            "; the new schema does not fit the subject's earlier ones: change it, or the subject's compatibility level"
        }
        (_, 42201) => "; the registry cannot use this schema",
        (404, 40403) if what.starts_with("looking") => "; register the schema, or set auto.register.schemas=true",
        (404, 40401) => "; nothing is registered there yet: check the subject, or set auto.register.schemas=true",
        (404, 40403) => "; was it written with another registry?",
        _ => "",
    };
    let code = if code == i64::from(status) { String::new() } else { format!(", error {code}") };
    RegistryError { message: format!("{what}: {url} answered {status}{code}: {message}{advice}"), retriable }
}

fn unreachable_registry(what: &str, url: &str, error: &ureq::Error) -> RegistryError {
    let text = error.to_string();
    // A certificate that is not trusted does not become so by waiting.
    let certificate = text.contains("certificate") || text.contains("UnknownIssuer");
    let advice = if certificate {
        "; check schema.registry.ssl.truststore.location, or the certificates"
    } else {
        "; is it running, and is schema.registry.url right?"
    };
    RegistryError { message: format!("{what}: {url} cannot be reached: {text}{advice}"), retriable: !certificate }
}

/// A subject as one segment of a path.
fn encoded(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Keeps a cache below its bound: when it is full, all is forgotten.
fn bound<K, V>(cache: &mut HashMap<K, V>, size: usize) {
    if cache.len() >= size {
        cache.clear();
    }
}
