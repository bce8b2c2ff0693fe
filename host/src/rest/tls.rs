//! TLS of https listeners: `listeners.https.ssl.*`, or the worker's own `ssl.*` where those are not set, as in Kafka Connect.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;
use tributary_sdk::Config;
use ureq::tls::{RootCerts, TlsConfig};

use crate::tls;

/// Before the name of a property that is for listeners alone.
const PREFIX: &str = "listeners.https.";
/// And for those of `admin.listeners`.
const ADMIN_PREFIX: &str = "admin.listeners.https.";

fn lookup(properties: &Config, prefix: &str, name: &str) -> Option<String> {
    let own = properties.get(&format!("{prefix}{name}"));
    own.or_else(|| properties.get(name)).map(str::to_owned)
}

/// TLS towards other workers' https listeners: this worker's own certificate, and the trust that clients' are checked with;
/// the web's authorities where no truststore is named.
pub fn towards_peers(properties: &Config) -> Result<TlsConfig, String> {
    let property = |name: &str| lookup(properties, PREFIX, name);
    tls::outbound(&property, RootCerts::WebPki)
}

/// What https listeners speak, as the worker's properties say; the error names the property.
pub fn acceptor(properties: &Config) -> Result<TlsAcceptor, String> {
    made(properties, PREFIX)
}

/// The same for `admin.listeners`. With keys of their own these count alone, as in Kafka Connect.
pub fn admin_acceptor(properties: &Config) -> Result<TlsAcceptor, String> {
    let own = properties.0.keys().any(|key| key.starts_with(ADMIN_PREFIX));
    if own { made(&properties.with_prefix(ADMIN_PREFIX), "") } else { made(properties, "") }
}

fn made(properties: &Config, prefix: &str) -> Result<TlsAcceptor, String> {
    let property = |name: &str| lookup(properties, prefix, name);
    let identity = tls::identity(&property)?.ok_or_else(|| {
        format!("an https listener needs a certificate: set {prefix}ssl.keystore.location (PEM, PKCS12 or JKS), with ssl.keystore.password")
    })?;
    let provider = tls::provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&tls::protocol_versions(&property)?)
        .map_err(|error| format!("ssl.enabled.protocols: {error}"))?;
    let builder = match property("ssl.client.auth").as_deref().map(str::trim) {
        None | Some("" | "none") => builder.with_no_client_auth(),
        Some(auth @ ("required" | "requested")) => {
            let trusted = tls::trusted(&property)?.ok_or_else(|| {
                format!("ssl.client.auth={auth} needs {prefix}ssl.truststore.location: the certificates that clients' have to lead to")
            })?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(tls::roots(trusted)?), provider);
            let verifier = if auth == "requested" { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("ssl.truststore: {error}"))?)
        }
        Some(other) => {
            return Err(format!(
                "invalid value {other} for configuration ssl.client.auth: write required, requested or none"
            ));
        }
    };
    let mut config = builder
        .with_single_cert(identity.chain, identity.key)
        .map_err(|error| format!("ssl.keystore: the key and the certificate do not fit: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
