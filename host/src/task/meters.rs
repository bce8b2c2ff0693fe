//! How long a task's steps take and how large they are: what Connect's task metrics tell beyond counts of records. Updated
//! once a batch or rarer.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::control::now_ms;
use crate::worker::{Distribution, State, TaskReadings};

/// Number, sum and largest of something.
#[derive(Debug, Default)]
pub struct Meter {
    count: AtomicU64,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Meter {
    fn record(&self, value: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.max.fetch_max(value, Ordering::Relaxed);
    }

    fn read(&self) -> Distribution {
        Distribution {
            count: self.count.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
        }
    }
}

/// The meters of one task.
#[derive(Debug, Default)]
pub struct Meters {
    batch_size: Meter,
    call_micros: Meter,
    commit_micros: Meter,
    commit_failures: AtomicU64,
    transaction_size: Meter,
    transaction_least: AtomicU64,
    partitions: AtomicU64,
    max_lag: AtomicI64,
    running_ms: AtomicI64,
    paused_ms: AtomicI64,
    /// The state since when: positive running, negative paused, 0 neither yet.
    since_ms: AtomicI64,
}

impl Meters {
    /// A batch of so many records came in.
    pub fn batch(&self, records: usize) {
        self.batch_size.record(records as u64);
    }

    /// A call of `poll` or `put` took so long.
    pub fn called(&self, took: Duration) {
        self.call_micros.record(took.as_micros() as u64);
    }

    /// A commit of offsets took so long, and worked or not.
    pub fn committed(&self, took: Duration, worked: bool) {
        self.commit_micros.record(took.as_micros() as u64);
        if !worked {
            self.commit_failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A transaction of so many records was committed.
    pub fn transaction(&self, records: usize) {
        let records = records as u64;
        // Plus one; 0: there was none yet.
        let least = |least: u64| Some(if least == 0 { records + 1 } else { least.min(records + 1) });
        _ = self.transaction_least.fetch_update(Ordering::Relaxed, Ordering::Relaxed, least);
        self.transaction_size.record(records);
    }

    /// A sink's partitions with the records behind the end of each, where known.
    pub fn partitions(&self, partitions: usize, lags: impl Iterator<Item = i64>) {
        self.partitions.store(partitions as u64, Ordering::Relaxed);
        self.max_lag.store(lags.max().unwrap_or(-1), Ordering::Relaxed);
    }

    /// The task is RUNNING or PAUSED from now on. Answers whether it is so for the first time: its start has worked.
    pub fn state(&self, state: State) -> bool {
        let first = !self.started();
        let now = now_ms();
        self.settle(now);
        self.since_ms.store(if state == State::Paused { -now } else { now }, Ordering::Relaxed);
        first
    }

    /// Whether the task has been RUNNING or PAUSED.
    pub fn started(&self) -> bool {
        self.since_ms.load(Ordering::Relaxed) != 0
    }

    fn settle(&self, now: i64) {
        let (running, paused) = self.times(now);
        self.running_ms.store(running, Ordering::Relaxed);
        self.paused_ms.store(paused, Ordering::Relaxed);
    }

    /// Time spent running and paused until `now`.
    fn times(&self, now: i64) -> (i64, i64) {
        let since = self.since_ms.load(Ordering::Relaxed);
        let (running, paused) = (self.running_ms.load(Ordering::Relaxed), self.paused_ms.load(Ordering::Relaxed));
        let passed = if since == 0 { 0 } else { (now - since.abs()).max(0) };
        if since < 0 { (running, paused + passed) } else { (running + passed, paused) }
    }

    /// What they show now.
    pub fn read(&self) -> TaskReadings {
        let (running, paused) = self.times(now_ms());
        let whole = (running + paused).max(1) as f64;
        TaskReadings {
            batch_size: self.batch_size.read(),
            call_micros: self.call_micros.read(),
            commit_micros: self.commit_micros.read(),
            commit_failures: self.commit_failures.load(Ordering::Relaxed),
            transaction_size: self.transaction_size.read(),
            transaction_least: self.transaction_least.load(Ordering::Relaxed).saturating_sub(1),
            partitions: self.partitions.load(Ordering::Relaxed),
            max_lag: Some(self.max_lag.load(Ordering::Relaxed)).filter(|&lag| lag >= 0),
            running_ratio: running as f64 / whole,
            pause_ratio: paused as f64 / whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_count_sum_and_keep_the_largest() {
        let meters = Meters::default();
        for records in [3, 9, 1] {
            meters.batch(records);
        }
        meters.committed(Duration::from_millis(2), true);
        meters.committed(Duration::from_millis(4), false);
        meters.partitions(2, [5, 7].into_iter());
        let read = meters.read();
        assert_eq!(read.batch_size, Distribution { count: 3, sum: 13, max: 9 });
        assert_eq!((read.commit_micros.sum, read.commit_failures), (6000, 1));
        assert_eq!((read.partitions, read.max_lag), (2, Some(7)));
        assert_eq!((read.running_ratio, read.pause_ratio), (0.0, 0.0));
    }

    #[test]
    fn time_counts_for_the_state_that_it_was_spent_in() {
        let meters = Meters::default();
        meters.since_ms.store(1000, Ordering::Relaxed);
        meters.settle(4000);
        meters.since_ms.store(-4000, Ordering::Relaxed);
        assert_eq!(meters.times(5000), (3000, 1000));
    }
}
