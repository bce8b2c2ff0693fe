//! Kafka Connect's `task-error-metrics` of one task. Touched only when something fails.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::control::now_ms;
use crate::worker::ErrorTotals;

/// Counts what failed.
#[derive(Debug, Default)]
pub struct ErrorCounters {
    failures: AtomicU64,
    errors: AtomicU64,
    skipped: AtomicU64,
    retries: AtomicU64,
    logged: AtomicU64,
    dead_letter_requests: AtomicU64,
    dead_letter_failures: AtomicU64,
    last_error_ms: AtomicI64,
}

impl ErrorCounters {
    /// Tries failed, whether or not others follow.
    pub fn attempt_failed(&self, count: usize) {
        add(&self.failures, count);
    }

    /// Records failed for good.
    pub fn failed_for_good(&self, records: usize) {
        add(&self.failures, records);
        add(&self.errors, records);
        self.last_error_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Records were tolerated and left out.
    pub fn skipped(&self, records: usize) {
        add(&self.skipped, records);
    }

    /// Something was tried again.
    pub fn retried(&self) {
        add(&self.retries, 1);
    }

    /// Failed records were logged.
    pub fn logged(&self, records: usize) {
        add(&self.logged, records);
    }

    /// Dead letters were handed to the producer.
    pub fn dead_lettered(&self, records: usize) {
        add(&self.dead_letter_requests, records);
    }

    /// Dead letters were refused.
    pub fn dead_letters_refused(&self, records: usize) {
        add(&self.dead_letter_failures, records);
    }

    /// A copy for status and metrics.
    pub fn totals(&self) -> ErrorTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ErrorTotals {
            record_failures: read(&self.failures),
            record_errors: read(&self.errors),
            records_skipped: read(&self.skipped),
            retries: read(&self.retries),
            errors_logged: read(&self.logged),
            dead_letter_requests: read(&self.dead_letter_requests),
            dead_letter_failures: read(&self.dead_letter_failures),
            last_error_ms: Some(self.last_error_ms.load(Ordering::Relaxed)).filter(|&ms| ms > 0),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
