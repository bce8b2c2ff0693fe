//! What TLS connections are made with.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{WireError, refused};
use crate::group::wire::WireErrorKind;
use crate::log::ClientSettings;
use crate::tls::{self, Lookup};

/// Trust, the client's own certificate, versions.
pub(in crate::group::wire) struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, WireError> {
        let wrong = |reason: String| WireError::new(WireErrorKind::Setting, format!("client setting {reason}"));
        let property = |name: &str| settings.get(name).cloned();
        let roots = roots(&property).map_err(wrong)?;
        let verifier = Arc::new(tls::Verifier::new(roots, tls::checks_names(&property)).map_err(wrong)?);
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&tls::protocol_versions(&property).map_err(wrong)?)
            .map_err(|error| wrong(format!("ssl.enabled.protocols: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match tls::identity(&property).map_err(wrong)? {
            None => config.with_no_client_auth(),
            Some(identity) => config
                .with_client_auth_cert(identity.chain, identity.key)
                .map_err(|error| wrong(format!("ssl.keystore.*: {error}")))?,
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The handshake with the broker `host:port`.
    pub(in crate::group::wire) async fn connect(
        &self,
        server: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, WireError> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| refused(format!("broker {server}: {host} is not a host name that a certificate can have")))?;
        self.0.connect(name, stream).await.map_err(|error| {
            // A broker that is going away in the handshake is away; what TLS itself says is a refusal.
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(reason) => refused(format!("broker {server}: TLS: {reason}{}", advice(reason))),
                None => WireError::away(format!("broker {server}: the connection broke in the TLS handshake: {error}")),
            }
        })
    }
}

fn advice(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "; its certificate's issuer is not in ssl.truststore.location (or ssl.truststore.certificates)"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "; its certificate has to name this host as a subject alternative name, or set ssl.endpoint.identification.algorithm to nothing"
        }
        rustls::Error::InvalidMessage(_) => "; is this a TLS listener? Check security.protocol and the port",
        rustls::Error::AlertReceived(_) => "; if it wants a client certificate, set ssl.keystore.*",
        _ => "",
    }
}

fn roots(property: Lookup<'_>) -> Result<RootCertStore, String> {
    if let Some(trusted) = tls::trusted(property)? {
        return tls::roots(trusted);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("ssl.truststore.location: it is not set, and this system has no certificates of its own".to_owned());
    }
    Ok(roots)
}
