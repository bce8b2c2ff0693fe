//! Basic authentication against an htpasswd file with bcrypt hashes (`rest.basic.users.file`, made by `htpasswd -B`).
//!
//! Checking a password is slow on purpose, so a right one is remembered, as a keyed digest that dies with the process; wrong
//! ones, and those of unknown users, take as long as right ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use tokio::sync::Semaphore;

use super::watched_file::WatchedFile;

/// Passwords that are checked at a time; the others wait, so that guessing cannot take all processors.
const CHECKS_AT_A_TIME: usize = 2;
/// A hash that no password has, for users who do not exist.
const NOBODY: &str = "$2b$10$CwTycUXWue0Thq9StjUM0uJ8Z8W4f1vZk9J2VqYb1XnXg8o5p7uHe";

/// bcrypt hashes by user.
type Users = HashMap<String, String>;

/// Checks `Authorization: Basic …`.
pub(super) struct Basic {
    users: WatchedFile<Users>,
    key: hmac::Key,
    /// Digest of the password that was right for a hash.
    known: Mutex<HashMap<String, hmac::Tag>>,
    checks: Semaphore,
}

impl Basic {
    /// Users of the file at `path`.
    pub fn open(path: &str) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        let users = WatchedFile::open("rest.basic.users.file", path, parse)?;
        Ok(Self { users, key, known: Mutex::default(), checks: Semaphore::new(CHECKS_AT_A_TIME) })
    }

    /// The user, if `credentials` (what follows `Basic`) are right.
    pub async fn user(&self, credentials: &str) -> Option<String> {
        let decoded = BASE64_STANDARD.decode(credentials.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        let users = self.users.get();
        let (hash, exists) = match users.get(user) {
            Some(hash) => (hash.clone(), true),
            None => (NOBODY.to_owned(), false),
        };
        if exists && self.is_known(&hash, password) {
            return Some(user.to_owned());
        }
        let _turn = self.checks.acquire().await.ok()?;
        let (checked, given) = (hash.clone(), password.to_owned());
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(given, &checked).unwrap_or(false)).await;
        if !verified.unwrap_or(false) || !exists {
            return None;
        }
        let tag = hmac::sign(&self.key, password.as_bytes());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, tag);
        Some(user.to_owned())
    }

    fn is_known(&self, hash: &str, password: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).is_some_and(|tag| hmac::verify(&self.key, password.as_bytes(), tag.as_ref()).is_ok())
    }
}

fn parse(text: &str) -> Result<Users, String> {
    let mut users = Users::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) =
            line.split_once(':').ok_or_else(|| format!("line {}: write user:hash, as htpasswd -B does", number + 1))?;
        if !["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
            return Err(format!(
                "line {}: the hash of {user} is not bcrypt's; make it with htpasswd -nB {user}",
                number + 1
            ));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        BASE64_STANDARD.encode(text)
    }

    #[tokio::test]
    async fn only_right_passwords_get_in_and_changes_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let line = |password: &str| format!("# people\nann:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(&path, line("pass:word")).unwrap();
        let basic = Basic::open(path.to_str().unwrap()).unwrap();
        for _ in 0..2 {
            assert_eq!(basic.user(&encoded("ann:pass:word")).await.as_deref(), Some("ann"));
            for wrong in ["ann:other", "ann:", "ann", "bob:pass:word", ":"] {
                assert_eq!(basic.user(&encoded(wrong)).await, None, "{wrong}");
            }
        }
        assert_eq!(basic.user("not base64 ~").await, None);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        std::fs::write(&path, line("new")).unwrap();
        assert_eq!(basic.user(&encoded("ann:pass:word")).await, None);
        assert_eq!(basic.user(&encoded("ann:new")).await.as_deref(), Some("ann"));
        std::thread::sleep(std::time::Duration::from_millis(1100));
        std::fs::write(&path, "ann:plain").unwrap();
        assert_eq!(basic.user(&encoded("ann:new")).await.as_deref(), Some("ann"));
    }

    #[test]
    fn the_hash_of_nobody_can_be_checked() {
        assert_eq!(bcrypt::verify("", NOBODY).ok(), Some(false));
    }

    #[test]
    fn other_hashes_are_refused_with_what_to_do() {
        assert!(parse("ann:{SHA}x").unwrap_err().contains("htpasswd -nB ann"));
        assert!(parse("\nann").unwrap_err().starts_with("line 2"));
    }
}
