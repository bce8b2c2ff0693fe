//! Where the source is in what it reads: its offset.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most records that are remembered because they may come again.
pub(super) const MOST_SEEN: usize = 10_000;

/// The offset, as it is stored. What is not set is at its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The page to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u64>,
    /// Records that lie before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The cursor to ask with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The URL to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The timestamp to ask with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The greatest timestamp of this round, and the digests of the records that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    #[serde(default, skip_serializing_if = "Seen::is_empty")]
    pub newest_seen: Seen,
    /// Digests of records that were read and will come again: those of the last page, and those of the timestamp asked with.
    #[serde(default, skip_serializing_if = "Seen::is_empty")]
    pub seen: Seen,
    /// Of the last page, for a conditional request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// Digests of records, and how many records have each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredSeen")]
pub(super) struct Seen(BTreeMap<String, u64>);

/// Offsets of earlier versions have a list of digests.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredSeen {
    Counts(BTreeMap<String, u64>),
    List(Vec<String>),
}

impl From<StoredSeen> for Seen {
    fn from(stored: StoredSeen) -> Self {
        match stored {
            StoredSeen::Counts(counts) => Self(counts.into_iter().filter(|(_, count)| *count > 0).collect()),
            StoredSeen::List(digests) => digests.into_iter().collect(),
        }
    }
}

impl FromIterator<String> for Seen {
    fn from_iter<I: IntoIterator<Item = String>>(digests: I) -> Self {
        let mut seen = Self::default();
        digests.into_iter().for_each(|digest| seen.add(digest));
        seen
    }
}

impl Seen {
    /// One more record.
    pub fn add(&mut self, digest: String) {
        *self.0.entry(digest).or_default() += 1;
    }

    /// One less, if there is one.
    pub fn remove(&mut self, digest: &str) -> bool {
        let Some(count) = self.0.get_mut(digest) else { return false };
        *count -= 1;
        if *count == 0 {
            self.0.remove(digest);
        }
        true
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Different digests.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl State {
    /// The place of another page: nothing of it was read.
    pub fn leave_page(&mut self) {
        if self.since.is_none() {
            self.seen.clear();
        }
        self.leave_conditions();
    }

    /// Nothing is known any more of what the server answered last.
    pub fn leave_conditions(&mut self) {
        self.etag = None;
        self.last_modified = None;
    }

    /// A round has ended: the next one begins at the first page again, with the newest timestamp.
    pub fn begin_round(&mut self) {
        let newest = self.newest.take();
        let seen = std::mem::take(&mut self.newest_seen);
        if newest.is_some() {
            *self = Self { since: newest, seen, ..Self::default() };
        } else {
            *self = Self { since: self.since.take(), seen: std::mem::take(&mut self.seen), ..Self::default() };
        }
    }

    /// A record's timestamp, which may be the greatest.
    pub fn note(&mut self, timestamp: &str, digest: &str) {
        match self.newest.as_deref().map(|newest| compare(timestamp, newest)) {
            Some(std::cmp::Ordering::Less) => return,
            Some(std::cmp::Ordering::Equal) => {}
            Some(std::cmp::Ordering::Greater) | None => {
                self.newest = Some(timestamp.to_owned());
                self.newest_seen.clear();
            }
        }
        self.newest_seen.add(digest.to_owned());
    }
}

/// Numbers by their value, everything else as text: ISO 8601 in one form sorts so, with or without parts of a second, which the Z
/// would stand before.
fn compare(a: &str, b: &str) -> std::cmp::Ordering {
    if let (Ok(a), Ok(b)) = (a.parse::<i128>(), b.parse::<i128>()) {
        return a.cmp(&b);
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => a.strip_suffix('Z').unwrap_or(a).cmp(b.strip_suffix('Z').unwrap_or(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_timestamp_is_asked_with_next() {
        let mut state = State { page: Some(3), ..State::default() };
        for (timestamp, digest) in [("9", "a"), ("10", "b"), ("2", "c"), ("10", "d"), ("10", "d")] {
            state.note(timestamp, digest);
        }
        state.begin_round();
        let seen: Seen = ["b", "d", "d"].map(str::to_owned).into_iter().collect();
        assert_eq!((state.since.as_deref(), &state.seen, state.page), (Some("10"), &seen, None));
        // A round that brought nothing changes nothing.
        let before = state.clone();
        state.begin_round();
        assert_eq!(state, before);
        assert!(compare("2026-01-02T00:00:00Z", "2026-01-02T00:00:00.5Z").is_lt());
        assert!(compare("2026-01-02T00:00:00Z", "2026-01-10T00:00:00Z").is_lt());
    }

    #[test]
    fn it_is_stored_as_json() {
        let state = State {
            cursor: Some("c".into()),
            seen: ["x", "y", "x"].map(str::to_owned).into_iter().collect(),
            ..State::default()
        };
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(text, r#"{"cursor":"c","seen":{"x":2,"y":1}}"#);
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        // As earlier versions wrote it.
        let mut old: State = serde_json::from_str(r#"{"cursor":"c","seen":["x","y"]}"#).unwrap();
        assert_eq!(["x", "x", "y", "z"].map(|digest| old.seen.remove(digest)), [true, false, true, false]);
        assert!(old.seen.is_empty());
        assert!(serde_json::from_str::<State>(r#"{"position":1}"#).is_err());
    }
}
