//! Who we are, to the server: basic, bearer, any header, or a token that OAuth 2 gives for client credentials.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Uri};
use serde_json::Value;

use super::error::CallError;
use super::hidden::Hidden;
use super::{HttpClient, Outgoing, url};

/// What a token lives for where the server does not say.
const LIFETIME: Duration = Duration::from_secs(300);
/// A token is renewed so long before its end.
const EARLY: Duration = Duration::from_secs(30);
/// Largest answer of a token endpoint.
const TOKEN_ANSWER: usize = 256 << 10;

/// How requests are signed in.
pub(crate) enum Auth {
    None,
    /// A header that is always the same.
    Header(HeaderName, HeaderValue),
    OAuth2(Box<OAuth2>),
}

/// Client credentials (RFC 6749, 4.4).
pub(crate) struct OAuth2 {
    pub token_url: Uri,
    pub client_id: String,
    pub client_secret: String,
    pub scope: Option<String>,
    pub audience: Option<String>,
    /// Whether id and secret go in the body instead of basic authentication.
    pub in_body: bool,
    pub token: Mutex<Option<Token>>,
}

/// A token in use.
#[derive(Clone)]
pub(crate) struct Token {
    header: HeaderValue,
    renew: Instant,
}

/// `Basic …`, which never shows.
pub(crate) fn basic(user: &str, password: &str, hidden: &Hidden) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    hidden.add(&encoded);
    hidden.add(password);
    secret_value(&format!("Basic {encoded}")).expect("base64 is visible ASCII")
}

/// A header's value that is left out of debugging output.
pub(crate) fn secret_value(text: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| "it holds characters that headers cannot have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

impl Auth {
    /// Whether there is anything to keep from others.
    pub fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The header to send; fetches a token where one is needed.
    pub async fn header(&self, client: &HttpClient) -> Result<Option<(HeaderName, HeaderValue)>, CallError> {
        match self {
            Self::None => Ok(None),
            Self::Header(name, value) => Ok(Some((name.clone(), value.clone()))),
            Self::OAuth2(oauth2) => Ok(Some((AUTHORIZATION, oauth2.header(client).await?))),
        }
    }

    /// A server did not accept this header. Answers whether another one can be had.
    pub fn refused(&self, sent: Option<&HeaderValue>) -> bool {
        let Self::OAuth2(oauth2) = self else { return false };
        let mut token = oauth2.token.lock().unwrap_or_else(PoisonError::into_inner);
        if token.as_ref().is_some_and(|token| Some(&token.header) == sent) {
            *token = None;
        }
        true
    }
}

impl OAuth2 {
    async fn header(&self, client: &HttpClient) -> Result<HeaderValue, CallError> {
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = known.filter(|token| Instant::now() < token.renew) {
            return Ok(token.header);
        }
        // Of several calls at once, each fetches a token: rare, and simpler than waiting for each other.
        let token = self.fetch(client).await?;
        let header = token.header.clone();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(header)
    }

    async fn fetch(&self, client: &HttpClient) -> Result<Token, CallError> {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        form.extend(self.audience.as_deref().map(|audience| ("audience", audience)));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if self.in_body {
            form.extend([("client_id", self.client_id.as_str()), ("client_secret", self.client_secret.as_str())]);
        } else {
            // As RFC 6749 has it, both are encoded like a form's values first.
            let (id, secret) = (url::encoded(&self.client_id), url::encoded(&self.client_secret));
            headers.insert(AUTHORIZATION, basic(&id, &secret, &client.hidden));
        }
        let body =
            form.iter().map(|(name, value)| format!("{name}={}", url::encoded(value))).collect::<Vec<_>>().join("&");
        let outgoing = Outgoing { method: Method::POST, uri: self.token_url.clone(), headers, body: body.into() };
        let shown = url::shown(&self.token_url);
        let answer = client.exchange(&outgoing, None, TOKEN_ANSWER).await?;
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        if !answer.status.is_success() {
            let why = client
                .hidden
                .hide(&[text("error"), text("error_description")].map(Option::unwrap_or_default).join(" "));
            let message = format!("no token from {shown}: status {} {}", answer.status.as_u16(), why.trim());
            let passing = answer.status.is_server_error() || matches!(answer.status.as_u16(), 408 | 425 | 429);
            let message = message.trim_end().to_owned();
            return Err(CallError { message, passing });
        }
        let Some(token) = text("access_token").filter(|_| answer.whole) else {
            return Err(CallError::passing(format!("no token from {shown}: its answer has no access_token")));
        };
        client.hidden.add_token(token);
        let header = secret_value(&format!("Bearer {token}"))
            .map_err(|why| CallError::refused(format!("no token from {shown}: {why}")))?;
        let lifetime = match json.get("expires_in") {
            Some(Value::Number(seconds)) => seconds.as_f64().map(|seconds| seconds.clamp(0.0, 1e9)),
            Some(Value::String(seconds)) => seconds.parse::<u32>().ok().map(f64::from),
            _ => None,
        };
        let lifetime = lifetime.map_or(LIFETIME, Duration::from_secs_f64);
        // One that lives for less than that is used for half of its life.
        let used = lifetime.saturating_sub(EARLY).max(lifetime / 2);
        Ok(Token { header, renew: Instant::now() + used })
    }
}
