//! What no message may show.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::url;

/// Characters of a body that messages show.
const EXCERPT: usize = 512;
/// Shorter secrets are no secrets, and hiding them would make every text unreadable.
const SHORTEST: usize = 4;
/// What is looked at of a body.
const LOOKED_AT: usize = 32 << 10;
/// Tokens follow each other; those of long ago are worth nothing.
const TOKENS: usize = 16;

/// Passwords and tokens, which servers may send back in what they say about a request.
#[derive(Default)]
pub(crate) struct Hidden(Mutex<Secrets>);

#[derive(Default)]
struct Secrets {
    kept: Vec<String>,
    tokens: VecDeque<String>,
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl Hidden {
    /// One more.
    pub fn add(&self, secret: &str) {
        let kept = &mut self.lock().kept;
        if secret.len() >= SHORTEST && !kept.iter().any(|known| known == secret) {
            kept.push(secret.to_owned());
        }
    }

    /// One that another will follow.
    pub fn add_token(&self, token: &str) {
        let tokens = &mut self.lock().tokens;
        if token.len() >= SHORTEST && !tokens.iter().any(|known| known == token) {
            tokens.push_back(token.to_owned());
            if tokens.len() > TOKENS {
                tokens.pop_front();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Secrets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All secrets in all spellings, the longest first: one may be part of another.
    fn spellings(&self) -> Vec<String> {
        let secrets = self.lock();
        let mut all: Vec<String> =
            secrets.kept.iter().chain(&secrets.tokens).flat_map(|secret| spelled(secret)).collect();
        all.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        all
    }

    /// The text without them.
    pub fn hide(&self, text: &str) -> String {
        hide(text, &self.spellings())
    }

    /// The beginning of a body, on one line.
    pub fn excerpt(&self, body: &[u8]) -> String {
        let spellings = self.spellings();
        let mut text = hide(&String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT)]), &spellings);
        if body.len() > LOOKED_AT {
            // The end may be a part of one.
            let longest = spellings.first().map_or(0, String::len);
            let end = (0..=text.len().saturating_sub(longest)).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
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

fn hide(text: &str, spellings: &[String]) -> String {
    spellings.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[hidden]"))
}

/// A secret as it may come back: as it is, within JSON, and in a URL.
fn spelled(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let json = &json[1..json.len() - 1];
    let encoded = url::encoded(secret);
    let mut spelled = vec![
        secret.to_owned(),
        json.to_owned(),
        json.replace('/', "\\/"),
        lower_digits(&encoded),
        // As forms have it.
        encoded.replace("%20", "+"),
        encoded,
    ];
    spelled.sort_unstable();
    spelled.dedup();
    spelled
}

/// Percent-encoding in lower case.
fn lower_digits(encoded: &str) -> String {
    let mut left = 0;
    let lower = |c: char| {
        left = if c == '%' { 2 } else { i32::max(left - 1, -1) };
        if left >= 0 { c.to_ascii_lowercase() } else { c }
    };
    encoded.chars().map(lower).collect()
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
        hidden.add("a/b \"c\"ä");
        let spelled =
            r#"a/b "c"ä|a/b \"c\"ä|a\/b \"c\"ä|a%2Fb%20%22c%22%C3%A4|a%2fb%20%22c%22%c3%a4|a%2Fb+%22c%22%C3%A4"#;
        assert_eq!(hidden.excerpt(spelled.as_bytes()), ["[hidden]"; 6].join("|"));
        // Neither where the excerpt is cut, nor where what is looked at is.
        let body =
            |filler: usize, count: usize| [&" ".repeat(filler), "a longer s3cret".repeat(count).as_str()].concat();
        for filler in 0..16 {
            assert!(!hidden.excerpt(body(filler, 5_000).as_bytes()).contains("long"));
            let shown = hidden.excerpt([body(filler, 0), "x".repeat(EXCERPT - 4), body(0, 1)].concat().as_bytes());
            assert!(!shown.contains("long"), "{shown}");
        }
        let long = hidden.excerpt("ä".repeat(5_000).as_bytes());
        assert_eq!(long.chars().count(), EXCERPT + 1);
    }

    #[test]
    fn the_last_tokens_are_remembered() {
        let hidden = Hidden::default();
        hidden.add("password");
        (0..100).for_each(|n| hidden.add_token(&format!("token {n};")));
        assert_eq!(hidden.lock().tokens.len(), TOKENS);
        assert_eq!(hidden.hide("password token 99; token 84; token 83;"), "[hidden] [hidden] [hidden] token 83;");
    }
}
