//! Certificates and keys as the properties name them.
//!
//! Truststores and keystores may be PEM, JKS or PKCS12, whatever `ssl.*.type` says if the file begins otherwise: Java reads
//! a PKCS12 file as `JKS` too, and JKS is what the type is by default. Besides Java's names those of librdkafka are read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::jks::{self, Passwords};
use super::{Lookup, pkcs12, private_key};

/// A certificate chain, the key's own certificate first, and the private key, unencrypted PKCS8.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        certificates_pem(&self.chain)
    }

    /// The key as PEM.
    pub fn key_pem(&self) -> String {
        let label = match &self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem(label, self.key.secret_der())
    }
}

/// What a store holds.
pub(super) struct Store {
    /// Certificates to trust.
    pub(super) trusted: Vec<CertificateDer<'static>>,
    /// A chain and its key, or why it cannot be had: whoever wants certificates alone need not know its password.
    pub(super) pair: Option<Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String>>,
}

/// The certificates to trust, one at least, or `None` where no property names any: the caller knows whom to trust then.
pub fn trusted(property: Lookup<'_>) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
    for name in ["ssl.truststore.certificates", "ssl.ca.pem"] {
        if let Some(text) = present(property, name) {
            return certificates(&unfold(&text)).map(Some).map_err(|reason| format!("{name}: {reason}"));
        }
    }
    for name in ["ssl.truststore.location", "ssl.ca.location"] {
        let Some(path) = present(property, name) else { continue };
        let content = read(name, &path)?;
        let password = present(property, "ssl.truststore.password");
        let found = match Format::of(&content) {
            Format::Pem => certificates(&String::from_utf8_lossy(&content)),
            Format::Jks => {
                let passwords = Passwords { store: password.as_deref(), key: None };
                jks::read(&content, &passwords, "ssl.truststore.password").map(|store| store.trusted)
            }
            Format::Pkcs12 => {
                pkcs12::read(&content, password.as_deref(), "ssl.truststore.password").map(|store| store.trusted)
            }
            Format::Unknown => Err(UNKNOWN.to_owned()),
        };
        let found = found.and_then(some).map_err(|reason| format!("{name}={path}: {reason}"))?;
        return Ok(Some(found));
    }
    Ok(None)
}

/// One's own certificate and key, where properties name them.
pub fn identity(property: Lookup<'_>) -> Result<Option<Identity>, String> {
    let key_password = present(property, "ssl.key.password");
    let missing = |set: &str, other: &str| format!("{set} is set and {other} is not");
    let inline = [("ssl.keystore.certificate.chain", "ssl.keystore.key"), ("ssl.certificate.pem", "ssl.key.pem")];
    for (chain_name, key_name) in inline {
        let (chain, key) = match (present(property, chain_name), present(property, key_name)) {
            (None, None) => continue,
            (None, Some(_)) => return Err(missing(key_name, chain_name)),
            (Some(_), None) => return Err(missing(chain_name, key_name)),
            (Some(chain), Some(key)) => (chain, key),
        };
        let chain = certificates(&unfold(&chain)).map_err(|reason| format!("{chain_name}: {reason}"))?;
        let key = private_key::from_pem(&unfold(&key), key_password.as_deref())
            .map_err(|reason| format!("{key_name}: {reason}"))?;
        return Ok(Some(Identity { chain, key }));
    }
    let name = "ssl.certificate.location";
    if let Some(path) = present(property, name) {
        let key_name = "ssl.key.location";
        let key_path = present(property, key_name).ok_or_else(|| missing(name, key_name))?;
        let chain = certificates(&String::from_utf8_lossy(&read(name, &path)?))
            .map_err(|reason| format!("{name}={path}: {reason}"))?;
        let key = private_key::from_pem(&String::from_utf8_lossy(&read(key_name, &key_path)?), key_password.as_deref())
            .map_err(|reason| format!("{key_name}={key_path}: {reason}"))?;
        return Ok(Some(Identity { chain, key }));
    }
    let name = "ssl.keystore.location";
    let Some(path) = present(property, name) else { return Ok(None) };
    let content = read(name, &path)?;
    let password = present(property, "ssl.keystore.password");
    let (store, key) = (password.as_deref(), key_password.as_deref());
    let pair = match Format::of(&content) {
        Format::Pem => pem_identity(&String::from_utf8_lossy(&content), key.or(store)),
        Format::Jks => jks::read(&content, &Passwords { store, key }, "ssl.keystore.password").and_then(pair),
        Format::Pkcs12 => pkcs12::read(&content, store, "ssl.keystore.password").and_then(pair),
        Format::Unknown => Err(UNKNOWN.to_owned()),
    };
    let (chain, key) = pair.map_err(|reason| format!("{name}={path}: {reason}"))?;
    Ok(Some(Identity { chain, key }))
}

fn pair(store: Store) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    store.pair.ok_or("there are certificates in it, but no private key")?
}

fn pem_identity(
    text: &str,
    password: Option<&str>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    Ok((certificates(text)?, private_key::from_pem(text, password)?))
}

const UNKNOWN: &str = "it is neither PEM nor JKS nor PKCS12; keytool -importkeystore with -deststoretype PKCS12 converts other stores of Java";

/// What a store is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Pem,
    Jks,
    Pkcs12,
    Unknown,
}

/// The format of the file that a setting names.
pub(crate) fn format(name: &str, path: &str) -> Result<Format, String> {
    read(name, path).map(|content| Format::of(&content))
}

impl Format {
    fn of(content: &[u8]) -> Self {
        match content {
            _ if content.starts_with(jks::MAGIC) => Self::Jks,
            // A DER sequence.
            [0x30, ..] => Self::Pkcs12,
            _ if content.windows(11).any(|part| part == b"-----BEGIN ") => Self::Pem,
            _ => Self::Unknown,
        }
    }
}

/// A property's text; empty counts as not set.
fn present(property: Lookup<'_>, name: &str) -> Option<String> {
    property(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn read(name: &str, path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path.trim()).map_err(|error| format!("{name}={}: {error}", path.trim()))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.map_err(|error| format!("its certificates cannot be read: {error}")).and_then(some)
}

fn some(certificates: Vec<CertificateDer<'static>>) -> Result<Vec<CertificateDer<'static>>, String> {
    if certificates.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(certificates) }
}

/// Properties files hold PEM in one line, with spaces or `\n` where lines were.
fn unfold(pem: &str) -> String {
    let pem = pem.replace("\\n", "\n");
    let mut out = String::with_capacity(pem.len() + 16);
    let mut rest = pem.as_str();
    while let Some(begin) = rest.find("-----BEGIN ") {
        let Some(label_end) = rest[begin + 11..].find("-----") else { break };
        let label = &rest[begin + 11..begin + 11 + label_end];
        let end = format!("-----END {label}-----");
        let body_begin = begin + 11 + label_end + 5;
        let Some(body_end) = rest[body_begin..].find(&end) else { break };
        let body: String = rest[body_begin..body_begin + body_end].split_whitespace().collect::<Vec<_>>().join("\n");
        out.push_str(&format!("-----BEGIN {label}-----\n{body}\n{end}\n"));
        rest = &rest[body_begin + body_end + end.len()..];
    }
    out
}

/// Certificates as PEM.
pub(crate) fn certificates_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| pem("CERTIFICATE", der)).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_in_one_line_is_unfolded() {
        let folded =
            "-----BEGIN CERTIFICATE----- QUJD REVG -----END CERTIFICATE-----\\n-----BEGIN X-----QQ==-----END X-----";
        assert_eq!(
            unfold(folded),
            "-----BEGIN CERTIFICATE-----\nQUJD\nREVG\n-----END CERTIFICATE-----\n-----BEGIN X-----\nQQ==\n-----END X-----\n"
        );
    }

    #[test]
    fn damaged_stores_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        for (bytes, part) in [
            (&b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x09"[..], "damaged"),
            (b"\x30\x03abc", "no PKCS12 store, or ssl.truststore.password"),
            (b"hello", "neither PEM nor JKS nor PKCS12"),
            (b"-----BEGIN X-----\nQQ==\n-----END X-----\n", "there is no certificate in it"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let path = file.display().to_string();
            let error = trusted(&|name| (name == "ssl.truststore.location").then(|| path.clone())).unwrap_err();
            assert!(error.contains(part) && error.contains("ssl.truststore.location"), "{error}");
        }
    }
}
