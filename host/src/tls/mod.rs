//! TLS material as Kafka's properties name it: `ssl.keystore.*`, `ssl.key.password`, `ssl.truststore.*`.
//!
//! | File | Noun |
//! |---|---|
//! | `stores` | which certificates and keys the properties name: PEM, JKS or PKCS12, inline or from files |
//! | `jks`, `pkcs12` | Java's two formats of stores |
//! | `private_key` | keys out of encryption, as the TLS library takes them |
//! | `outbound` | TLS of HTTP clients |
//! | `unnamed` | the same, where servers' names are not to be checked |
//! | `verifier` | servers' certificates |
//!
//! One reader for all that speaks TLS here (the REST API and its clients, the data and group clients of Kafka, tokens, schema
//! registries), so that a store which serves one serves all. What cannot be read is an error that begins with the property and
//! the file, and says what to do.

mod jks;
mod outbound;
mod pkcs12;
mod private_key;
pub(crate) mod stores;
mod unnamed;
mod verifier;

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

pub use outbound::outbound;
pub use stores::{Identity, identity, trusted};
pub use unnamed::UnnamedTls;
pub use verifier::{Verifier, checks_names};

/// Finds a property by its name without any prefix (`ssl.keystore.location`).
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The one implementation of cryptography for TLS in this worker.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Certificates to check others against.
pub fn roots(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| format!("ssl.truststore: a certificate cannot be trusted: {error}"))?;
    }
    Ok(roots)
}

/// The versions that `ssl.enabled.protocols` allows; TLS 1.2 and 1.3 if it is not set.
pub fn protocol_versions(property: Lookup<'_>) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, String> {
    let Some(enabled) = property("ssl.enabled.protocols").filter(|text| !text.trim().is_empty()) else {
        return Ok(rustls::ALL_VERSIONS.to_vec());
    };
    let mut versions = Vec::new();
    for name in enabled.split(',').map(str::trim) {
        match name {
            "TLSv1.3" => versions.push(&rustls::version::TLS13),
            "TLSv1.2" => versions.push(&rustls::version::TLS12),
            // Older ones are listed in many old files beside the newer, and are never spoken.
            "TLSv1.1" | "TLSv1" | "SSLv3" | "SSLv2Hello" => {}
            _ => {
                return Err(format!(
                    "invalid value {enabled} for configuration ssl.enabled.protocols: {name} is not a protocol; write TLSv1.2,TLSv1.3"
                ));
            }
        }
    }
    if versions.is_empty() {
        return Err(format!(
            "invalid value {enabled} for configuration ssl.enabled.protocols: TLSv1.2 or TLSv1.3 has to be among them"
        ));
    }
    Ok(versions)
}
