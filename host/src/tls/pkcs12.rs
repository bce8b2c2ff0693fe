//! PKCS12 stores, which Java's keytool and OpenSSL write, the ciphers of older Javas included.

use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use rustls::pki_types::CertificateDer;

use super::private_key;
use super::stores::Store;

/// Opens a store; `property` is that of its password, for the error.
pub(super) fn read(content: &[u8], password: Option<&str>, property: &str) -> Result<Store, String> {
    let store = KeyStore::from_pkcs12(content, password.unwrap_or_default(), Pkcs12ImportPolicy::Relaxed)
        .map_err(|error| format!("it is no PKCS12 store, or {property} is not the right one ({error})"))?;
    let owned = |certificate: &p12_keystore::Certificate| CertificateDer::from(certificate.as_der().to_vec());
    let trusted = store.entries().filter_map(|(_, entry)| match entry {
        KeyStoreEntry::Certificate(certificate) => Some(owned(certificate)),
        // As Java does, which trusts whom a key of one's own belongs to.
        KeyStoreEntry::PrivateKeyChain(chain) => chain.certs().first().map(owned),
        KeyStoreEntry::Secret(_) => None,
    });
    let trusted = trusted.collect();
    let pair = store.private_key_chain().map(|(_, pair)| {
        let key = private_key::from_pkcs8(pair.key().as_der())?;
        Ok((pair.certs().iter().map(owned).collect(), key))
    });
    Ok(Store { trusted, pair })
}
