//! Who may send: signatures over the body (HMAC), basic and bearer authentication. Compared in constant time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName};
use ring::hmac;

/// How a body is signed.
#[derive(Clone)]
pub(crate) enum Signature {
    /// `X-Hub-Signature-256: sha256=<hex>`.
    GitHub,
    /// `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]` over `<seconds>.<body>`; refused when older or newer than this many seconds.
    Stripe { tolerance: i64 },
    /// A header with the digest of the body, behind a prefix.
    Generic { header: HeaderName, prefix: String, base64: bool },
}

/// Checks requests.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    /// Whole values of `Authorization` that are let in.
    pub authorization: Option<Secret>,
    pub signature: Option<(Signature, Vec<hmac::Key>)>,
}

/// A text that is compared without telling how much of it fits.
#[derive(Clone)]
pub(crate) struct Secret {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Secret {
    pub fn new(text: &str) -> Self {
        // Any key will do: it makes digests of one length, of which nobody outside knows anything.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        Self { tag: hmac::sign(&key, text.as_bytes()), key }
    }

    pub fn is(&self, given: &[u8]) -> bool {
        hmac::verify(&self.key, given, self.tag.as_ref()).is_ok()
    }
}

/// `Basic …` of a user, as the header has it.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

impl Gate {
    /// Whether anybody may send.
    pub fn is_open(&self) -> bool {
        self.authorization.is_none() && self.signature.is_none()
    }

    /// What can be checked before the body is read.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(secret) = &self.authorization else { return true };
        let given = headers.get(AUTHORIZATION).map_or(b"".as_slice(), |given| given.as_bytes());
        // The scheme's name has no case.
        let scheme = given.iter().position(|byte| *byte == b' ').unwrap_or(0);
        let named = match &given[..scheme] {
            scheme if scheme.eq_ignore_ascii_case(b"basic") => "Basic",
            scheme if scheme.eq_ignore_ascii_case(b"bearer") => "Bearer",
            _ => return false,
        };
        secret.is(&[named.as_bytes(), &given[scheme..]].concat())
    }

    /// Whether the body is signed by somebody who knows a secret. `now` in seconds since the epoch.
    pub fn is_signed(&self, headers: &HeaderMap, body: &[u8], now: i64) -> bool {
        let Some((signature, keys)) = &self.signature else { return true };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let fits = |message: &[u8], digest: &[u8]| keys.iter().any(|key| hmac::verify(key, message, digest).is_ok());
        match signature {
            Signature::GitHub => {
                let hex = header("x-hub-signature-256").and_then(|value| value.strip_prefix("sha256="));
                hex.and_then(unhex).is_some_and(|digest| fits(body, &digest))
            }
            Signature::Stripe { tolerance } => {
                let Some(value) = header("stripe-signature") else { return false };
                let parts = || value.split(',').filter_map(|part| part.trim().split_once('='));
                let Some((_, stamp)) = parts().find(|(name, _)| *name == "t") else { return false };
                let fresh = stamp.parse::<i64>().is_ok_and(|at| now.saturating_sub(at).saturating_abs() <= *tolerance);
                let message = [stamp.as_bytes(), b".", body].concat();
                fresh
                    && parts()
                        .filter(|(name, _)| *name == "v1")
                        .filter_map(|(_, hex)| unhex(hex))
                        .any(|digest| fits(&message, &digest))
            }
            Signature::Generic { header: name, prefix, base64 } => {
                let text = header(name.as_str()).and_then(|value| value.strip_prefix(prefix.as_str()));
                let digest = text.and_then(|text| if *base64 { STANDARD.decode(text).ok() } else { unhex(text) });
                digest.is_some_and(|digest| fits(body, &digest))
            }
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    fn gate(signature: Signature, secret: &str) -> Gate {
        let keys =
            vec![hmac::Key::new(hmac::HMAC_SHA256, b"other"), hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())];
        Gate { signature: Some((signature, keys)), ..Gate::default() }
    }

    #[test]
    fn github_signs_so() {
        // The example of GitHub's documentation.
        let gate = gate(Signature::GitHub, "It's a Secret to Everybody");
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(gate.is_signed(&headers("x-hub-signature-256", good), b"Hello, World!", 0));
        assert!(!gate.is_signed(&headers("x-hub-signature-256", good), b"Hello, World?", 0));
        for wrong in ["", "sha256=", "sha256=75", "sha1=757107ea", "sha256=zz7107ea"] {
            assert!(!gate.is_signed(&headers("x-hub-signature-256", wrong), b"Hello, World!", 0), "{wrong}");
        }
        assert!(!gate.is_signed(&HeaderMap::new(), b"Hello, World!", 0));
    }

    #[test]
    fn stripe_signs_time_and_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"whsec_test");
        let hex: String =
            hmac::sign(&key, b"1700000000.{}").as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let gate = gate(Signature::Stripe { tolerance: 300 }, "whsec_test");
        let value = format!("t=1700000000,v0=00,v1=abcd,v1={hex}");
        assert!(gate.is_signed(&headers("stripe-signature", &value), b"{}", 1_700_000_299));
        for (now, body) in [(1_700_000_301, "{}"), (1_699_999_600, "{}"), (1_700_000_000, "{ }")] {
            assert!(!gate.is_signed(&headers("stripe-signature", &value), body.as_bytes(), now), "{now}");
        }
        let moved = value.replace("t=1700000000", "t=1700000001");
        assert!(!gate.is_signed(&headers("stripe-signature", &moved), b"{}", 1_700_000_000));
    }

    #[test]
    fn other_headers_hold_hex_or_base64() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s");
        let digest = hmac::sign(&key, b"body");
        let signature =
            |base64| Signature::Generic { header: HeaderName::from_static("x-sign"), prefix: "v=".into(), base64 };
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(gate(signature(false), "s").is_signed(&headers("x-sign", &format!("v={hex}")), b"body", 0));
        let text = STANDARD.encode(digest.as_ref());
        assert!(gate(signature(true), "s").is_signed(&headers("x-sign", &format!("v={text}")), b"body", 0));
        assert!(!gate(signature(true), "s").is_signed(&headers("x-sign", &text), b"body", 0));
    }

    #[test]
    fn users_and_tokens_are_let_in() {
        let gate = |text: &str| Gate { authorization: Some(Secret::new(text)), ..Gate::default() };
        let with = |text: &str| headers("authorization", text);
        assert!(gate(&basic("me", "pw")).admits(&with("basic bWU6cHc=")));
        assert!(!gate(&basic("me", "pw")).admits(&with("Basic bWU6cHg=")));
        assert!(gate("Bearer token").admits(&with("Bearer token")));
        assert!(!gate("Bearer token").admits(&with("Bearer TOKEN")));
        assert!(!gate("Bearer token").admits(&with("token")));
        assert!(!gate("Bearer token").admits(&HeaderMap::new()));
        assert!(Gate::default().is_open() && Gate::default().admits(&HeaderMap::new()));
    }
}
