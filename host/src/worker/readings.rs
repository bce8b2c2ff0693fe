//! What a task's meters show.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number, sum and largest of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Distribution {
    pub count: u64,
    pub sum: u64,
    pub max: u64,
}

impl Distribution {
    /// The mean; 0 of nothing.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }
}

/// What a task's meters show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskReadings {
    /// Records of a batch, as it was polled or fetched.
    pub batch_size: Distribution,
    /// Calls of `poll` (sources) or `put` (sinks), µs.
    pub call_micros: Distribution,
    /// Commits of offsets, µs.
    pub commit_micros: Distribution,
    /// Commits that failed.
    pub commit_failures: u64,
    /// Records of a transaction, where the task has transactions.
    pub transaction_size: Distribution,
    /// Records of the smallest one.
    pub transaction_least: u64,
    /// Partitions of a sink task.
    pub partitions: u64,
    /// The longest way to the end of a partition, in records, where known.
    pub max_lag: Option<i64>,
    /// Part of its time that it was RUNNING.
    pub running_ratio: f64,
    /// Part of its time that it was PAUSED.
    pub pause_ratio: f64,
}

/// Starts since the worker began.
#[derive(Debug, Default)]
pub struct StartCounters {
    attempts: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
}

/// Starts since the worker began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Starts {
    pub attempts: u64,
    pub successes: u64,
    pub failures: u64,
}

impl StartCounters {
    /// One begins.
    pub fn begun(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// One has worked.
    pub fn worked(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
    }

    /// One has failed.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts.
    pub fn read(&self) -> Starts {
        Starts {
            attempts: self.attempts.load(Ordering::Relaxed),
            successes: self.successes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}
