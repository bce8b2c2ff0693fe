//! Records that make no sense: skipped, with one line in the log for each kind of nonsense.

use std::collections::HashMap;

/// A record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nonsense {
    /// The kind, as it is written to the log.
    pub kind: &'static str,
    /// What was found, without values (they may hold secrets).
    pub detail: String,
}

impl Nonsense {
    pub(super) fn new(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// How often each kind was met.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    met: HashMap<&'static str, u64>,
}

impl Warnings {
    /// Counts it, and says so the first time.
    pub(super) fn skip(&mut self, topic: &str, partition: i32, offset: i64, nonsense: &Nonsense) {
        let count = self.met.entry(nonsense.kind).or_default();
        *count += 1;
        if *count == 1 {
            tracing::warn!(
                topic,
                partition,
                offset,
                "a record is skipped: {}: {} (further ones of this kind are skipped without a word)",
                nonsense.kind,
                nonsense.detail
            );
        }
    }

    /// Kinds met so far, and how often.
    #[cfg(test)]
    pub(super) fn counts(&self) -> &HashMap<&'static str, u64> {
        &self.met
    }
}

/// A key for a log line: as text, cut short.
pub(super) fn shown(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
