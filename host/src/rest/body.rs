//! Request bodies: JSON, bounded, with errors that name the place.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tributary_sdk::Config;

use super::api::Api;
use super::errors::ApiError;

/// A JSON body of the shape `T`.
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
        if let Some(content_type) = request.headers().get(header::CONTENT_TYPE) {
            let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
            if !essence.eq_ignore_ascii_case("application/json") {
                return Err(ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE));
            }
        }
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

impl ConfigMap {
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
                    let value = match raw.get().as_bytes()[0] {
                        b'"' => Some(serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?),
                        b'n' => None,
                        b'{' | b'[' => {
                            let message = format!("the value of {key:?} has to be a string, number or boolean");
                            return Err(serde::de::Error::custom(message));
                        }
                        _ => Some(raw.get().to_owned()),
                    };
                    pairs.push((key, value));
                }
                Ok(ConfigMap(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
