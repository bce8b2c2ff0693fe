//! An issuer of JSON Web Tokens for one test.

use base64::Engine;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// Signs with one Ed25519 key.
pub struct Issuer {
    signing: EncodingKey,
    public: Vec<u8>,
}

impl Issuer {
    pub fn new() -> Self {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let public = Ed25519KeyPair::from_pkcs8(pair.as_ref()).expect("a key").public_key().as_ref().to_vec();
        Self { signing: EncodingKey::from_ed_der(pair.as_ref()), public }
    }

    /// What the worker reads.
    pub fn key_set(&self) -> Value {
        let x = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(&self.public);
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "1", "x": x}]})
    }

    /// A token with these claims, good for a minute.
    pub fn token(&self, mut claims: Value) -> String {
        claims["exp"] = json!(jsonwebtoken::get_current_timestamp() + 60);
        let header = Header { kid: Some("1".to_owned()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.signing).expect("a token")
    }
}
