//! TLS of HTTP clients: towards other workers, token endpoints and schema registries.

use rustls::pki_types::CertificateDer;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::{Lookup, identity, trusted};

/// Whom the properties say to trust, and the certificate to show; `else_trusted` where they name nobody.
pub fn outbound(property: Lookup<'_>, else_trusted: RootCerts) -> Result<TlsConfig, String> {
    let mut tls = TlsConfig::builder().root_certs(else_trusted);
    if let Some(trusted) = trusted(property)? {
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates(&trusted)));
    }
    if let Some(identity) = identity(property)? {
        // The client would panic over a key that it cannot use.
        rustls::crypto::ring::sign::any_supported_type(&identity.key)
            .map_err(|error| format!("ssl.keystore: the private key cannot be used: {error}"))?;
        // It takes keys by PEM alone.
        let key = PrivateKey::from_pem(identity.key_pem().as_bytes())
            .map_err(|error| format!("ssl.keystore: the private key cannot be used: {error}"))?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&certificates(&identity.chain), key)));
    }
    Ok(tls.build())
}

fn certificates(found: &[CertificateDer<'_>]) -> Vec<Certificate<'static>> {
    found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}
