//! Tokens for OAUTHBEARER: unsecured ones made here (for tests), from a file, or from a token endpoint by client credentials.
//!
//! A token is kept until four fifths of its life are over. Fetching blocks: not for a tokio worker.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::jaas::Jaas;
use super::text;
use crate::log::ClientSettings;
use crate::tls;

/// The life of a token that does not tell.
const UNKNOWN_LIFE: Duration = Duration::from_secs(300);
const MOST_BYTES: u64 = 1 << 20;

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) value: String,
    /// Whom it names, for logs.
    pub(crate) principal: String,
    /// When it ends, in milliseconds since 1970.
    pub(crate) expires_ms: i64,
}

/// Where tokens come from.
pub(crate) struct Tokens {
    source: Source,
    last: Mutex<Option<(Token, i64)>>,
}

enum Source {
    Unsecured { claims: serde_json::Map<String, Value>, life: Duration },
    File(String),
    Endpoint { url: String, id: String, secret: String, scope: Option<String>, tls: TlsConfig, timeout: Duration },
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Reads client settings; `jaas` is `sasl.jaas.config`, if set.
    pub(crate) fn new(settings: &ClientSettings, jaas: Option<&Jaas>) -> Result<Self, String> {
        let option = |names: &[&str], keys: &[&str]| {
            let from_jaas = names.iter().find_map(|name| jaas.and_then(|jaas| jaas.option(name)));
            from_jaas.or_else(|| keys.iter().find_map(|key| text(settings, key))).map(str::to_owned)
        };
        let url = text(settings, "sasl.oauthbearer.token.endpoint.url");
        let source = match url {
            Some(url) if url.starts_with("file:") => {
                Source::File(url.trim_start_matches("file:").replacen("//", "", 1))
            }
            Some(url) => {
                let wanted = |name: &str| {
                    format!(
                        "sasl.jaas.config: the token endpoint wants {name}=\"…\" (or sasl.oauthbearer.client.credentials.*)"
                    )
                };
                let id = option(
                    &["clientId"],
                    &["sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"],
                );
                let secret = option(
                    &["clientSecret"],
                    &["sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"],
                );
                Source::Endpoint {
                    url: url.to_owned(),
                    id: id.ok_or_else(|| wanted("clientId"))?,
                    secret: secret.ok_or_else(|| wanted("clientSecret"))?,
                    scope: option(&["scope"], &["sasl.oauthbearer.scope"]),
                    tls: endpoint_tls(settings)?,
                    timeout: Duration::from_secs(10),
                }
            }
            None => Self::unsecured(jaas)?,
        };
        Ok(Self { source, last: Mutex::new(None) })
    }

    /// `unsecuredLoginStringClaim_sub="alice"` and its like.
    fn unsecured(jaas: Option<&Jaas>) -> Result<Source, String> {
        let options = jaas.map(|jaas| jaas.options.clone()).unwrap_or_default();
        let mut claims = serde_json::Map::new();
        for (name, value) in &options {
            if let Some(claim) = name.strip_prefix("unsecuredLoginStringClaim_") {
                claims.insert(claim.to_owned(), json!(value));
            } else if let Some(claim) = name.strip_prefix("unsecuredLoginNumberClaim_") {
                let number: f64 = value.parse().map_err(|_| format!("sasl.jaas.config: {name} is not a number"))?;
                claims.insert(claim.to_owned(), json!(number));
            } else if let Some(claim) = name.strip_prefix("unsecuredLoginListClaim_") {
                // The first character separates the others.
                let mut rest = value.chars();
                let separator = rest.next().unwrap_or(',');
                let list: Vec<&str> = rest.as_str().split(separator).collect();
                claims.insert(claim.to_owned(), json!(list));
            }
        }
        if !claims.contains_key("sub") {
            return Err(
                "sasl.oauthbearer.token.endpoint.url: set it, with clientId and clientSecret in sasl.jaas.config; \
                        for an unsecured token give unsecuredLoginStringClaim_sub=\"…\" there"
                    .to_owned(),
            );
        }
        let life = options.get("unsecuredLoginLifetimeSeconds").and_then(|text| text.parse().ok()).unwrap_or(3600);
        Ok(Source::Unsecured { claims, life: Duration::from_secs(life) })
    }

    /// A token that is good for a while.
    pub(crate) fn token(&self) -> Result<Token, String> {
        let now = now_ms();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, _)) = last.as_ref().filter(|(_, until)| now < *until) {
            return Ok(token.clone());
        }
        let token = self.fetch(now)?;
        *last = Some((token.clone(), now + (token.expires_ms - now) / 5 * 4));
        Ok(token)
    }

    fn fetch(&self, now: i64) -> Result<Token, String> {
        match &self.source {
            Source::Unsecured { claims, life } => {
                let mut claims = claims.clone();
                let seconds = now as f64 / 1000.0;
                claims.insert("iat".to_owned(), json!(seconds));
                claims.insert("exp".to_owned(), json!(seconds + life.as_secs_f64()));
                let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let value = format!("{}.{}.", part(&json!({"alg": "none"})), part(&Value::Object(claims)));
                Ok(token(value, None, now))
            }
            Source::File(path) => {
                let value = std::fs::read_to_string(path)
                    .map_err(|error| format!("sasl.oauthbearer.token.endpoint.url=file:{path}: {error}"))?;
                Ok(token(value.trim().to_owned(), None, now))
            }
            Source::Endpoint { url, id, secret, scope, tls, timeout } => {
                let failed = |reason: String| format!("the token endpoint {url}: {reason}");
                let agent: ureq::Agent = ureq::Agent::config_builder()
                    .timeout_global(Some(*timeout))
                    .http_status_as_error(false)
                    .tls_config(tls.clone())
                    .build()
                    .into();
                let mut form = "grant_type=client_credentials".to_owned();
                if let Some(scope) = scope {
                    form.push_str("&scope=");
                    form.push_str(&encode(scope));
                }
                let mut answer = agent
                    .post(url)
                    .header("Authorization", format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
                    .header("Content-Type", "application/x-www-form-urlencoded")
                    .header("Accept", "application/json")
                    .send(form)
                    .map_err(|error| failed(error.to_string()))?;
                let status = answer.status();
                let body = answer
                    .body_mut()
                    .with_config()
                    .limit(MOST_BYTES)
                    .read_to_string()
                    .map_err(|error| failed(error.to_string()))?;
                let body: Value = serde_json::from_str(&body).unwrap_or_default();
                if !status.is_success() {
                    let reason = body.get("error").and_then(Value::as_str).unwrap_or("check clientId and clientSecret");
                    return Err(failed(format!("{status}: {reason}")));
                }
                let value = body.get("access_token").and_then(Value::as_str);
                let value = value.ok_or_else(|| failed("its answer has no access_token".to_owned()))?;
                let life = body.get("expires_in").and_then(Value::as_f64);
                let mut token = token(value.to_owned(), life, now);
                if token.principal.is_empty() {
                    token.principal.clone_from(id);
                }
                Ok(token)
            }
        }
    }
}

/// The system's certificates are trusted where no setting names others.
fn endpoint_tls(settings: &ClientSettings) -> Result<TlsConfig, String> {
    let system = rustls_native_certs::load_native_certs().certs;
    let system: Vec<_> = system.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
    // The client's own certificate is for brokers.
    let trust = |name: &str| settings.get(name).filter(|_| !name.contains("key")).cloned();
    tls::outbound(&trust, RootCerts::new_with_certs(&system))
}

/// A token with what its claims tell; they are not verified, that is the broker's part.
fn token(value: String, life_seconds: Option<f64>, now: i64) -> Token {
    let claims = value.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
    let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
    let told = claims.get("exp").and_then(Value::as_f64).map(|seconds| (seconds * 1000.0) as i64);
    let answered = life_seconds.map(|seconds| now.saturating_add((seconds * 1000.0) as i64));
    let unknown = now + UNKNOWN_LIFE.as_millis() as i64;
    let expires_ms = told.or(answered).unwrap_or(unknown);
    let principal = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
    Token { value, principal, expires_ms }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// For a form: everything but letters, digits and a few signs by number.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsecured_tokens_have_their_claims() {
        let jaas = Jaas::parse(
            "OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"alice\" unsecuredLoginListClaim_scope=\",a,b\";",
        )
        .unwrap();
        let tokens = Tokens::new(&ClientSettings::new(), Some(&jaas)).unwrap();
        let token = tokens.token().unwrap();
        assert_eq!(token.principal, "alice");
        assert!(token.value.ends_with('.') && token.expires_ms > now_ms() + 3_000_000);
        assert!(tokens.token().unwrap() == token, "it is kept");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Tokens::new(&ClientSettings::new(), None).unwrap_err();
        assert!(error.contains("sasl.oauthbearer.token.endpoint.url"), "{error}");
        let settings = [("sasl.oauthbearer.token.endpoint.url".to_owned(), "http://x/token".to_owned())].into();
        let error = Tokens::new(&settings, None).unwrap_err();
        assert!(error.contains("clientId"), "{error}");
    }
}
