//! A private key with its certificate chain: `ssl.keystore.*` and `ssl.key.password`.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Lookup, is_pem, pkcs12, read};

/// A private key with its certificate chain, the key's own certificate first.
#[derive(Debug)]
pub struct KeyStore {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl KeyStore {
    /// What the properties name; `None` if they name nothing.
    pub fn from_properties(property: Lookup<'_>) -> Result<Option<Self>, String> {
        let present = |name: &str| property(name).filter(|value| !value.trim().is_empty());
        if let (Some(key), Some(chain)) = (present("ssl.keystore.key"), present("ssl.keystore.certificate.chain")) {
            return Self::from_pem("ssl.keystore.key", key.as_bytes(), chain.as_bytes()).map(Some);
        }
        let Some(path) = present("ssl.keystore.location") else { return Ok(None) };
        let content = read("ssl.keystore.location", &path)?;
        if is_pem(property("ssl.keystore.type").as_deref(), &content) {
            return Self::from_pem("ssl.keystore.location", &content, &content).map(Some);
        }
        let password = present("ssl.keystore.password");
        let store = pkcs12::open("ssl.keystore.location", &path, &content, password.as_deref())?;
        let found = pkcs12::private_key(&store)
            .ok_or_else(|| format!("ssl.keystore.location: {path} holds certificates, but no private key"))?;
        let chain = found.certs().iter().map(|certificate| CertificateDer::from(certificate.as_der().to_vec()));
        let key = PrivatePkcs8KeyDer::from(with_public_key(found.key().as_der()));
        Ok(Some(Self { chain: chain.collect(), key: key.into() }))
    }

    fn from_pem(property: &str, key: &[u8], chain: &[u8]) -> Result<Self, String> {
        if key.windows(27).any(|window| window == b"BEGIN ENCRYPTED PRIVATE KEY") {
            return Err(format!(
                "{property}: the private key is encrypted, which is read only from PKCS#12 stores; decrypt it (openssl pkcs8 -in FILE -out KEY) \
                 or make a store of it (openssl pkcs12 -export)"
            ));
        }
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{property}: cannot read the certificates: {error}"))?;
        if chain.is_empty() {
            return Err(format!("{property}: there is no certificate in it; put the chain beside the key"));
        }
        let key = match PrivateKeyDer::from_pem_slice(key) {
            Ok(PrivateKeyDer::Pkcs8(key)) => PrivatePkcs8KeyDer::from(with_public_key(key.secret_pkcs8_der())).into(),
            Ok(key) => key,
            Err(error) => return Err(format!("{property}: cannot read the private key: {error}")),
        };
        Ok(Self { chain, key })
    }
}

/// A PKCS#8 key as it is; one on an elliptic curve with its public key in it, which Java leaves out and ring asks for.
fn with_public_key(pkcs8: &[u8]) -> Vec<u8> {
    use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};
    let p256 = p256::SecretKey::from_pkcs8_der(pkcs8).ok().and_then(|key| key.to_pkcs8_der().ok());
    let p384 = || p384::SecretKey::from_pkcs8_der(pkcs8).ok().and_then(|key| key.to_pkcs8_der().ok());
    p256.or_else(p384).map_or_else(|| pkcs8.to_vec(), |document| document.as_bytes().to_vec())
}
