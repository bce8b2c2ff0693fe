//! Stands before every operation: who is it, may they, and what did they do.

use std::sync::Arc;

use axum::extract::{ConnectInfo, RawPathParams, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::authenticator::Refused;
use super::delegation;
use super::role::{Identity, Role};
use crate::rest::api::Api;
use crate::rest::errors::ApiError;
use crate::rest::listener::Peer;

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rest) enum Guard {
    /// A role: on the connector in the path if there is one, else somewhere (lists show what the subject may see) or, for
    /// admins, on the worker.
    Role(Role),
    /// Nothing: workers of the group sign it, and the handler checks that.
    Signed,
    /// Nothing, as load balancers ask it; with parameters, the role view.
    OpenWithoutQuery,
}

/// The layer of one operation.
pub(in crate::rest) async fn guard(
    State((api, guard)): State<(Arc<Api>, Guard)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let role = match guard {
        Guard::Role(role) => role,
        Guard::OpenWithoutQuery if request.uri().query().is_some() => Role::View,
        Guard::Signed | Guard::OpenWithoutQuery => {
            request.extensions_mut().insert(Identity::nobody());
            return next.run(request).await;
        }
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let identity = match identify(&api, &peer, (&method, &path, request.headers())).await {
        Ok(identity) => identity,
        Err(response) => return response,
    };
    let connector = params.iter().find(|(name, _)| *name == "connector").map(|(_, value)| value.to_owned());
    let allowed = match (&connector, role) {
        (None, Role::Admin) => identity.may(role, None),
        // What is created is named in the body, and what is listed is filtered: the handler looks.
        (None, _) => identity.may_somewhere(role),
        (Some(connector), _) => identity.may(role, Some(connector)),
    };
    let user = identity.name.clone();
    if !allowed {
        tracing::warn!(target: "tributary::audit", user, address = %peer.address, %method, path, "forbidden: needs the role {}", role.name());
        return forbidden(role, connector.as_deref()).into_response();
    }
    request.extensions_mut().insert(identity);
    let response = next.run(request).await;
    if !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        let status = response.status().as_u16();
        tracing::info!(target: "tributary::audit", user, address = %peer.address, %method, path, status, "request");
    }
    response
}

/// The subject is known and may not do this.
pub(in crate::rest) fn forbidden(role: Role, connector: Option<&str>) -> ApiError {
    let on = connector.map_or("the worker".to_owned(), |name| format!("connector {name}"));
    ApiError::new(
        StatusCode::FORBIDDEN,
        format!("this needs the role {} on {on}; an administrator can give it in rest.access.file", role.name()),
    )
}

/// Who sends a request, or the answer to somebody whom the worker does not know.
pub(in crate::rest) async fn identify(
    api: &Api,
    peer: &Peer,
    (method, path, headers): (&Method, &str, &HeaderMap),
) -> Result<Identity, Response> {
    let identified = match delegation::subject(api, method, path, headers) {
        Some(subject) => Ok(api.authenticator.known(subject)),
        None => api.authenticator.identify(headers, peer).await,
    };
    identified.map_err(|Refused(reason)| {
        tracing::warn!(target: "tributary::audit", address = %peer.address, %method, path, "refused: {reason}");
        unauthorized(api)
    })
}

fn unauthorized(api: &Api) -> Response {
    let message = "User cannot access the resource.";
    let mut response = ApiError::new(StatusCode::UNAUTHORIZED, message).into_response();
    if let Some(challenge) = api.authenticator.challenge() {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
    }
    response
}
