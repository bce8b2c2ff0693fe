//! Request bodies: JSON, bounded, with errors that name the place.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{HttpBody, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tributary_sdk::Config;

use super::api::Api;
use super::errors::ApiError;

/// How long a body may take, however small it is.
const PATIENCE: Duration = Duration::from_secs(30);
/// And how many bytes a second a larger one has to bring.
const SLOWEST: u64 = 32 * 1024;

/// A JSON body of the shape `T`. That it says so has been looked at before ([`super::negotiation`]).
pub(super) struct Body<T>(pub T);

/// A JSON object of strings; other scalars count as their text, as for Connect, and nulls are kept apart.
pub(super) struct ConfigMap(pub Vec<(String, Option<String>)>);

/// Reads a body to its end, if that is not too far.
pub(super) async fn read(body: axum::body::Body, limit: usize) -> Result<axum::body::Bytes, ApiError> {
    let too_large = || {
        let message =
            format!("the request body is larger than {limit} bytes; raise rest.max.body.bytes if that is right");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    // What is announced need not be sent to be refused.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let patience = PATIENCE + Duration::from_secs(limit as u64 / SLOWEST);
    match tokio::time::timeout(patience, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // axum wraps the limit's error; what it says is the only way to tell it from a broken connection.
        Ok(Err(error))
            if std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("limit")) =>
        {
            Err(too_large())
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the request body ended early: {error}"))),
        Err(_) => {
            let message = format!("the request body did not come within {patience:?}");
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

/// A body's text in UTF-8. Like Connect's, this reader takes UTF-16, too, and a mark of the byte order, which some clients write.
fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        Cow::Owned(String::from_utf16_lossy(&units).into_bytes())
    };
    match bytes {
        [0xEF, 0xBB, 0xBF, text @ ..] => Cow::Borrowed(text),
        [0xFE, 0xFF, text @ ..] => utf16(text, u16::from_be_bytes),
        [0xFF, 0xFE, text @ ..] => utf16(text, u16::from_le_bytes),
        [0, low, ..] if *low != 0 => utf16(bytes, u16::from_be_bytes),
        [low, 0, ..] if *low != 0 => utf16(bytes, u16::from_le_bytes),
        _ => Cow::Borrowed(bytes),
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let bytes = read(request.into_body(), api.settings.max_body).await?;
        let bytes = utf8(&bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::bad_request("the request body is empty; send a JSON object"));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let sort = if error.is_data() { "unexpected" } else { "malformed" };
            ApiError::bad_request(format!("{sort} JSON in the request body: {error}"))
        })
    }
}

/// A string, or another scalar as its text, or nothing: so Connect reads every string.
pub(super) fn scalar<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let raw = <Box<RawValue> as serde::Deserialize>::deserialize(deserializer)?;
    text(&raw).map_err(|()| serde::de::Error::custom("it has to be a string"))
}

/// The text of a scalar, as it was written; `None` for null.
fn text(raw: &RawValue) -> Result<Option<String>, ()> {
    match raw.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw.get()).map(Some).map_err(|_| ()),
        Some(b'n') => Ok(None),
        Some(b'{' | b'[') | None => Err(()),
        Some(_) => Ok(Some(raw.get().to_owned())),
    }
}

impl ConfigMap {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        // Of a key that comes twice, the last counts.
        self.0.iter().rev().find(|(name, _)| name == key).and_then(|(_, value)| value.as_deref())
    }

    /// Whether a key is there and null.
    pub fn removes(&self, key: &str) -> bool {
        self.0.iter().rev().find(|(name, _)| name == key).is_some_and(|(_, value)| value.is_none())
    }

    /// The values, and the keys that are null.
    pub fn into_parts(self) -> (Config, Vec<String>) {
        let nulls = self.0.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.clone()).collect();
        (self.into_config(), nulls)
    }

    /// Without the nulls.
    pub fn into_config(self) -> Config {
        self.0.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

impl<'de> serde::Deserialize<'de> for ConfigMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ConfigMap;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of configuration keys and values")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<ConfigMap, A::Error> {
                let mut pairs: Vec<(String, Option<String>)> = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    // The raw text, so that numbers stay as they were written.
                    let raw: Box<RawValue> = map.next_value()?;
                    let value = text(&raw).map_err(|()| {
                        let message = format!("the value of {key:?} has to be a string, number or boolean");
                        serde::de::Error::custom(message)
                    })?;
                    pairs.push((key, value));
                }
                Ok(ConfigMap(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_other_encodings_are_read() {
        let text = "{\"a\":\"é😀\"}";
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            [&[0xFE, 0xFF][..], &be].concat(),
            [&[0xFF, 0xFE][..], &le].concat(),
            be,
            le,
        ] {
            assert_eq!(utf8(&bytes), text.as_bytes(), "{bytes:?}");
        }
        for odd in [&b""[..], b"\0", b"{", b"\xff\xfe{"] {
            utf8(odd);
        }
    }
}
