//! Bearer authentication: JSON Web Tokens, checked against the keys of a JWKS file or URL (`rest.bearer.jwks`).
//!
//! A token has to be signed by one of the keys (with the key's own algorithm; no secrets shared by both sides), be in its
//! time, and be meant for this worker (`rest.bearer.audience`, `rest.bearer.issuer`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::role::Grant;
use super::watched_file::WatchedFile;

/// Keys from a URL are asked for again when they are older than this.
const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// A token with an unknown key asks for them again, but not more often than this.
const REFRESH_AT_MOST: Duration = Duration::from_secs(10);
/// How long the URL may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// A set of keys is small; more than this is something else.
const MAX_KEY_SET: u64 = 1 << 20;

/// `rest.bearer.*`.
#[derive(Debug, Clone, Default)]
pub struct BearerSettings {
    /// A path, or an https URL.
    pub jwks: String,
    /// Who has to have issued the token.
    pub issuer: Option<String>,
    /// Whom it has to be meant for.
    pub audience: Option<String>,
    /// The claim with the subject's name.
    pub subject_claim: String,
    /// The claim with roles, a list or a text of words; none: the access file alone says.
    pub roles_claim: Option<String>,
}

/// Who a token speaks for.
pub(super) struct Subject {
    pub name: String,
    /// What the token itself grants.
    pub grants: Vec<Grant>,
}

enum Keys {
    File(WatchedFile<JwkSet>),
    Url { url: String, fetched: Mutex<(Arc<JwkSet>, Option<Instant>)> },
}

/// Checks `Authorization: Bearer …`.
pub(super) struct Bearer {
    settings: BearerSettings,
    keys: Keys,
}

impl Bearer {
    pub fn open(settings: BearerSettings) -> Result<Self, String> {
        let source = settings.jwks.trim().to_owned();
        let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let keys = if source.starts_with("https://") || local.iter().any(|prefix| source.starts_with(prefix)) {
            let none = JwkSet { keys: Vec::new() };
            Keys::Url { url: source, fetched: Mutex::new((Arc::new(none), None)) }
        } else if source.starts_with("http://") {
            return Err(format!(
                "rest.bearer.jwks: {source} would be asked without TLS, so anybody on the way could sign tokens; write an https URL"
            ));
        } else {
            Keys::File(WatchedFile::open("rest.bearer.jwks", &source, parse_keys)?)
        };
        Ok(Self { settings, keys })
    }

    /// Whom the token speaks for, or why it does not count.
    pub async fn subject(&self, token: &str) -> Result<Subject, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| format!("not a JSON Web Token: {error}"))?;
        let keys = self.key_set(header.kid.as_deref()).await?;
        let candidates = keys.keys.iter().filter(|key| match (&header.kid, &key.common.key_id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        });
        let mut reason = "no key of rest.bearer.jwks has its key id".to_owned();
        for key in candidates {
            match self.claims(token, header.alg, key) {
                Ok(claims) => return self.subject_of(&claims),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    fn claims(&self, token: &str, algorithm: Algorithm, key: &Jwk) -> Result<Map<String, Value>, String> {
        if matches!(key.algorithm, AlgorithmParameters::OctetKey(_)) {
            return Err("its key is a shared secret, which is not accepted".to_owned());
        }
        let decoding = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        // The algorithm's family is checked against the key's by the library.
        let mut validation = Validation::new(algorithm);
        validation.validate_nbf = true;
        match &self.settings.audience {
            Some(audience) => validation.set_audience(&[audience]),
            None => validation.validate_aud = false,
        }
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if self.settings.audience.is_some() {
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        jsonwebtoken::decode::<Map<String, Value>>(token, &decoding, &validation)
            .map(|data| data.claims)
            .map_err(|error| error.to_string())
    }

    fn subject_of(&self, claims: &Map<String, Value>) -> Result<Subject, String> {
        let claim = &self.settings.subject_claim;
        let name = claims.get(claim).and_then(Value::as_str).ok_or_else(|| format!("it has no claim {claim}"))?;
        let granted = self.settings.roles_claim.as_ref().and_then(|claim| claims.get(claim));
        let words: Vec<&str> = match granted {
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(words)) => words.split([' ', ',']).collect(),
            _ => Vec::new(),
        };
        // Such claims hold roles of other programs as well.
        let grants = words.into_iter().filter_map(|word| Grant::parse(word).ok()).collect();
        Ok(Subject { name: name.to_owned(), grants })
    }

    async fn key_set(&self, wanted: Option<&str>) -> Result<Arc<JwkSet>, String> {
        let (url, fetched) = match &self.keys {
            Keys::File(file) => return Ok(file.get()),
            Keys::Url { url, fetched } => (url, fetched),
        };
        {
            let mut fetched = fetched.lock().unwrap_or_else(PoisonError::into_inner);
            let known = wanted.is_none_or(|id| fetched.0.find(id).is_some()) && !fetched.0.keys.is_empty();
            let age = fetched.1.map(|at| at.elapsed());
            let fresh = age.is_some_and(|age| age < if known { REFRESH_AFTER } else { REFRESH_AT_MOST });
            if fresh {
                return Ok(fetched.0.clone());
            }
            // Whoever comes meanwhile uses the old ones.
            fetched.1 = Some(Instant::now());
        }
        let asked = url.clone();
        let answer = tokio::task::spawn_blocking(move || fetch(&asked)).await.map_err(|error| error.to_string())?;
        let mut fetched = fetched.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(keys) => fetched.0 = Arc::new(keys),
            Err(error) => tracing::warn!("rest.bearer.jwks: {url}: {error}; the keys from before stay in force"),
        }
        Ok(fetched.0.clone())
    }
}

fn parse_keys(text: &str) -> Result<JwkSet, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON Web Key Set: {error}"))
}

fn fetch(url: &str) -> Result<JwkSet, String> {
    let config = ureq::Agent::config_builder().timeout_global(Some(FETCH_TIMEOUT)).max_redirects(0);
    let agent = ureq::Agent::new_with_config(config.build());
    let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
    let text = answer.body_mut().with_config().limit(MAX_KEY_SET).read_to_string();
    parse_keys(&text.map_err(|error| error.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    const MINUTE: u64 = 60;

    /// An Ed25519 key pair: the PEM to sign with, and its JWK.
    fn key(id: &str) -> (EncodingKey, Value) {
        use base64::Engine;
        use ring::signature::KeyPair;
        let pair = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let public = ring::signature::Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
        let x = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(public.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": id, "x": x});
        (EncodingKey::from_ed_der(pair.as_ref()), jwk)
    }

    fn token(key: &EncodingKey, id: &str, claims: Value) -> String {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, key).unwrap()
    }

    #[tokio::test]
    async fn a_token_counts_when_signature_time_issuer_and_audience_are_right() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let ((signing, jwk), (other, _)) = (key("one"), key("one"));
        let secret = json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0"});
        std::fs::write(&path, json!({"keys": [jwk, secret]}).to_string()).unwrap();
        let bearer = Bearer::open(BearerSettings {
            jwks: path.to_str().unwrap().to_owned(),
            issuer: Some("https://issuer".to_owned()),
            audience: Some("tributary".to_owned()),
            subject_claim: "sub".to_owned(),
            roles_claim: Some("groups".to_owned()),
        })
        .unwrap();
        let now = jsonwebtoken::get_current_timestamp();
        let good = json!({"sub": "ann", "iss": "https://issuer", "aud": ["x", "tributary"], "exp": now + MINUTE, "groups": ["edit:a-*", "staff"]});
        let subject = bearer.subject(&token(&signing, "one", good.clone())).await.ok().unwrap();
        assert_eq!((subject.name.as_str(), subject.grants.len()), ("ann", 1));

        let with = |key: &str, value: Value| {
            let mut claims = good.clone();
            claims[key] = value;
            token(&signing, "one", claims)
        };
        let without = |key: &str| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(key);
            token(&signing, "one", claims)
        };
        let shared = Header { kid: Some("secret".to_owned()), ..Header::new(Algorithm::HS256) };
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.";
        for (what, token) in [
            ("another key", token(&other, "one", good.clone())),
            ("an unknown key", token(&signing, "two", good.clone())),
            ("a shared secret", encode(&shared, &good, &EncodingKey::from_secret(b"secret")).unwrap()),
            ("no signature", unsigned.to_owned()),
            ("its time is over", with("exp", json!(now - 2 * MINUTE))),
            ("its time has not come", with("nbf", json!(now + 5 * MINUTE))),
            ("no end", without("exp")),
            ("another issuer", with("iss", json!("https://other"))),
            ("no issuer", without("iss")),
            ("another audience", with("aud", json!("other"))),
            ("no audience", without("aud")),
            ("no subject", without("sub")),
            ("garbage", "a.b.c".to_owned()),
        ] {
            assert!(bearer.subject(&token).await.is_err(), "{what}");
        }
    }

    #[test]
    fn keys_are_not_asked_for_in_the_clear() {
        let settings = BearerSettings { jwks: "http://keys.example.com/jwks".to_owned(), ..BearerSettings::default() };
        assert!(Bearer::open(settings).err().unwrap().contains("https"));
    }
}
