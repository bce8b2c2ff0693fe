//! Certificates and keys as the Java client's settings name them, given back as PEM.
//!
//! Truststores and keystores may be PEM, JKS or PKCS12, whatever `ssl.*.type` says if the file begins otherwise: Java reads
//! a PKCS12 file as `JKS` too, and JKS is what the type is by default.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::bn::BigNumContext;
use openssl::ec::{EcKey, EcPoint};
use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::text;
use crate::log::ClientSettings;

/// A certificate chain and its private key, unencrypted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// The certificates to trust, or `None` where no setting names any: those of the system.
pub(crate) fn trusted(settings: &ClientSettings) -> Result<Option<String>, String> {
    for name in ["ssl.truststore.certificates", "ssl.ca.pem"] {
        if let Some(pem) = text(settings, name) {
            return Ok(Some(unfold(pem)));
        }
    }
    for name in ["ssl.truststore.location", "ssl.ca.location"] {
        let Some(path) = text(settings, name) else { continue };
        let bytes = read(name, path)?;
        let password = text(settings, "ssl.truststore.password");
        let certificates = match Format::of(&bytes) {
            Format::Pem => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Format::Jks => jks(&bytes).map(|entries| entries.certificates),
            Format::Pkcs12 => pkcs12(&bytes, password.unwrap_or_default()).map(|store| store.certificates),
            Format::Unknown => Err("it is neither PEM nor JKS nor PKCS12".to_owned()),
        };
        let certificates = certificates.map_err(|reason| format!("{name}={path}: {reason}"))?;
        if certificates.is_empty() {
            return Err(format!("{name}={path}: there is no trusted certificate in it"));
        }
        return Ok(Some(certificates.iter().map(|der| pem("CERTIFICATE", der)).collect()));
    }
    Ok(None)
}

/// The client's own certificate and key, where settings name them.
pub(crate) fn identity(settings: &ClientSettings) -> Result<Option<Identity>, String> {
    let key_password = text(settings, "ssl.key.password");
    for (chain, key) in [("ssl.keystore.certificate.chain", "ssl.keystore.key"), ("ssl.certificate.pem", "ssl.key.pem")]
    {
        if let Some(certificates) = text(settings, chain) {
            let private = text(settings, key).ok_or_else(|| format!("{chain} is set and {key} is not"))?;
            let key = decrypted(&unfold(private), key_password).map_err(|reason| format!("{key}: {reason}"))?;
            return Ok(Some(Identity { chain: unfold(certificates), key }));
        }
    }
    if let Some(path) = text(settings, "ssl.certificate.location") {
        let name = "ssl.key.location";
        let key_path = text(settings, name).ok_or("ssl.certificate.location is set and ssl.key.location is not")?;
        let chain = String::from_utf8_lossy(&read("ssl.certificate.location", path)?).into_owned();
        let key = decrypted(&String::from_utf8_lossy(&read(name, key_path)?), key_password)
            .map_err(|reason| format!("{name}={key_path}: {reason}"))?;
        return Ok(Some(Identity { chain, key }));
    }
    let name = "ssl.keystore.location";
    let Some(path) = text(settings, name) else { return Ok(None) };
    let bytes = read(name, path)?;
    let password = text(settings, "ssl.keystore.password");
    let identity = match Format::of(&bytes) {
        Format::Pem => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            decrypted(&text, key_password.or(password)).map(|key| Identity { chain: text, key })
        }
        Format::Jks => jks_identity(&bytes, key_password.or(password)),
        Format::Pkcs12 => pkcs12(&bytes, password.unwrap_or_default())
            .and_then(|store| store.identity.ok_or_else(|| "there is no private key in it".to_owned())),
        Format::Unknown => Err("it is neither PEM nor JKS nor PKCS12".to_owned()),
    };
    identity.map(Some).map_err(|reason| format!("{name}={path}: {reason}"))
}

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
    read(name, path).map(|bytes| Format::of(&bytes))
}

impl Format {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xfe, 0xed, 0xfe, 0xed, ..] => Self::Jks,
            // A DER sequence.
            [0x30, ..] => Self::Pkcs12,
            _ if bytes.windows(11).any(|part| part == b"-----BEGIN ") => Self::Pem,
            _ => Self::Unknown,
        }
    }
}

fn read(name: &str, path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{name}={path}: {error}"))
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

/// The private key in a PEM text, without encryption.
fn decrypted(text: &str, password: Option<&str>) -> Result<String, String> {
    let key = match password {
        Some(password) => PKey::private_key_from_pem_passphrase(text.as_bytes(), password.as_bytes()),
        // Without a password OpenSSL would ask on the terminal.
        None if text.contains("ENCRYPTED") => return Err("the key is encrypted: set ssl.key.password".to_owned()),
        None => PKey::private_key_from_pem(text.as_bytes()),
    };
    let key = key.map_err(|_| {
        if password.is_some() {
            "there is no private key in it, or ssl.key.password is not the right one".to_owned()
        } else {
            "there is no private key in it".to_owned()
        }
    })?;
    to_pem(key)
}

/// PKCS8 with the public key in it: Java leaves that out of keys on elliptic curves, and the TLS library wants it.
fn to_pem(key: PKey<Private>) -> Result<String, String> {
    let whole = || -> Result<Vec<u8>, ErrorStack> {
        let Ok(curve) = key.ec_key() else { return key.private_key_to_pem_pkcs8() };
        let (group, number) = (curve.group(), curve.private_key());
        let mut public = EcPoint::new(group)?;
        let mut context = BigNumContext::new()?;
        public.mul_generator2(group, number, &mut context)?;
        let whole = EcKey::from_private_components(group, number, &public)?;
        PKey::from_ec_key(whole)?.private_key_to_pem_pkcs8()
    };
    whole().map_err(|error| error.to_string()).and_then(utf8)
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

struct Store {
    certificates: Vec<Vec<u8>>,
    identity: Option<Identity>,
}

fn pkcs12(bytes: &[u8], password: &str) -> Result<Store, String> {
    let store = Pkcs12::from_der(bytes)
        .and_then(|store| store.parse2(password))
        .map_err(|_| "it is no PKCS12 store, or its password is not the right one".to_owned())?;
    let mut certificates = Vec::new();
    let others: Vec<_> = store.ca.iter().flatten().collect();
    for certificate in &others {
        certificates.push(certificate.to_der().map_err(|error| error.to_string())?);
    }
    let identity = match (&store.cert, &store.pkey) {
        (Some(certificate), Some(key)) => {
            let mut chain = utf8(certificate.to_pem().map_err(|error| error.to_string())?)?;
            for der in &certificates {
                chain.push_str(&pem("CERTIFICATE", der));
            }
            Some(Identity { chain, key: to_pem(key.clone())? })
        }
        _ => None,
    };
    if let Some(certificate) = &store.cert {
        certificates.push(certificate.to_der().map_err(|error| error.to_string())?);
    }
    Ok(Store { certificates, identity })
}

/// What is in a JKS file.
#[derive(Default)]
struct Jks {
    certificates: Vec<Vec<u8>>,
    /// Encrypted keys with their chains.
    keys: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

/// The entries of a JKS file. Its certificates are not encrypted; its own digest is not looked at, as Java does without a password.
fn jks(bytes: &[u8]) -> Result<Jks, String> {
    let mut rest = Bytes(bytes);
    let damaged = || "the JKS store is damaged".to_owned();
    let mut entries = Jks::default();
    let mut read = || -> Option<()> {
        rest.u32()?;
        let version = rest.u32()?;
        let count = rest.u32()?;
        for _ in 0..count {
            let tag = rest.u32()?;
            rest.text()?;
            rest.take(8)?;
            match tag {
                1 => {
                    let length = rest.u32()? as usize;
                    let key = rest.take(length)?.to_vec();
                    let mut chain = Vec::new();
                    for _ in 0..rest.u32()? {
                        chain.push(rest.certificate(version)?);
                    }
                    entries.keys.push((key, chain));
                }
                2 => entries.certificates.push(rest.certificate(version)?),
                _ => return None,
            }
        }
        Some(())
    };
    read().ok_or_else(damaged)?;
    Ok(entries)
}

fn jks_identity(bytes: &[u8], password: Option<&str>) -> Result<Identity, String> {
    let entries = jks(bytes)?;
    let (key, chain) = entries.keys.first().ok_or("there is no private key in it")?;
    let password = password.ok_or("its key is encrypted: set ssl.keystore.password")?;
    let key = jks_key(key, password).ok_or("ssl.keystore.password or ssl.key.password is not the right one")?;
    let key = PKey::private_key_from_pkcs8(&key).map_err(|error| error.to_string())?;
    Ok(Identity { chain: chain.iter().map(|der| pem("CERTIFICATE", der)).collect(), key: to_pem(key)? })
}

/// Sun's key protector: the key is XORed with a chain of SHA-1 digests of password and salt, and a digest of both is appended.
fn jks_key(encrypted: &[u8], password: &str) -> Option<Vec<u8>> {
    let info = encrypted_data(encrypted)?;
    let (salt, rest) = info.split_at_checked(20)?;
    let (body, check) = rest.split_at_checked(rest.len().checked_sub(20)?)?;
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut key = Vec::with_capacity(body.len());
    let mut last = salt.to_vec();
    for chunk in body.chunks(20) {
        let mut sha = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        sha.update(&password);
        sha.update(&last);
        last = sha.finish().as_ref().to_vec();
        key.extend(chunk.iter().zip(&last).map(|(byte, mask)| byte ^ mask));
    }
    let mut whole = password;
    whole.extend_from_slice(&key);
    (digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref() == check).then_some(key)
}

/// The octet string of `EncryptedPrivateKeyInfo`: a sequence of the algorithm and it.
fn encrypted_data(der: &[u8]) -> Option<&[u8]> {
    let (outer, _) = der_value(der)?;
    let (_, rest) = der_value(outer)?;
    der_value(rest).map(|(value, _)| value)
}

/// The value of the first DER element, and what follows it.
fn der_value(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(*first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    rest.split_at_checked(length)
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(length.into())
    }

    fn certificate(&mut self, version: u32) -> Option<Vec<u8>> {
        if version == 2 {
            self.text()?;
        }
        let length = self.u32()? as usize;
        self.take(length).map(<[u8]>::to_vec)
    }
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
            (b"\x30\x03abc", "no PKCS12 store, or its password"),
            (b"hello", "neither PEM nor JKS nor PKCS12"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let settings = [("ssl.truststore.location".to_owned(), file.display().to_string())].into();
            let error = trusted(&settings).unwrap_err();
            assert!(error.contains(part) && error.contains("ssl.truststore.location"), "{error}");
        }
    }
}
