//! Finds out who sends a request.

use axum::http::{HeaderMap, HeaderValue, header};
use p12_keystore::Certificate;

use super::basic::Basic;
use super::bearer::{Bearer, BearerSettings};
use super::role::{AccessRules, Grant, Identity};
use super::watched_file::WatchedFile;
use crate::rest::listener::Peer;

/// `rest.authentication.methods` and what belongs to them.
#[derive(Debug, Clone, Default)]
pub struct AuthenticationSettings {
    /// `rest.basic.users.file`, with the method basic.
    pub basic: Option<String>,
    /// `rest.bearer.*`, with the method bearer.
    pub bearer: Option<BearerSettings>,
    /// The method mtls.
    pub certificates: bool,
    /// `rest.access.file`.
    pub access: Option<String>,
}

impl AuthenticationSettings {
    /// Whether everybody has to say who they are.
    pub fn required(&self) -> bool {
        self.basic.is_some() || self.bearer.is_some() || self.certificates
    }
}

/// Finds out who sends a request, by the methods that are configured.
pub struct Authenticator {
    basic: Option<Basic>,
    bearer: Option<Bearer>,
    certificates: bool,
    access: Option<WatchedFile<AccessRules>>,
    challenge: Option<HeaderValue>,
}

/// Nobody whom the worker knows. What exactly was wrong is for the log, not for the client.
pub(in crate::rest) struct Refused(pub String);

impl Authenticator {
    /// Opens the files; fails with what to do.
    pub fn open(settings: &AuthenticationSettings) -> Result<Self, String> {
        let basic = settings.basic.as_deref().map(Basic::open).transpose()?;
        let bearer = settings.bearer.clone().map(Bearer::open).transpose()?;
        let access = settings.access.as_deref();
        let access = access.map(|path| WatchedFile::open("rest.access.file", path, AccessRules::parse)).transpose()?;
        let schemes = [basic.is_some().then_some("Basic realm=\"tributary\""), bearer.is_some().then_some("Bearer")];
        let challenge = schemes.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let challenge = HeaderValue::try_from(challenge).ok().filter(|challenge| !challenge.is_empty());
        Ok(Self { basic, bearer, certificates: settings.certificates, access, challenge })
    }

    /// `WWW-Authenticate` of a refusal.
    pub(in crate::rest) fn challenge(&self) -> Option<&HeaderValue> {
        self.challenge.as_ref()
    }

    /// Who sends a request with these headers over this connection.
    pub(in crate::rest) async fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Result<Identity, Refused> {
        if self.basic.is_none() && self.bearer.is_none() && !self.certificates {
            return Ok(Identity::anonymous());
        }
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let (scheme, credentials) = value
                .to_str()
                .ok()
                .and_then(|value| value.trim().split_once(' '))
                .ok_or_else(|| Refused("Authorization has no scheme".to_owned()))?;
            return match (&self.basic, &self.bearer) {
                (Some(basic), _) if scheme.eq_ignore_ascii_case("basic") => {
                    let user = basic.user(credentials).await;
                    let user = user.ok_or_else(|| Refused("unknown user or wrong password".to_owned()))?;
                    Ok(self.identity(user, Vec::new()))
                }
                (_, Some(bearer)) if scheme.eq_ignore_ascii_case("bearer") => {
                    let subject = bearer.subject(credentials.trim()).await.map_err(Refused)?;
                    Ok(self.identity(subject.name, subject.grants))
                }
                _ => Err(Refused(format!("the scheme {scheme} is not configured"))),
            };
        }
        match &peer.certificate {
            Some(certificate) if self.certificates => match Certificate::from_der(certificate) {
                Ok(certificate) => Ok(self.identity(certificate.subject().to_owned(), Vec::new())),
                Err(error) => Err(Refused(format!("the client's certificate cannot be read: {error}"))),
            },
            _ => Err(Refused("no credentials".to_owned())),
        }
    }

    /// The subject of the client's certificate, where certificates count.
    pub(super) fn subject(&self, peer: &Peer) -> Option<String> {
        let certificate = peer.certificate.as_ref().filter(|_| self.certificates)?;
        Some(Certificate::from_der(certificate).ok()?.subject().to_owned())
    }

    /// Somebody whom another worker of the group has identified by certificate.
    pub(super) fn known(&self, subject: String) -> Identity {
        self.identity(subject, Vec::new())
    }

    /// Without an access file, whoever is known may do everything, as with Kafka Connect's own basic authentication.
    fn identity(&self, name: String, mut grants: Vec<Grant>) -> Identity {
        match &self.access {
            Some(access) => grants.extend(access.get().grants(&name)),
            None if grants.is_empty() => grants.push(Grant::everything()),
            None => {}
        }
        Identity::new(name, grants)
    }
}
