//! What passes between a sink task's two threads.

use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::Array;
use tributary_sdk::prepared::Claim;
use tributary_sdk::sink::{RecordFailure, TopicPartitionOffset};
use tributary_sdk::{Batch, Offsets};

use super::error_policy::Origin;
use super::errors::{FailedRecord, TaskError};
use super::letter_headers::{Context, OFFSET, PARTITION, TOPIC};
use super::queue::Weight;
use crate::log::{FetchedBatch, TopicPartition};

/// Next-to-read offsets.
pub type NextOffsets = Vec<(TopicPartition, i64)>;

/// One run of fetched records after converters and transforms. It counts as delivered as a whole.
pub struct Inbound {
    /// Where the records come from.
    pub partition: TopicPartition,
    /// The offset after the last of them.
    pub next_offset: i64,
    /// What is to be put, in order; none when everything was filtered or failed.
    pub batches: Vec<Batch>,
    /// Records that could not be converted or transformed, by row of `fetched`.
    pub failures: Vec<FailedRecord>,
    /// The records as they were read, for dead letters.
    pub fetched: FetchedBatch,
}

impl Inbound {
    /// A row's context headers.
    pub fn context(&self, row: usize) -> Context {
        vec![
            (TOPIC, self.partition.topic.to_string()),
            (PARTITION, self.partition.partition.to_string()),
            (OFFSET, self.fetched.offsets.value(row).to_string()),
        ]
    }

    /// The row of `fetched` that a row of one of the batches comes from.
    pub fn row_of(&self, batch: &Batch, row: usize) -> usize {
        let Offsets::Sink(offsets) = &batch.offsets else { return row };
        self.fetched.offsets.values().binary_search(&offsets.value(row)).unwrap_or(row)
    }
}

impl Inbound {
    /// What a sink refused of a batch made from these records.
    pub fn refused(&self, batch: &Batch, failures: Vec<RecordFailure>) -> Vec<FailedRecord> {
        let failed = |RecordFailure { row, retriable, message }: RecordFailure| {
            FailedRecord::put(self.row_of(batch, row), retriable, message)
        };
        let mut failed = failures.into_iter().map(failed).collect::<Vec<_>>();
        // Several rows may have been made of one record.
        failed.sort_by_key(|record| record.row);
        failed.dedup_by_key(|record| record.row);
        failed
    }
}

impl Origin for Inbound {
    fn place(&self, row: usize) -> String {
        format!("{}-{} offset {}", self.partition.topic, self.partition.partition, self.fetched.offsets.value(row))
    }

    fn details(&self, row: usize) -> String {
        let TopicPartition { topic, partition } = &self.partition;
        let timestamp = self.fetched.records.timestamps.as_ref().filter(|times| times.is_valid(row));
        let timestamp = timestamp.map_or_else(String::new, |times| format!(", timestamp={}", times.value(row)));
        let offset = self.fetched.offsets.value(row);
        format!("consumed record is {{topic='{topic}', partition={partition}, offset={offset}{timestamp}}}")
    }
}

/// An item of the queue. Open and Close wait for an answer.
pub enum SinkItem {
    /// Records to put.
    Records(Box<Inbound>),
    /// Partitions that the task was given; the answer: those that have to begin elsewhere.
    Open {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// For a sink that prepares its transactions: as whose it has them, and the group's offset.
        claims: Option<Vec<(Claim, i64)>>,
        /// Takes the answer.
        reply: SyncSender<Vec<TopicPartitionOffset>>,
    },
    /// Partitions that are taken away; the answer: what may be committed for them.
    Close {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// They are gone already: nothing may be committed.
        lost: bool,
        /// Takes the answer.
        reply: SyncSender<NextOffsets>,
    },
    /// The log cannot be read any more.
    Failed(TaskError),
}

impl Weight for SinkItem {
    fn records(&self) -> usize {
        if let Self::Records(inbound) = self { inbound.fetched.records.len() } else { 0 }
    }

    fn bytes(&self) -> usize {
        if let Self::Records(inbound) = self { inbound.fetched.records.bytes() } else { 0 }
    }
}

#[derive(Default)]
struct Commits {
    requested: Option<(NextOffsets, u64)>,
    done: Option<u64>,
    failed: Option<NextOffsets>,
    finished: bool,
}

/// Offsets on their way from the thread that asked the connector to the thread that owns the consumer, so that records go on being put meanwhile.
#[derive(Default)]
pub struct CommitPort {
    commits: Mutex<Commits>,
    changed: Condvar,
}

impl CommitPort {
    /// Hands offsets over; those of an earlier request that was not begun yet are replaced where newer.
    pub fn request(&self, offsets: NextOffsets, epoch: u64) {
        let mut commits = self.lock();
        let mut all = commits.requested.take().map_or_else(Vec::new, |(earlier, _)| earlier);
        all.retain(|(partition, _)| !offsets.iter().any(|(newer, _)| newer == partition));
        all.extend(offsets);
        commits.requested = Some((all, epoch));
        self.changed.notify_all();
    }

    /// Whether there are offsets to commit.
    pub fn is_requested(&self) -> bool {
        self.lock().requested.is_some()
    }

    /// The offsets to commit now, and the epoch of state that goes with them.
    pub fn take_requested(&self) -> Option<(NextOffsets, u64)> {
        self.lock().requested.take()
    }

    /// Reports a commit.
    pub fn done(&self, epoch: u64) {
        self.lock().done = Some(epoch);
    }

    /// Reports a commit that failed.
    pub fn failed(&self, offsets: NextOffsets) {
        self.lock().failed = Some(offsets);
    }

    /// The newest epoch committed since the last call.
    pub fn take_done(&self) -> Option<u64> {
        self.lock().done.take()
    }

    /// Offsets whose commit failed since the last call.
    pub fn take_failed(&self) -> Option<NextOffsets> {
        self.lock().failed.take()
    }

    /// No further request follows.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.changed.notify_all();
    }

    /// Waits until no further request follows. Answers `false` when that took longer than `timeout`.
    pub fn wait_finished(&self, timeout: Duration) -> bool {
        let commits = self.lock();
        let (commits, _) = self
            .changed
            .wait_timeout_while(commits, timeout, |commits| !commits.finished)
            .unwrap_or_else(PoisonError::into_inner);
        commits.finished
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
