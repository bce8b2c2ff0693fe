//! What this worker has written to a topic's only partition and applied before it came back.
//!
//! The leader is the only one that writes configs, and an acknowledged transaction is never taken back; so what it holds is
//! known without waiting until the brokers have marked it and it was read. It comes all the same, and is not applied again.
//! Should anything else come in its place, somebody has written who must not: what was applied too early is then wrong, and
//! the topic has to be read anew.

use std::collections::VecDeque;

use super::compacted_topic::Record;
use super::writer::Row;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Applied, and not read yet.
    rows: VecDeque<Row>,
    /// The next offset after what was applied early; 0: nothing was.
    next: i64,
    /// Records that were applied because they were read.
    read: u64,
}

/// What a record is that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// Still to be applied.
    New,
    /// Applied already.
    Known,
    /// Somebody else's, among or instead of those that were applied.
    Foreign,
}

impl Early {
    /// Records that were applied because they were read: as long as this stays the same, nothing has come between.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// The next offset after what was applied early.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// These are applied, the last one with this offset.
    pub(super) fn applied(&mut self, rows: &[Row], last: i64) {
        self.rows.extend(rows.iter().cloned());
        self.next = last + 1;
    }

    /// A record was read.
    pub(super) fn meet(&mut self, record: &Record<'_>) -> Met {
        if record.offset >= self.next {
            self.read += 1;
            return if self.rows.is_empty() { Met::New } else { Met::Foreign };
        }
        let same = |(key, value): &Row| record.key == Some(key.as_slice()) && record.value == value.as_deref();
        match self.rows.pop_front() {
            Some(row) if same(&row) => Met::Known,
            _ => Met::Foreign,
        }
    }

    /// Everything is read anew.
    pub(super) fn forget(&mut self) {
        (self.next, self.read) = (0, self.read + 1);
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(offset: i64, key: &'a str, value: Option<&'a str>) -> Record<'a> {
        Record { partition: 0, offset, timestamp: 0, key: Some(key.as_bytes()), value: value.map(str::as_bytes) }
    }

    fn row(key: &str, value: Option<&str>) -> Row {
        (key.into(), value.map(Into::into))
    }

    #[test]
    fn what_was_written_is_known_when_it_comes() {
        let mut early = Early::default();
        assert_eq!(early.meet(&record(3, "a", Some("1"))), Met::New);
        let read = early.read();
        early.applied(&[row("a", Some("2")), row("b", None)], 6);
        // 7 is the mark of the transaction.
        early.applied(&[row("c", Some("1"))], 8);
        assert_eq!(early.next(), 9);
        assert_eq!(early.meet(&record(5, "a", Some("2"))), Met::Known);
        assert_eq!(early.meet(&record(6, "b", None)), Met::Known);
        assert_eq!(early.meet(&record(8, "c", Some("1"))), Met::Known);
        assert_eq!(early.read(), read);
        assert_eq!(early.meet(&record(10, "d", None)), Met::New);
        assert_ne!(early.read(), read);
    }

    #[test]
    fn what_others_have_written_between_is_noticed() {
        let written = [row("a", Some("1")), row("b", Some("1"))];
        let mut early = Early::default();
        early.applied(&written, 6);
        assert_eq!(early.meet(&record(4, "x", None)), Met::Foreign, "before");
        let mut early = Early::default();
        early.applied(&written, 6);
        assert_eq!(early.meet(&record(4, "a", Some("1"))), Met::Known);
        assert_eq!(early.meet(&record(5, "a", Some("3"))), Met::Foreign, "between");
        let mut early = Early::default();
        early.applied(&written, 6);
        assert_eq!(early.meet(&record(7, "y", None)), Met::Foreign, "instead");
        early.forget();
        assert_eq!((early.meet(&record(0, "a", None)), early.next()), (Met::New, 0));
    }
}
