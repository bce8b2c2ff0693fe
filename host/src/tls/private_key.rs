//! Private keys: out of encryption, and with all in them that the TLS library wants.

use openssl::bn::BigNumContext;
use openssl::ec::{EcKey, EcPoint};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The private key in a PEM text.
pub(super) fn from_pem(text: &str, password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let key = match password {
        Some(password) => PKey::private_key_from_pem_passphrase(text.as_bytes(), password.as_bytes()),
        // Without a password OpenSSL would ask on the terminal.
        None if text.contains("ENCRYPTED") => return Err("the key is encrypted: set ssl.key.password".to_owned()),
        None => PKey::private_key_from_pem(text.as_bytes()),
    };
    let key = key.map_err(|_| match password {
        Some(_) => "there is no private key in it, or ssl.key.password is not the right one".to_owned(),
        None => "there is no private key in it".to_owned(),
    })?;
    whole(&key)
}

/// A key that is PKCS8 already.
pub(super) fn from_pkcs8(der: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let key = PKey::private_key_from_pkcs8(der).map_err(|error| format!("its private key cannot be read: {error}"))?;
    whole(&key)
}

/// PKCS8 with the public key in it: Java leaves that out of keys on elliptic curves, and the TLS library wants it.
fn whole(key: &PKey<Private>) -> Result<PrivateKeyDer<'static>, String> {
    let pkcs8 = || -> Result<Vec<u8>, ErrorStack> {
        let Ok(curve) = key.ec_key() else { return key.private_key_to_pkcs8() };
        let (group, number) = (curve.group(), curve.private_key());
        let mut public = EcPoint::new(group)?;
        let mut context = BigNumContext::new()?;
        public.mul_generator2(group, number, &mut context)?;
        let whole = EcKey::from_private_components(group, number, &public)?;
        PKey::from_ec_key(whole)?.private_key_to_pkcs8()
    };
    let der = pkcs8().map_err(|error| format!("its private key cannot be read: {error}"))?;
    Ok(PrivatePkcs8KeyDer::from(der).into())
}
