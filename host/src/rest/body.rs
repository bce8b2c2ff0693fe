//! Request bodies: JSON, bounded, with errors that name the place.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tributary_sdk::Config;

use super::api::Api;
use super::errors::ApiError;

/// A JSON body of the shape `T`. That it says so has been looked at before ([`super::negotiation`]).
pub(super) struct Body<T>(pub T);

/// A JSON object of strings; other scalars count as their text, as for Connect, and nulls are kept apart.
pub(super) struct ConfigMap(pub Vec<(String, Option<String>)>);

/// Reads a body to its end, if that is not too far.
pub(super) async fn read(body: axum::body::Body, limit: usize) -> Result<axum::body::Bytes, ApiError> {
    to_bytes(body, limit).await.map_err(|error| {
        // axum wraps the limit's error; what it says is the only way to tell it from a broken connection.
        if std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("limit")) {
            let message =
                format!("the request body is larger than {limit} bytes; raise rest.max.body.bytes if that is right");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        } else {
            ApiError::bad_request(format!("the request body ended early: {error}"))
        }
    })
}

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let bytes = read(request.into_body(), api.settings.max_body).await?;
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
