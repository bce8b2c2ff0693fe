//! Values that nobody may read: what references led to, and what stands under keys that hold passwords.
//!
//! Promises: a text that went through [`Secrets::hide`] has none of them, neither as they are nor escaped for JSON, for a log
//! or for a URL; in their place stands the reference, or `[hidden]`. A secret of fewer than four characters counts only
//! where it stands as a word of its own: hidden everywhere, it would make every text unreadable and tell what it is.

use std::borrow::Cow;
use std::sync::Arc;

use tributary_sdk::Error;

/// What stands in the place of a password that the config has in plain text.
const HIDDEN: &str = "[hidden]";
/// Shorter secrets are hidden only as whole words.
const WORD: usize = 4;
/// Lines of a secret (a key in PEM, say) that are hidden also alone.
const LINE: usize = 8;

/// The secrets of a connector or task. Cheap to clone.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Vec<Secret>>);

struct Secret {
    text: String,
    instead: String,
    /// Whether the text stands for the whole value, so that the reference means the same.
    exact: bool,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// These values, each with what is shown instead; an empty value is no secret.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut secrets: Vec<Secret> = Vec::new();
        for (value, instead) in pairs {
            for (text, exact) in forms(&value) {
                if !text.trim().is_empty() && !secrets.iter().any(|known| known.text == text) {
                    secrets.push(Secret { text, instead: instead.clone(), exact });
                }
            }
        }
        // One may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.text.len()));
        Self(Arc::new(secrets))
    }

    /// These and more.
    pub fn and(&self, pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::new(self.pairs().into_iter().chain(pairs))
    }

    /// The values, each with what is shown instead.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let whole = self.0.iter().filter(|secret| secret.exact);
        whole.map(|secret| (secret.text.clone(), secret.instead.clone())).collect()
    }

    /// These, and passwords that a config has in plain text.
    pub fn and_passwords(&self, values: impl IntoIterator<Item = String>) -> Self {
        self.and(values.into_iter().map(|value| (value, HIDDEN.to_owned())))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text without secrets.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in self.0.iter() {
            if let Some(hidden) = replace(&text, &secret.text, &secret.instead) {
                text = Cow::Owned(hidden);
            }
        }
        text
    }

    /// A plugin's error without secrets.
    pub fn hide_in_error(&self, error: Error) -> Error {
        if self.0.is_empty() {
            return error;
        }
        let hide = |text: String| self.hide(&text).into_owned();
        match error {
            Error::Retriable(message) => Error::Retriable(hide(message)),
            Error::Failed(message) => Error::Failed(hide(message)),
            Error::Unsupported(message) => Error::Unsupported(hide(message)),
            Error::Panicked { message, trace } => Error::Panicked { message: hide(message), trace: hide(trace) },
        }
    }

    /// Whether a text has a reference that led to one of these.
    pub fn resolves_to_other(&self, written: &str) -> bool {
        self.0.iter().any(|secret| secret.instead != HIDDEN && written.contains(&secret.instead))
    }

    /// A value that a plugin made of resolved ones, with the references again where they led to it: resolved once more it
    /// is the same. Passwords in plain text stay, and so do secrets that are too short to be told from other texts.
    pub fn unresolve(&self, value: &str) -> String {
        let mut text = value.to_owned();
        let whole = |secret: &&Secret| secret.exact && secret.instead != HIDDEN && secret.text.chars().count() >= WORD;
        for secret in self.0.iter().filter(whole) {
            if let Some(hidden) = replace(&text, &secret.text, &secret.instead) {
                text = hidden;
            }
        }
        text
    }
}

/// How often a text may be escaped on its way: a value in JSON, that in a field of a log line, and that in JSON again.
const ESCAPES: usize = 3;

/// A secret as it may turn up in texts; `true` for the value itself.
fn forms(value: &str) -> Vec<(String, bool)> {
    let mut forms = vec![value.to_owned(), value.trim().to_owned()];
    let mut begin = 0;
    for _ in 0..ESCAPES {
        let end = forms.len();
        for at in begin..end {
            let escaped =
                [json(&forms[at]), forms[at].escape_debug().to_string(), forms[at].escape_default().to_string()];
            for form in escaped {
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
        }
        begin = end;
    }
    forms.push(percent(value));
    forms.extend(value.lines().map(str::trim).filter(|line| line.len() >= LINE).map(str::to_owned));
    let exact = |form: &str| form == value;
    forms.into_iter().map(|form| (form.clone(), exact(&form))).collect()
}

/// As within a string of JSON.
fn json(value: &str) -> String {
    let quoted = serde_json::to_string(value).unwrap_or_default();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// As in a URL.
fn percent(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The text with every occurrence of the secret replaced; `None` if there is none.
fn replace(text: &str, secret: &str, instead: &str) -> Option<String> {
    let as_word = secret.chars().count() < WORD;
    let mut result = String::new();
    let mut end = 0;
    for (at, found) in text.match_indices(secret) {
        let is_part = |c: Option<char>| as_word && c.is_some_and(char::is_alphanumeric);
        if is_part(text[..at].chars().next_back()) || is_part(text[at + found.len()..].chars().next()) {
            continue;
        }
        result.push_str(&text[end..at]);
        result.push_str(instead);
        end = at + found.len();
    }
    if end == 0 {
        return None;
    }
    result.push_str(&text[end..]);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        Secrets::new(pairs.iter().map(|(value, instead)| ((*value).to_owned(), (*instead).to_owned())))
    }

    #[test]
    fn hides_every_form() {
        let odd = "p\"a\\s$1 w\u{f6}rd%\n";
        let secrets = secrets(&[(odd, "${file:/x:p}")]);
        let json = serde_json::json!({ "at": odd }).to_string();
        for text in [
            format!("login {odd} failed"),
            format!("{odd:?}"),
            json,
            format!("u={}&x=1", percent(odd)),
            odd.trim().to_owned(),
        ] {
            let hidden = secrets.hide(&text);
            assert!(hidden.contains("${file:/x:p}"), "{text} became {hidden}");
            assert!(!hidden.contains("a\\s") && !hidden.contains("%24"), "{text} became {hidden}");
        }
        assert_eq!(secrets.hide("nothing here"), "nothing here");
    }

    #[test]
    fn longer_ones_first_and_short_ones_as_words() {
        let secrets = secrets(&[("secret", "A"), ("secret-long", "B"), ("u", "C"), ("", "D")]);
        assert_eq!(secrets.hide("secret-long secret u user=u:x"), "B A C user=C:x");
    }

    #[test]
    fn lines_of_a_key_are_hidden_alone() {
        let secrets = secrets(&[("-----BEGIN-----\nMIIEvQIBADANBg\nshort\n", "${dir:/k:pem}")]);
        assert_eq!(secrets.hide("bad base64: MIIEvQIBADANBg."), "bad base64: ${dir:/k:pem}.");
    }

    #[test]
    fn unresolved_values_resolve_to_the_same() {
        let secrets = secrets(&[("s3cret", "${env:P}")]).and_passwords(["plain".to_owned()]);
        assert_eq!(secrets.unresolve("jdbc://u:s3cret@h/plain"), "jdbc://u:${env:P}@h/plain");
        assert_eq!(secrets.hide("plain s3cret"), "[hidden] ${env:P}");
    }
}
