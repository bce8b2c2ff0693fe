//! The certificates that the other side's has to lead to: `ssl.truststore.*`.

use p12_keystore::KeyStoreEntry;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Lookup, is_pem, pkcs12, read};

/// What the properties name, to check certificates against; `None` if they name nothing.
pub fn trust_roots(property: Lookup<'_>) -> Result<Option<RootCertStore>, String> {
    let Some(certificates) = trusted_certificates(property)? else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| format!("ssl.truststore: a certificate cannot be trusted: {error}"))?;
    }
    Ok(Some(roots))
}

/// The certificates that the properties name, one at least; `None` if they name nothing.
pub fn trusted_certificates(property: Lookup<'_>) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
    let present = |name: &str| property(name).filter(|value| !value.trim().is_empty());
    let (name, content, path) = match present("ssl.truststore.certificates") {
        Some(text) => ("ssl.truststore.certificates", text.into_bytes(), String::new()),
        None => {
            let Some(path) = present("ssl.truststore.location") else { return Ok(None) };
            ("ssl.truststore.location", read("ssl.truststore.location", &path)?, path)
        }
    };
    let certificates: Vec<CertificateDer<'static>> = if is_pem(property("ssl.truststore.type").as_deref(), &content) {
        CertificateDer::pem_slice_iter(&content)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{name}: cannot read the certificates: {error}"))?
    } else {
        let store = pkcs12::open(name, &path, &content, present("ssl.truststore.password").as_deref())?;
        let of_entry = |entry: &KeyStoreEntry| match entry {
            KeyStoreEntry::Certificate(certificate) => vec![CertificateDer::from(certificate.as_der().to_vec())],
            KeyStoreEntry::PrivateKeyChain(chain) => {
                chain.certs().iter().map(|certificate| CertificateDer::from(certificate.as_der().to_vec())).collect()
            }
            KeyStoreEntry::Secret(_) => Vec::new(),
        };
        store.entries().flat_map(|(_, entry)| of_entry(entry)).collect()
    };
    if certificates.is_empty() {
        return Err(format!("{name}: there is no certificate in it, so nobody would be trusted"));
    }
    Ok(Some(certificates))
}
