//! Headers that answers get besides their own: `response.http.headers.config`, and those that let scripts of other web sites
//! use the API (CORS), as Kafka Connect's HTTP library gives them.
//!
//! Origins are regular expressions, in any case, of the whole origin; `*` alone is every origin. A preflight request is answered
//! like any other OPTIONS, with the headers added. Credentials are never allowed.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use regex::{Regex, RegexBuilder};

use crate::config::{HeaderRule, RuleValue};

/// What is added.
#[derive(Debug, Clone, Default)]
pub struct AnswerHeaders {
    rules: Vec<HeaderRule>,
    cors: Option<Cors>,
}

/// Who else may use the API.
#[derive(Debug, Clone)]
struct Cors {
    /// `None`: everybody.
    origins: Option<Vec<Regex>>,
    methods: HeaderValue,
}

impl AnswerHeaders {
    /// `rules` for every answer, and CORS for `origins` and `methods` unless there are no origins. The error names the key.
    pub fn new(rules: Vec<HeaderRule>, origins: &str, methods: &str) -> Result<Self, String> {
        Ok(Self { rules, cors: Cors::new(origins, methods)? })
    }

    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.cors.is_none()
    }

    /// Passes a request on and adds the headers to its answer.
    pub async fn add(&self, request: Request, next: Next) -> Response {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let mut response = next.run(request).await;
        if let Some(cors) = &self.cors {
            cors.add(response.headers_mut(), origin, preflight);
        }
        for rule in &self.rules {
            let value = match &rule.value {
                RuleValue::Text(value) => value.clone(),
                RuleValue::Date(ms) => date(*ms),
            };
            if rule.replace {
                response.headers_mut().insert(rule.name.clone(), value);
            } else {
                response.headers_mut().append(rule.name.clone(), value);
            }
        }
        response
    }
}

impl Cors {
    fn new(origins: &str, methods: &str) -> Result<Option<Self>, String> {
        let origins: Vec<&str> = origins.split(',').map(str::trim).filter(|origin| !origin.is_empty()).collect();
        if origins.is_empty() {
            return Ok(None);
        }
        let pattern = |origin: &&str| {
            RegexBuilder::new(&format!("^(?:{origin})$")).case_insensitive(true).build().map_err(|error| {
                format!(
                    "invalid value {origin} for configuration access.control.allow.origin: not a regular expression: {error}"
                )
            })
        };
        let patterns = match origins.contains(&"*") {
            true => None,
            false => Some(origins.iter().map(pattern).collect::<Result<_, _>>()?),
        };
        let methods: Vec<&str> = methods.split(',').map(str::trim).filter(|method| !method.is_empty()).collect();
        let methods = if methods.is_empty() { "GET,POST,HEAD".to_owned() } else { methods.join(",") };
        let methods = HeaderValue::try_from(methods.as_str())
            .map_err(|_| format!("invalid value {methods} for configuration access.control.allow.methods"))?;
        Ok(Some(Self { origins: patterns, methods }))
    }

    fn add(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>, preflight: bool) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        let allowed = self.origins.as_ref().is_none_or(|patterns| {
            let origins = origin.to_str().unwrap_or_default();
            origins.split(' ').any(|origin| patterns.iter().any(|pattern| pattern.is_match(origin)))
        });
        if !allowed {
            return;
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("60"));
        }
    }
}

/// The present time and so many milliseconds, as headers have it.
fn date(ms: i64) -> HeaderValue {
    let time = chrono::Utc::now().timestamp_millis().saturating_add(ms);
    let text = chrono::DateTime::from_timestamp_millis(time)
        .map(|time| time.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
