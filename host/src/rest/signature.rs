//! Signatures of requests between workers: an HMAC of the body with the session key of the config topic, as in Kafka Connect.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::storage::SessionKey;

/// The header with the signature, in Base64.
pub(super) const SIGNATURE: &str = "X-Connect-Authorization";
/// The header with the algorithm.
pub(super) const ALGORITHM: &str = "X-Connect-Request-Signature-Algorithm";

/// Which algorithms are used and taken: `inter.worker.signature.algorithm` and `inter.worker.verification.algorithms`.
#[derive(Debug, Clone)]
pub struct Signing {
    /// For own requests.
    pub algorithm: String,
    /// Of others' requests.
    pub accepted: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not signed, or not in a way that this worker takes.
    Unsigned(String),
    /// The signature is wrong.
    Wrong,
}

/// Whether requests can be signed so.
pub fn is_known(algorithm: &str) -> bool {
    hash(algorithm).is_some()
}

fn hash(algorithm: &str) -> Option<hmac::Algorithm> {
    match algorithm {
        "HmacSHA1" => Some(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        "HmacSHA256" => Some(hmac::HMAC_SHA256),
        "HmacSHA384" => Some(hmac::HMAC_SHA384),
        "HmacSHA512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

impl Signing {
    /// The signature of a body, in Base64; `None` for an algorithm that is not known.
    pub(super) fn sign(&self, key: &SessionKey, body: &[u8]) -> Option<String> {
        let key = hmac::Key::new(hash(&self.algorithm)?, &key.key);
        Some(STANDARD.encode(hmac::sign(&key, body)))
    }

    /// Judges the signature of a request.
    pub(super) fn verify(
        &self,
        key: &SessionKey,
        body: &[u8],
        signature: Option<&str>,
        algorithm: Option<&str>,
    ) -> Result<(), Refusal> {
        let (Some(signature), Some(algorithm)) = (signature, algorithm) else {
            return Err(Refusal::Unsigned("Internal request missing required signature".to_owned()));
        };
        let accepted = self.accepted.iter().any(|accepted| accepted == algorithm);
        let Some(hash) = hash(algorithm).filter(|_| accepted) else {
            return Err(Refusal::Unsigned(format!(
                "This worker does not support the '{algorithm}' key signing algorithm used by other workers. This worker is \
                 currently configured to use: {}. Check that all workers' configuration files permit the same set of \
                 signature algorithms, and correct any misconfigured worker and restart it.",
                self.accepted.join(", ")
            )));
        };
        let signature = STANDARD
            .decode(signature)
            .map_err(|_| Refusal::Unsigned(format!("the header {SIGNATURE} of an internal request is not Base64")))?;
        // Takes the same time whatever is wrong.
        hmac::verify(&hmac::Key::new(hash, &key.key), body, &signature).map_err(|_| Refusal::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> SessionKey {
        SessionKey { key: bytes.to_vec(), algorithm: "HmacSHA256".to_owned(), created_ms: 0 }
    }

    #[test]
    fn only_what_was_signed_with_the_key_passes() {
        let signing = Signing { algorithm: "HmacSHA256".to_owned(), accepted: vec!["HmacSHA256".to_owned()] };
        // RFC 4231, test case 2.
        let signature = signing.sign(&key(b"Jefe"), b"what do ya want for nothing?").unwrap();
        assert_eq!(signature, "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
        let verify = |body: &[u8], signature, algorithm| signing.verify(&key(b"Jefe"), body, signature, algorithm);
        let body = b"what do ya want for nothing?";
        assert_eq!(verify(body, Some(&signature), Some("HmacSHA256")), Ok(()));
        assert_eq!(verify(b"another body", Some(&signature), Some("HmacSHA256")), Err(Refusal::Wrong));
        assert!(matches!(verify(body, None, Some("HmacSHA256")), Err(Refusal::Unsigned(_))));
        assert!(matches!(verify(body, Some(&signature), None), Err(Refusal::Unsigned(_))));
        assert!(matches!(verify(body, Some("?"), Some("HmacSHA256")), Err(Refusal::Unsigned(_))));
        let Err(Refusal::Unsigned(message)) = verify(body, Some(&signature), Some("HmacMD5")) else { panic!() };
        assert!(message.contains("'HmacMD5'") && message.contains("HmacSHA256"));
        assert_eq!(signing.verify(&key(b"other"), body, Some(&signature), Some("HmacSHA256")), Err(Refusal::Wrong));
    }
}
