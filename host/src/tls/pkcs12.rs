//! PKCS#12 stores, which Java's keytool writes.

use p12_keystore::{KeyStore, Pkcs12ImportPolicy, PrivateKeyChain};

/// The first bytes of Java's own store format.
const JKS_MAGIC: &[u8] = &[0xFE, 0xED, 0xFE, 0xED];

/// Opens a store. `property` and `path` are for the error.
pub(super) fn open(property: &str, path: &str, content: &[u8], password: Option<&str>) -> Result<KeyStore, String> {
    if content.starts_with(JKS_MAGIC) {
        return Err(format!(
            "{property}: {path} is in Java's JKS format, which is not read here; convert it: keytool -importkeystore -srckeystore {path} \
             -destkeystore {path}.p12 -deststoretype PKCS12"
        ));
    }
    KeyStore::from_pkcs12(content, password.unwrap_or_default(), Pkcs12ImportPolicy::Relaxed).map_err(|error| {
        format!(
            "{property}: {path} is neither PEM nor a PKCS#12 store that its password opens ({error}); check the file and {}",
            property.replace(".location", ".password")
        )
    })
}

/// The only private key of a store, or the first that has one.
pub(super) fn private_key(store: &KeyStore) -> Option<&PrivateKeyChain> {
    store.private_key_chain().map(|(_, chain)| chain)
}
