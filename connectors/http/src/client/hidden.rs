//! What no message may show.

use std::sync::{Mutex, PoisonError};

/// Characters of a body that messages show.
const EXCERPT: usize = 512;
/// Shorter secrets are no secrets, and hiding them would make every text unreadable.
const SHORTEST: usize = 4;

/// Passwords and tokens, which servers may send back in what they say about a request.
#[derive(Default)]
pub(crate) struct Hidden(Mutex<Vec<String>>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl Hidden {
    /// One more.
    pub fn add(&self, secret: &str) {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if secret.len() >= SHORTEST && !secrets.iter().any(|known| known == secret) {
            secrets.push(secret.to_owned());
            // One may be part of another.
            secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// The text without them.
    pub fn hide(&self, text: &str) -> String {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[hidden]"))
    }

    /// The beginning of a body, on one line.
    pub fn excerpt(&self, body: &[u8]) -> String {
        let text = self.hide(&String::from_utf8_lossy(&body[..body.len().min(8 * EXCERPT)]));
        let mut excerpt: String = text
            .chars()
            .take(EXCERPT)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>()
            .trim()
            .to_owned();
        if text.chars().nth(EXCERPT).is_some() {
            excerpt.push('…');
        }
        excerpt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_without_secrets() {
        let hidden = Hidden::default();
        hidden.add("s3cret");
        hidden.add("a longer s3cret");
        hidden.add("no");
        assert_eq!(hidden.excerpt(b"bad\r\ntoken a longer s3cret, s3cret, no\0"), "bad  token [hidden], [hidden], no");
        let long = hidden.excerpt("ä".repeat(5_000).as_bytes());
        assert_eq!(long.chars().count(), EXCERPT + 1);
    }
}
