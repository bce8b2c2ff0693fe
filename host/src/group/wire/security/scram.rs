//! SCRAM (RFC 5802) with SHA-256 and SHA-512, the client's side.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// Which digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::group::wire) enum Hash {
    Sha256,
    Sha512,
}

/// Iterations that an attacker in the broker's place might ask for to keep the client busy.
const MOST_ITERATIONS: u32 = 1_000_000;

/// A dialogue under way.
#[derive(Debug)]
pub(in crate::group::wire) struct Scram {
    hash: Hash,
    nonce: String,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl Scram {
    pub(super) fn new(hash: Hash, user: &str, nonce: &str, token: bool) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        // Kafka's extension for delegation tokens.
        let extension = if token { ",tokenauth=true" } else { "" };
        Self {
            hash,
            nonce: nonce.to_owned(),
            first_bare: format!("n={user},r={nonce}{extension}"),
            server_signature: Vec::new(),
        }
    }

    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The answer to the server's first message.
    pub(super) fn last(&mut self, server_first: &str, password: &str) -> Result<String, String> {
        let field = |name: char| {
            server_first.split(',').find_map(|part| part.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
        };
        if let Some(error) = field('e') {
            return Err(error.to_owned());
        }
        let malformed = || "its SCRAM message cannot be read".to_owned();
        let nonce = field('r').ok_or_else(malformed)?;
        let salt = STANDARD.decode(field('s').ok_or_else(malformed)?).map_err(|_| malformed())?;
        let iterations: u32 = field('i').and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its SCRAM nonce is not a continuation of ours".to_owned());
        }
        let iterations =
            NonZeroU32::new(iterations).filter(|count| count.get() <= MOST_ITERATIONS).ok_or_else(malformed)?;

        let (derive, algorithm, sha, length) = match self.hash {
            Hash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256, 32),
            Hash::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512, 64),
        };
        let mut salted = vec![0; length];
        pbkdf2::derive(derive, iterations, &salt, password.as_bytes(), &mut salted);
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec();
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(sha, &client_key);
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = sign(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, mask)| key ^ mask).collect();
        self.server_signature = sign(&sign(&salted, b"Server Key"), message.as_bytes());
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server knows the password too.
    pub(super) fn verify(&self, server_last: &str) -> Result<(), String> {
        if let Some(error) = server_last.strip_prefix("e=") {
            return Err(error.to_owned());
        }
        let signature = server_last.split(',').find_map(|part| part.strip_prefix("v="));
        let signature = signature.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        if !self.server_signature.is_empty() && signature == self.server_signature {
            Ok(())
        } else {
            Err("it cannot prove that it knows the password: it may be another server".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    #[test]
    fn the_rfcs_example() {
        let mut scram = Scram::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO", false);
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(
            scram.last(server, "pencil").unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        scram.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        assert!(scram.verify("v=AAAA").is_err());
        assert!(scram.verify("e=other-error").unwrap_err().contains("other-error"));
    }

    #[test]
    fn a_foreign_nonce_is_refused() {
        let mut scram = Scram::new(Hash::Sha512, "a=,b", "abc", false);
        assert_eq!(scram.first(), "n,,n=a=3D=2Cb,r=abc");
        assert!(scram.last("r=xbcdef,s=QQ==,i=4096", "p").is_err());
        assert!(scram.last("r=abc,s=QQ==,i=4096", "p").is_err());
        assert!(scram.last("r=abcd,s=QQ==,i=0", "p").is_err());
        assert!(scram.last("r=abcd,s=QQ==,i=2000000000", "p").is_err());
    }
}
