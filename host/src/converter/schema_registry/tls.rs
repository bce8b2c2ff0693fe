//! TLS towards the registry: `schema.registry.ssl.*`, or the same keys without that prefix.
//!
//! Stores are read as everywhere ([`crate::tls`]): PEM, JKS or PKCS12. Without a truststore, servers are checked against
//! Mozilla's roots. Their names are checked, unless `ssl.endpoint.identification.algorithm` is set to nothing.

use tributary_sdk::{Config, Error, Result};
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::tls::RootCerts;
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};

use crate::tls::{self, UnnamedTls};

/// A client that speaks TLS as a converter's own config says.
pub fn agent(builder: ConfigBuilder<AgentScope>, config: &Config) -> Result<Agent> {
    let set = |name: &str| config.get(&format!("schema.registry.{name}")).or_else(|| config.get(name));
    let property = |name: &str| {
        let filled = |key: &str| config.get(key).filter(|value| !value.trim().is_empty()).map(str::to_owned);
        filled(&format!("schema.registry.{name}")).or_else(|| filled(name))
    };
    // Each reason begins with the name of a key.
    let named =
        |reason: String| Error::failed(format!("schema.registry.{}", reason.replace(" ssl.", " schema.registry.ssl.")));
    // Of this key alone, nothing is a value.
    if tls::checks_names(&|name| set(name).map(str::to_owned)) {
        let tls = tls::outbound(&property, RootCerts::WebPki).map_err(named)?;
        return Ok(builder.tls_config(tls).build().new_agent());
    }
    tracing::warn!(
        "schema.registry.ssl.endpoint.identification.algorithm is empty: any certificate of the truststore's issuers is taken, whatever name it has"
    );
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(UnnamedTls::new(&property).map_err(named)?);
    Ok(Agent::with_parts(builder.build(), connector, DefaultResolver::default()))
}
