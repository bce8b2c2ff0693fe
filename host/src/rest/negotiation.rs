//! Which content a request may bring and which it may ask for: JSON, for Connect's statuses where it is something else.
//!
//! Looked at once the path and the method are known to be there, so that 404 and 405 come first, as in Kafka Connect.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::errors::ApiError;

/// For the first byte of a body that may be none.
const PATIENCE: Duration = Duration::from_secs(30);

/// Refuses with 415 a body that is not JSON, or not said to be, and with 406 who does not accept JSON.
pub(super) async fn negotiate(request: Request, next: Next) -> Response {
    let (parts, mut body) = request.into_parts();
    // Some clients announce a body of unknown length where they send none.
    let unsaid = !parts.headers.contains_key(header::CONTENT_TYPE);
    let empty = unsaid && parts.headers.contains_key(header::TRANSFER_ENCODING) && {
        let none = tokio::time::timeout(PATIENCE, to_bytes(std::mem::take(&mut body), 0)).await;
        let none = none.is_ok_and(|body| body.is_ok());
        body = Body::empty();
        none
    };
    if !empty && !brings_json(&parts.headers) {
        return ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE).into_response();
    }
    if let Some(encoding) = parts.headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        let message =
            format!("a request body with Content-Encoding {encoding} is not understood here; send it as it is");
        return ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
    }
    if !accepts_json(&parts.headers) {
        return ApiError::plain(StatusCode::NOT_ACCEPTABLE).into_response();
    }
    next.run(Request::from_parts(parts, body)).await
}

fn brings_json(headers: &HeaderMap) -> bool {
    match headers.get(header::CONTENT_TYPE) {
        Some(value) => essence(value.to_str().unwrap_or_default()).eq_ignore_ascii_case("application/json"),
        None => {
            let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
            !length && !headers.contains_key(header::TRANSFER_ENCODING)
        }
    }
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let mut any = false;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',').filter(|range| !range.trim().is_empty()) {
            any = true;
            let refused = range.split(';').skip(1).any(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or_default();
                name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|q| q == 0.0)
            });
            let range = essence(range).to_ascii_lowercase();
            if !refused && ["*/*", "application/*", "application/json", "*"].contains(&range.as_str()) {
                return true;
            }
        }
    }
    !any
}

/// A media type without its parameters.
fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (header::HeaderName::try_from(*name).unwrap(), header::HeaderValue::try_from(*value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn bodies_have_to_say_that_they_are_json() {
        for (pairs, fine) in [
            (&[][..], true),
            (&[("content-length", "0")], true),
            (&[("content-length", "2")], false),
            (&[("transfer-encoding", "chunked")], false),
            (&[("content-length", "2"), ("content-type", "Application/JSON; charset=utf-8")], true),
            (&[("content-length", "2"), ("content-type", "text/plain")], false),
            (&[("content-type", "text/plain")], false),
        ] {
            assert_eq!(brings_json(&headers(pairs)), fine, "{pairs:?}");
        }
    }

    #[test]
    fn ranges_of_accept_are_looked_at_one_by_one() {
        for (accept, fine) in [
            ("*/*", true),
            ("text/html, application/json;q=0.1", true),
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("Application/*", true),
            ("", true),
            ("text/html", false),
            ("application/json;q=0", false),
            ("application/xml", false),
        ] {
            assert_eq!(accepts_json(&headers(&[("accept", accept)])), fine, "{accept}");
        }
        assert!(accepts_json(&headers(&[])));
    }
}
