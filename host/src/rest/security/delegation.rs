//! Who sent a request that another worker of the group passes on.
//!
//! Passwords and tokens are passed on with the request. A client's certificate cannot be: the worker that saw it names the
//! subject instead, signed with the group's session key for this one request and for a short time.

use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;

use crate::rest::api::Api;
use crate::rest::listener::Peer;
use crate::storage::SessionKey;
use crate::task::control::now_ms;

/// The header: subject, time in milliseconds and signature, with dots between.
pub(in crate::rest) const ON_BEHALF_OF: &str = "x-tributary-on-behalf-of";
/// How far the clocks of two workers may be apart, and a request may take.
const VALID_FOR: Duration = Duration::from_secs(120);

/// What is signed.
fn text(method: &Method, path: &str, subject: &str, time: i64) -> String {
    format!("on-behalf-of\n{method}\n{path}\n{time}\n{subject}")
}

fn signing_key(key: &SessionKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &key.key)
}

/// The header's value for a request whose sender proved who it is by certificate alone.
pub(in crate::rest) fn on_behalf_of(api: &Api, parts: &Parts) -> Option<String> {
    if parts.headers.contains_key(header::AUTHORIZATION) {
        return None;
    }
    let subject = match parts.headers.get(ON_BEHALF_OF) {
        // The second hop: the first worker's word, if it is good.
        Some(value) => checked(api, &parts.method, parts.uri.path(), value.to_str().ok()?)?,
        None => api.authenticator.subject(&parts.extensions.get::<ConnectInfo<Peer>>()?.0)?,
    };
    let key = (api.cluster.as_ref()?.key)()?;
    let time = now_ms();
    let signature = hmac::sign(&signing_key(&key), text(&parts.method, parts.uri.path(), &subject, time).as_bytes());
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    Some(format!("{}.{time}.{}", encode(subject.as_bytes()), encode(signature.as_ref())))
}

/// The subject that another worker vouches for; `None` if none does, or not rightly.
pub(super) fn subject(api: &Api, method: &Method, path: &str, headers: &HeaderMap) -> Option<String> {
    checked(api, method, path, headers.get(ON_BEHALF_OF)?.to_str().ok()?)
}

fn checked(api: &Api, method: &Method, path: &str, value: &str) -> Option<String> {
    let key = (api.cluster.as_ref()?.key)()?;
    verify(&key, (method, path), value, now_ms())
}

fn verify(key: &SessionKey, (method, path): (&Method, &str), value: &str, now: i64) -> Option<String> {
    let mut parts = value.split('.');
    let (subject, time, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let subject = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(subject).ok()?).ok()?;
    let time: i64 = time.parse().ok()?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    hmac::verify(&signing_key(key), text(method, path, &subject, time).as_bytes(), &signature).ok()?;
    (i128::from(now) - i128::from(time)).unsigned_abs().le(&VALID_FOR.as_millis()).then_some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_counts_for_its_own_request_and_time_only() {
        let key = |bytes: &[u8]| SessionKey { key: bytes.to_vec(), algorithm: "HmacSHA256".to_owned(), created_ms: 0 };
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signed = text(&Method::PUT, "/connectors/a/pause", "CN=x.y", 1_000_000);
        let signature = hmac::sign(&signing_key(&key(b"k")), signed.as_bytes());
        let value = format!("{}.1000000.{}", encode(b"CN=x.y"), encode(signature.as_ref()));
        let put = (&Method::PUT, "/connectors/a/pause");
        assert_eq!(verify(&key(b"k"), put, &value, 1_000_100).as_deref(), Some("CN=x.y"));
        assert_eq!(verify(&key(b"other"), put, &value, 1_000_100), None);
        assert_eq!(verify(&key(b"k"), (&Method::PUT, "/connectors/b/pause"), &value, 1_000_100), None);
        assert_eq!(verify(&key(b"k"), (&Method::DELETE, "/connectors/a/pause"), &value, 1_000_100), None);
        assert_eq!(verify(&key(b"k"), put, &value, 1_000_000 + 120_001), None);
        assert_eq!(verify(&key(b"k"), put, &value, i64::MIN), None);
        let forged = value.replacen(&encode(b"CN=x.y"), &encode(b"CN=admin"), 1);
        assert_eq!(verify(&key(b"k"), put, &forged, 1_000_100), None);
        assert_eq!(verify(&key(b"k"), put, "..", 1_000_100), None);
    }
}
