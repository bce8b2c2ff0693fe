//! Java's client settings as this client's.
//!
//! The same properties that the data clients get: `bootstrap.servers`, `security.protocol`, `ssl.*`, `sasl.*`, time-outs.

use std::time::Duration;

use super::security::Security;
use super::{WireError, WireErrorKind};
use crate::log::ClientSettings;

/// How brokers are reached.
#[derive(Debug, Clone)]
pub struct WireSettings {
    /// `host:port` of the first brokers to ask.
    pub bootstrap: Vec<String>,
    /// TLS and SASL.
    pub(super) security: Security,
    /// As brokers log it.
    pub client_id: String,
    /// How long connecting, with TLS and SASL, may take.
    pub connect_timeout: Duration,
    /// How long a request may take that the broker answers at once.
    pub request_timeout: Duration,
    /// The first pause before a broker is tried again; it doubles from time to time.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl WireSettings {
    /// Reads client settings. Nothing is connected yet.
    pub fn new(settings: &ClientSettings) -> Result<Self, WireError> {
        let text = |name: &str| settings.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let bootstrap: Vec<String> = text("bootstrap.servers")
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty())
            // A listener's name in front is accepted, as the Java client does.
            .map(|server| server.rsplit_once("://").map_or(server, |(_, rest)| rest).to_owned())
            .collect();
        if bootstrap.is_empty() {
            return Err(setting("bootstrap.servers", "it is empty: give host:port of a broker"));
        }
        for server in &bootstrap {
            let port = server.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                return Err(setting("bootstrap.servers", &format!("{server} is not host:port")));
            }
        }
        let millis = |name: &str, default: u64| match text(name) {
            None => Ok(Duration::from_millis(default)),
            Some(value) => match value.parse() {
                Ok(millis) => Ok(Duration::from_millis(millis)),
                Err(_) => Err(setting(name, &format!("{value} is not a number of milliseconds"))),
            },
        };
        let request_timeout = millis("request.timeout.ms", 30_000)?;
        Ok(Self {
            security: Security::new(settings)?,
            bootstrap,
            client_id: text("client.id").unwrap_or("tributary").to_owned(),
            connect_timeout: millis("socket.connection.setup.timeout.ms", 10_000)?,
            request_timeout,
            // Java's defaults are 50 ms and 1 s.
            backoff: millis("reconnect.backoff.ms", 50)?,
            backoff_max: millis("reconnect.backoff.max.ms", 1_000)?,
        })
    }
}

pub(super) fn setting(name: &str, why: &str) -> WireError {
    WireError::new(WireErrorKind::Setting, format!("client setting {name}: {why}"))
}
