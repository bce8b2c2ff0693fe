//! Path and query parameters. Names of connectors are percent-decoded; anything is allowed in them.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::errors::ApiError;

/// The connector, plugin or logger in the path.
pub(super) struct Name(pub String);

/// The connector and the task in the path.
pub(super) struct TaskPath(pub String, pub u32);

/// The query's parameters, the first of each name.
pub(super) struct QueryParams(HashMap<String, Vec<String>>);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|rejection| ApiError::bad_request(rejection.body_text()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TaskPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((name, task)) = path.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        // As for Connect, what is not a number is not a path that exists.
        let number: i32 = task.parse().map_err(|_| ApiError::plain(StatusCode::NOT_FOUND))?;
        match u32::try_from(number) {
            Ok(task) => Ok(Self(name, task)),
            Err(_) => Err(ApiError::not_found(format!("No status found for task {name}-{number}"))),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let mut params = HashMap::new();
        if parts.uri.query().is_some() {
            let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
            let Query(pairs) = query.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
            for (name, value) in pairs {
                params.entry(name).or_insert_with(Vec::new).push(value);
            }
        }
        Ok(Self(params))
    }
}

impl QueryParams {
    /// Every value of a parameter; `None` if it is not there.
    pub fn all(&self, name: &str) -> Option<&[String]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).and_then(|values| values.first()).map(String::as_str)
    }

    /// `true` in any case is true, anything else is not.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }
}
