//! TLS material as Kafka's properties name it: `ssl.keystore.*`, `ssl.key.password`, `ssl.truststore.*`.
//!
//! PEM (files, or text in the property itself) and PKCS#12 are read. What cannot be read is an error that names the property,
//! the file, and how to make one that can.

mod key_store;
mod pkcs12;
mod trust_store;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use key_store::KeyStore;
pub use trust_store::{trust_roots, trusted_certificates};

/// Finds a property by its name without any prefix (`ssl.keystore.location`).
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The one implementation of cryptography for TLS in this worker.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
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

/// The type of a store: as the property says, or as its first bytes tell, since Java's JKS type reads PKCS#12 as well.
fn is_pem(declared: Option<&str>, content: &[u8]) -> bool {
    declared.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("PEM"))
        || content.windows(11).any(|window| window == b"-----BEGIN ")
}

/// Reads a file that a property names.
fn read(property: &str, path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path.trim()).map_err(|error| format!("{property}: cannot read {}: {error}", path.trim()))
}
