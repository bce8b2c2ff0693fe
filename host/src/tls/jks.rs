//! JKS, Java's own format of stores until Java 8, and still what `ssl.keystore.type` is by default.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::CertificateDer;

use super::private_key;
use super::stores::Store;

/// The first bytes of a file.
pub(super) const MAGIC: &[u8] = &[0xfe, 0xed, 0xfe, 0xed];

/// The passwords of a store: its own, and that of its keys where it is another.
pub(super) struct Passwords<'a> {
    pub(super) store: Option<&'a str>,
    pub(super) key: Option<&'a str>,
}

/// Opens a store; the first key of several counts. `property` is that of its password, for the error.
pub(super) fn read(content: &[u8], passwords: &Passwords<'_>, property: &str) -> Result<Store, String> {
    let entries = entries(content).ok_or("the JKS store is damaged")?;
    if passwords.store.is_some_and(|password| !intact(content, password)) {
        return Err(format!("{property} is not the right one, or the JKS store is damaged"));
    }
    let owned = |der: &Vec<u8>| CertificateDer::from(der.clone());
    // As Java does, which trusts whom a key of one's own belongs to.
    let own = entries.keys.iter().filter_map(|(_, chain)| chain.first());
    let trusted = entries.certificates.iter().chain(own).map(owned).collect();
    let pair = entries.keys.first().map(|(key, chain)| {
        let password =
            passwords.key.or(passwords.store).ok_or_else(|| format!("its key is encrypted: set {property}"))?;
        let key = decrypted(key, password)
            .ok_or("its key has another password: set ssl.key.password, which is not set or not the right one")?;
        Ok((chain.iter().map(owned).collect(), private_key::from_pkcs8(&key)?))
    });
    Ok(Store { trusted, pair })
}

/// What is in a JKS file.
#[derive(Default)]
struct Jks {
    certificates: Vec<Vec<u8>>,
    /// Encrypted keys with their chains.
    keys: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

/// The entries of a JKS file. Its certificates are not encrypted.
fn entries(content: &[u8]) -> Option<Jks> {
    let mut rest = Bytes(content);
    let mut entries = Jks::default();
    rest.u32()?;
    let version = rest.u32()?;
    for _ in 0..rest.u32()? {
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
    Some(entries)
}

/// Whether the digest at the end of a file is that of what is before it, with this password.
fn intact(content: &[u8], password: &str) -> bool {
    let Some((body, check)) = content.split_at_checked(content.len().saturating_sub(20)) else { return false };
    let mut sha = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    sha.update(&utf16(password));
    sha.update(b"Mighty Aphrodite");
    sha.update(body);
    sha.finish().as_ref() == check
}

fn utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Sun's key protector: the key is XORed with a chain of SHA-1 digests of password and salt, and a digest of both is appended.
fn decrypted(encrypted: &[u8], password: &str) -> Option<Vec<u8>> {
    let info = encrypted_data(encrypted)?;
    let (salt, rest) = info.split_at_checked(20)?;
    let (body, check) = rest.split_at_checked(rest.len().checked_sub(20)?)?;
    let password = utf16(password);
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
