//! What became of each row handed to a producer.
//!
//! A row is named by one machine word: which send it belongs to and which row it is. Delivery reports come
//! back in that word, so that a row costs an addition and no allocation.

use std::collections::HashMap;
use std::ops::Range;

use arrow_buffer::Buffer;

use super::{Completion, LogError};

/// Bits of the word that hold the row; the rest hold the send's slot.
const ROW_BITS: u32 = 40;

/// The sends in flight of one producer.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    slots: Vec<Send>,
    free: Vec<usize>,
    by_token: HashMap<u64, usize>,
    completed: Vec<Completion>,
    in_flight: usize,
}

/// One token's rows.
#[derive(Debug, Default)]
struct Send {
    token: u64,
    sent: usize,
    done: usize,
    finished: bool,
    failed: Vec<(usize, LogError)>,
    /// Where the last acknowledged row was written.
    last: Option<(i32, i64)>,
    /// Memory that the client still points into.
    kept: Vec<Buffer>,
}

impl Deliveries {
    /// The slot of `token`, opened if need be.
    pub(super) fn open(&mut self, token: u64) -> usize {
        if let Some(slot) = self.by_token.get(&token) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Send::default());
            self.slots.len() - 1
        });
        self.slots[slot] = Send { token, ..Send::default() };
        self.by_token.insert(token, slot);
        slot
    }

    /// Keeps `buffer` alive until the slot's token completes.
    pub(super) fn keep(&mut self, slot: usize, buffer: &Buffer) {
        let kept = &mut self.slots[slot].kept;
        // The rest of the same rows may come with the next call: keep them once.
        if !kept.iter().any(|kept| kept.data_ptr() == buffer.data_ptr()) {
            kept.push(buffer.clone());
        }
    }

    /// The word for a row; the words of following rows count up from it.
    pub(super) fn word(slot: usize, row: usize) -> usize {
        slot << ROW_BITS | row
    }

    /// `count` rows of the slot were handed over.
    pub(super) fn sent(&mut self, slot: usize, count: usize) {
        self.slots[slot].sent += count;
        self.in_flight += count;
    }

    /// Report for the row of this word.
    #[inline]
    pub(super) fn report(&mut self, word: usize, error: Option<LogError>) {
        let (slot, row) = (word >> ROW_BITS, word & ((1 << ROW_BITS) - 1));
        if let Some(error) = error {
            self.slots[slot].failed.push((row, error));
        }
        self.done(slot, 1);
    }

    /// The same with the partition and offset that an acknowledged row was written at.
    #[inline]
    pub(super) fn report_at(&mut self, word: usize, outcome: Result<(i32, i64), LogError>) {
        match outcome {
            Ok(at) => {
                self.slots[word >> ROW_BITS].last = Some(at);
                self.report(word, None);
            }
            Err(error) => self.report(word, Some(error)),
        }
    }

    /// The same report for rows that follow each other.
    pub(super) fn report_rows(&mut self, slot: usize, rows: Range<usize>, error: Option<&LogError>) {
        let count = rows.len();
        if let Some(error) = error {
            self.slots[slot].failed.extend(rows.map(|row| (row, error.clone())));
        }
        self.done(slot, count);
    }

    #[inline]
    fn done(&mut self, slot: usize, count: usize) {
        let send = &mut self.slots[slot];
        send.done += count;
        self.in_flight -= count;
        if send.finished && send.done == send.sent {
            self.complete(slot);
        }
    }

    /// No further row of `token` follows.
    pub(super) fn finish(&mut self, token: u64) {
        match self.by_token.get(&token).copied() {
            Some(slot) => {
                self.slots[slot].finished = true;
                if self.slots[slot].done == self.slots[slot].sent {
                    self.complete(slot);
                }
            }
            None => self.completed.push(Completion { token, failed: Vec::new(), last: None }),
        }
    }

    fn complete(&mut self, slot: usize) {
        let send = std::mem::take(&mut self.slots[slot]);
        self.by_token.remove(&send.token);
        self.free.push(slot);
        let mut failed = send.failed;
        failed.sort_by_key(|(row, _)| *row);
        self.completed.push(Completion { token: send.token, failed, last: send.last });
    }

    /// Completions since the last call.
    pub(super) fn take_completed(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.completed)
    }

    pub(super) fn has_completed(&self) -> bool {
        !self.completed.is_empty()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_completes_once_all_its_rows_are_reported_and_it_is_finished() {
        let mut deliveries = Deliveries::default();
        let first = deliveries.open(7);
        let second = deliveries.open(8);
        deliveries.sent(first, 2);
        deliveries.sent(second, 1);
        deliveries.finish(8);
        deliveries.report(Deliveries::word(first, 0), None);
        deliveries.report(Deliveries::word(first, 1), Some(LogError::fatal("too large")));
        assert!(!deliveries.has_completed());
        deliveries.report_rows(second, 0..1, None);
        deliveries.finish(7);
        let completed = deliveries.take_completed();
        assert_eq!(completed.iter().map(|c| c.token).collect::<Vec<_>>(), [8, 7]);
        assert_eq!(completed[1].failed[0].0, 1);
        assert_eq!(deliveries.in_flight(), 0);
        // The slots are used again.
        assert!(deliveries.open(9) < 2);
    }

    #[test]
    fn a_token_without_rows_completes_at_once() {
        let mut deliveries = Deliveries::default();
        deliveries.finish(1);
        assert_eq!(deliveries.take_completed()[0].token, 1);
    }

    #[test]
    fn memory_is_kept_once_and_until_the_token_completes() {
        let mut deliveries = Deliveries::default();
        let buffer = Buffer::from_vec(vec![1_u8, 2, 3]);
        let slot = deliveries.open(1);
        deliveries.keep(slot, &buffer);
        deliveries.keep(slot, &buffer.clone());
        assert_eq!(buffer.strong_count(), 2);
        deliveries.finish(1);
        assert_eq!(buffer.strong_count(), 1);
    }
}
