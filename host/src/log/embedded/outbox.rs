//! One producer's records on their way to the writer.
//!
//! The producer encodes into open batches, one a partition; the writer takes what is there whenever it begins
//! a transaction. So batches grow while a commit runs and no record waits for a timer.
//!
//! Bounded by bytes, from the row's encoding to its commit.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use super::super::deliveries::Deliveries;
use super::super::{LogError, Waker};
use super::catalog::Partition;
use super::record_batch::{BatchEncoder, EncodedBatch, HEADER};

/// A batch is closed at this size: large enough that SQLite's cost a row does not matter.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: i32 = 10_000;

/// A batch, where it goes, and whose rows it holds.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
    pub(super) partition: Arc<Partition>,
    pub(super) batch: EncodedBatch,
    /// Set when this batch alone cannot be stored.
    pub(super) refused: Option<LogError>,
    rows: Vec<(usize, Range<usize>)>,
}

/// A batch being filled.
#[derive(Debug)]
struct Open {
    topic: Arc<str>,
    number: i32,
    partition: Arc<Partition>,
    encoder: BatchEncoder,
    rows: Vec<(usize, Range<usize>)>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) deliveries: Deliveries,
    /// Open batches in the order of their first row, and where each partition's is.
    open: Vec<Open>,
    by_partition: HashMap<i64, usize>,
    closed: Vec<Parcel>,
    bytes: usize,
    /// The writer was told and has not come yet.
    announced: bool,
    /// A transaction with rows of this producer failed, and the producer does not know yet: later rows must not
    /// overtake them.
    pub(super) failed: Option<LogError>,
    /// Size of the batch closed last: a guess for the next one.
    spare: usize,
}

pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
    /// Called after a report.
    waker: OnceLock<Waker>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("state", &self.state).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Outbox {
    pub(super) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), limit, waker: OnceLock::new() }
    }

    pub(super) fn set_waker(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits for a report or for room, at most until `deadline`; `None` when that is past.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, deadline: Instant) -> Option<MutexGuard<'a, State>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        Some(self.changed.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0)
    }

    /// Whether another record fits. One always does, however large.
    pub(super) fn has_room(&self, state: &State) -> bool {
        state.bytes < self.limit
    }

    /// The writer's side: everything there is, in order.
    pub(super) fn collect(&self) -> Vec<Parcel> {
        let mut state = self.lock();
        state.announced = false;
        state.close_all();
        std::mem::take(&mut state.closed)
    }

    /// Of a transaction: everything there is, in order, told as delivered: it waits for the commit.
    pub(super) fn stage(&self) -> Vec<Parcel> {
        let mut state = self.lock();
        state.close_all();
        let mut parcels = std::mem::take(&mut state.closed);
        for parcel in &mut parcels {
            state.bytes -= parcel.batch.bytes.len() - HEADER;
            for (slot, rows) in std::mem::take(&mut parcel.rows) {
                state.deliveries.report_rows(slot, rows, None);
            }
        }
        parcels
    }

    /// The writer's side: the parcels were stored, or (all of them) not.
    pub(super) fn report(&self, parcels: Vec<Parcel>, error: Option<&LogError>) {
        let mut state = self.lock();
        state.settle(parcels, error);
        if let Some(error) = error {
            state.failed = Some(error.clone());
            // What came after them fails with them, since it must not overtake them.
            state.close_all();
            let later = std::mem::take(&mut state.closed);
            state.settle(later, Some(error));
        }
        drop(state);
        self.changed.notify_all();
        if let Some(wake) = self.waker.get() {
            wake();
        }
    }
}

impl State {
    /// The open batch of a partition, for one more record of about `bytes`.
    pub(super) fn open(&mut self, topic: &Arc<str>, number: i32, partition: &Arc<Partition>, bytes: usize) -> usize {
        if let Some(at) = self.by_partition.get(&partition.id).copied() {
            let encoder = &self.open[at].encoder;
            if encoder.records() < BATCH_RECORDS && (encoder.len() + bytes <= BATCH_BYTES || encoder.is_empty()) {
                return at;
            }
            self.close(at);
            let encoder = BatchEncoder::new(self.spare.min(BATCH_BYTES + BATCH_BYTES / 8));
            self.open[at].encoder = encoder;
            return at;
        }
        let open = Open {
            topic: topic.clone(),
            number,
            partition: partition.clone(),
            encoder: BatchEncoder::new(self.spare.min(BATCH_BYTES)),
            rows: Vec::new(),
        };
        self.open.push(open);
        self.by_partition.insert(partition.id, self.open.len() - 1);
        self.open.len() - 1
    }

    /// Encodes one row of a slot into an open batch.
    #[inline]
    pub(super) fn push(&mut self, at: usize, slot: usize, row: usize, encode: impl FnOnce(&mut BatchEncoder)) {
        let open = &mut self.open[at];
        let before = open.encoder.len();
        encode(&mut open.encoder);
        self.bytes += open.encoder.len() - before;
        match open.rows.last_mut() {
            Some((last, rows)) if *last == slot && rows.end == row => rows.end += 1,
            _ => open.rows.push((slot, row..row + 1)),
        }
        self.deliveries.sent(slot, 1);
    }

    /// Whether the writer has to be told that there are records.
    pub(super) fn announce(&mut self) -> bool {
        let announce =
            !self.announced && (!self.closed.is_empty() || self.open.iter().any(|open| !open.encoder.is_empty()));
        self.announced |= announce;
        announce
    }

    /// Moves an open batch to the closed ones; its place stays, empty.
    fn close(&mut self, at: usize) {
        let open = &mut self.open[at];
        if open.encoder.is_empty() {
            return;
        }
        let encoder = std::mem::replace(&mut open.encoder, BatchEncoder::new(0));
        self.spare = encoder.len();
        self.closed.push(Parcel {
            topic: open.topic.clone(),
            number: open.number,
            partition: open.partition.clone(),
            batch: encoder.finish(),
            refused: None,
            rows: std::mem::take(&mut open.rows),
        });
    }

    fn close_all(&mut self) {
        (0..self.open.len()).for_each(|at| self.close(at));
        self.open.clear();
        self.by_partition.clear();
    }

    fn settle(&mut self, parcels: Vec<Parcel>, error: Option<&LogError>) {
        for parcel in parcels {
            self.bytes -= parcel.batch.bytes.len() - HEADER;
            let error = error.or(parcel.refused.as_ref());
            for (slot, rows) in parcel.rows {
                self.deliveries.report_rows(slot, rows, error);
            }
        }
    }
}
