//! TLS towards the registry: `schema.registry.ssl.*`, or the same keys without that prefix.
//!
//! Stores are read as everywhere ([`crate::tls`]): PEM, JKS or PKCS12. Without a truststore, servers are checked against
//! Mozilla's roots.

use tributary_sdk::{Config, Error, Result};
use ureq::tls::{RootCerts, TlsConfig};

use crate::tls;

/// Of a converter's own config.
pub fn tls_config(config: &Config) -> Result<TlsConfig> {
    let property = |name: &str| {
        let set = |key: &str| config.get(key).filter(|value| !value.trim().is_empty()).map(str::to_owned);
        set(&format!("schema.registry.{name}")).or_else(|| set(name))
    };
    if ["schema.registry.", ""].iter().any(|prefix| {
        config.get(&format!("{prefix}ssl.endpoint.identification.algorithm")).is_some_and(|v| v.trim().is_empty())
    }) {
        return Err(Error::failed(
            "schema.registry.ssl.endpoint.identification.algorithm: a registry's name is always checked against its certificate; \
             leave the key out, and give the registry a certificate with the name in schema.registry.url",
        ));
    }
    // Each reason begins with the name of a key.
    let named = |reason: String| format!("schema.registry.{}", reason.replace(" ssl.", " schema.registry.ssl."));
    tls::outbound(&property, RootCerts::WebPki).map_err(|reason| Error::failed(named(reason)))
}
