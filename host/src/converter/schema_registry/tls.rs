//! TLS towards the registry: `schema.registry.ssl.*`, or the same keys without that prefix.
//!
//! Certificates and keys are PEM (files, or text in the config as Kafka has it) or PKCS#12. Without a trust store, servers are
//! checked against Mozilla's roots. What cannot be read is an error that names the key, the file, and how to make one that can.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use rustls::pki_types::PrivateKeyDer;
use tributary_sdk::{Config, Error, Result};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// The first bytes of Java's own store format.
const JKS_MAGIC: &[u8] = &[0xFE, 0xED, 0xFE, 0xED];

/// Of a converter's own config.
pub fn tls_config(config: &Config) -> Result<TlsConfig> {
    let property = |name: &str| {
        let set = |key: String| config.get(&key).filter(|value| !value.trim().is_empty()).map(str::to_owned);
        set(format!("schema.registry.ssl.{name}")).or_else(|| set(format!("ssl.{name}")))
    };
    if ["schema.registry.ssl.", "ssl."].iter().any(|prefix| {
        config.get(&format!("{prefix}endpoint.identification.algorithm")).is_some_and(|v| v.trim().is_empty())
    }) {
        return Err(Error::failed(
            "schema.registry.ssl.endpoint.identification.algorithm: a registry's name is always checked against its certificate; \
             leave the key out, and give the registry a certificate with the name in schema.registry.url",
        ));
    }
    let mut builder = TlsConfig::builder();
    if let Some(pem) = property("truststore.certificates") {
        builder =
            builder.root_certs(roots("schema.registry.ssl.truststore.certificates", certificates(pem.as_bytes()))?);
    } else if let Some(path) = property("truststore.location") {
        let store = Store::read("truststore", &path, property("truststore.password").as_deref())?;
        builder = builder.root_certs(roots("schema.registry.ssl.truststore.location", store.trusted)?);
    }
    let pair = match (property("keystore.certificate.chain"), property("keystore.key"), property("keystore.location")) {
        (Some(chain), Some(key), _) => {
            Some((certificates(chain.as_bytes()), private_key(key.as_bytes()), "schema.registry.ssl.keystore.key"))
        }
        (_, _, Some(path)) => {
            let password = property("keystore.password").or_else(|| property("key.password"));
            let store = Store::read("keystore", &path, password.as_deref())?;
            Some((store.chain, store.key, "schema.registry.ssl.keystore.location"))
        }
        _ => None,
    };
    if let Some((chain, key, name)) = pair {
        let key = key.filter(|_| !chain.is_empty()).ok_or_else(|| {
            Error::failed(format!(
                "{name}: there is no certificate with a private key that is not encrypted; remove an encryption with: openssl pkcs8 -in key.pem -out plain.pem"
            ))
        })?;
        // The client would panic over a key that it cannot use.
        let usable = PrivateKeyDer::try_from(key.der()).map_err(str::to_owned).and_then(|key| {
            rustls::crypto::ring::sign::any_supported_type(&key).map(drop).map_err(|error| error.to_string())
        });
        usable.map_err(|error| {
            Error::failed(format!(
                "{name}: the private key cannot be used ({error}); RSA keys can, and EC keys that have their public key beside them, \
                 which keytool leaves out and openssl does not"
            ))
        })?;
        builder = builder.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(builder.build())
}

fn roots(key: &str, certificates: Vec<Certificate<'static>>) -> Result<RootCerts> {
    if certificates.is_empty() {
        return Err(Error::failed(format!("{key}: there is no certificate in it")));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    parse_pem(pem).filter_map(certificate).collect()
}

fn private_key(pem: &[u8]) -> Option<PrivateKey<'static>> {
    parse_pem(pem).find_map(|item| match item {
        Ok(PemItem::PrivateKey(key)) => Some(key),
        _ => None,
    })
}

/// A PKCS#8 key as PEM.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

/// What a file holds.
struct Store {
    trusted: Vec<Certificate<'static>>,
    chain: Vec<Certificate<'static>>,
    key: Option<PrivateKey<'static>>,
}

impl Store {
    fn read(what: &str, path: &str, password: Option<&str>) -> Result<Self> {
        let path = path.trim();
        let name = format!("schema.registry.ssl.{what}.location");
        let content =
            std::fs::read(path).map_err(|error| Error::failed(format!("{name}: cannot read {path}: {error}")))?;
        if content.windows(11).any(|window| window == b"-----BEGIN ") {
            let all = certificates(&content);
            return Ok(Self { trusted: all.clone(), chain: all, key: private_key(&content) });
        }
        if content.starts_with(JKS_MAGIC) {
            return Err(Error::failed(format!(
                "{name}: {path} is in Java's JKS format, which is not read here; convert it: keytool -importkeystore -srckeystore {path} \
                 -destkeystore {path}.p12 -deststoretype PKCS12"
            )));
        }
        let store = KeyStore::from_pkcs12(&content, password.unwrap_or_default(), Pkcs12ImportPolicy::Relaxed)
            .map_err(|error| {
                Error::failed(format!(
                    "{name}: {path} is neither PEM nor a PKCS#12 store that its password opens ({error}); check the file and schema.registry.ssl.{what}.password"
                ))
            })?;
        let owned = |certificate: &p12_keystore::Certificate| Certificate::from_der(certificate.as_der()).to_owned();
        let trusted = store.entries().filter_map(|(_, entry)| match entry {
            KeyStoreEntry::Certificate(certificate) => Some(owned(certificate)),
            _ => None,
        });
        let pair = store.private_key_chain().map(|(_, chain)| chain);
        Ok(Self {
            trusted: trusted.collect(),
            chain: pair.map_or_else(Vec::new, |pair| pair.certs().iter().map(owned).collect()),
            key: pair.and_then(|pair| private_key(pem(pair.key().as_der()).as_bytes())),
        })
    }
}
