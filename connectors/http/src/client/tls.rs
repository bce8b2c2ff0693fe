//! TLS towards servers: whom to trust, and the certificate to show. PEM, inline or from files.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tributary_sdk::Config;

use crate::config::keys;

/// Reads the `ssl.*` keys; the error begins with the key to blame.
pub(crate) fn client_config(config: &Config) -> Result<Arc<ClientConfig>, (String, String)> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| (keys::TRUSTSTORE.to_owned(), error.to_string()))?
        .with_root_certificates(roots(config)?);
    let built = match identity(config)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| (keys::KEYSTORE.to_owned(), format!("certificate and key cannot be used: {error}")))?,
    };
    Ok(Arc::new(built))
}

/// TLS of a listener, where the config has a certificate for it.
pub(crate) fn server_tls(config: &Config) -> Result<Option<Arc<ServerConfig>>, (String, String)> {
    let Some((chain, key)) = identity(config)? else { return Ok(None) };
    let unusable =
        |error: rustls::Error| (keys::KEYSTORE.to_owned(), format!("certificate and key cannot be used: {error}"));
    let built = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    Ok(Some(Arc::new(built)))
}

/// Whether a certificate of one's own is shown.
pub(crate) fn has_identity(config: &Config) -> bool {
    [keys::KEYSTORE, keys::KEYSTORE_CHAIN].iter().any(|key| present(config, key).is_some())
}

fn present<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    config.get(key).map(str::trim).filter(|text| !text.is_empty())
}

fn roots(config: &Config) -> Result<RootCertStore, (String, String)> {
    let mut roots = RootCertStore::empty();
    let (key, pem) = match (present(config, keys::TRUSTSTORE_CERTIFICATES), present(config, keys::TRUSTSTORE)) {
        (Some(inline), _) => (keys::TRUSTSTORE_CERTIFICATES, unfold(inline).into_bytes()),
        (None, Some(path)) => (keys::TRUSTSTORE, read(keys::TRUSTSTORE, path)?),
        (None, None) => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                // A machine (a small container, say) without certificates of its own.
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            return Ok(roots);
        }
    };
    for certificate in certificates(key, &pem)? {
        roots
            .add(certificate)
            .map_err(|error| (key.to_owned(), format!("a certificate cannot be trusted: {error}")))?;
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(config: &Config) -> Result<Option<Identity>, (String, String)> {
    let inline = (present(config, keys::KEYSTORE_CHAIN), present(config, keys::KEYSTORE_KEY));
    let (key, chain, private) = match (inline, present(config, keys::KEYSTORE)) {
        ((Some(chain), Some(private)), _) => {
            (keys::KEYSTORE_KEY, unfold(chain).into_bytes(), unfold(private).into_bytes())
        }
        ((Some(_), None), _) => {
            return Err((keys::KEYSTORE_KEY.to_owned(), "the chain is set and the key is not".to_owned()));
        }
        ((None, Some(_)), _) => {
            return Err((keys::KEYSTORE_CHAIN.to_owned(), "the key is set and the chain is not".to_owned()));
        }
        ((None, None), Some(path)) => {
            let both = read(keys::KEYSTORE, path)?;
            (keys::KEYSTORE, both.clone(), both)
        }
        ((None, None), None) => return Ok(None),
    };
    let chain = certificates(key, &chain)?;
    let private = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|_| (key.to_owned(), "there is no unencrypted private key in it (PEM)".to_owned()))?;
    Ok(Some((chain, private)))
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, (String, String)> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err((key.to_owned(), "there is no certificate in it (PEM)".to_owned())),
    }
}

fn read(key: &str, path: &str) -> Result<Vec<u8>, (String, String)> {
    std::fs::read(path).map_err(|error| (key.to_owned(), format!("cannot read {path}: {error}")))
}

/// Inline PEM whose line ends became `\n` in two characters or blanks on the way through properties and JSON.
fn unfold(pem: &str) -> String {
    let pem = pem.replace("\\n", "\n");
    if pem.contains('\n') {
        return pem;
    }
    let mut lines = String::with_capacity(pem.len());
    for part in pem.split("-----").filter(|part| !part.trim().is_empty()) {
        if part.starts_with("BEGIN ") || part.starts_with("END ") {
            lines.push_str("-----");
            lines.push_str(part);
            lines.push_str("-----\n");
        } else {
            lines.push_str(&part.trim().replace(' ', "\n"));
            lines.push('\n');
        }
    }
    lines
}
