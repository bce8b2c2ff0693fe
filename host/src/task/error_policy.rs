//! What becomes of records that fail: `errors.tolerance`, `errors.retry.*` and `errors.log.*`.
//!
//! Nothing here is called while all goes well. A failure that may pass is tried again with Kafka Connect's back-off until
//! `errors.retry.timeout` is over; what fails for good is counted, logged if asked, and tolerated or made the task's failure.
//! Without `errors.log.include.messages` a log line says which stage and class failed, and nothing that comes from a record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tributary_sdk::Config;

use super::control::TaskControl;
use super::errors::{FailedRecord, TaskError};

/// `errors.*` of a connector's config, except for dead letters.
#[derive(Debug, Clone, Default)]
pub struct ErrorPolicy {
    /// Failed records are skipped (and dead-lettered, where a topic is configured) instead of failing the task.
    pub tolerate: bool,
    /// Each failed record is logged.
    pub log: bool,
    /// The log line says which record it was, and why it failed.
    pub log_messages: bool,
    /// How long an operation that may succeed later is tried again, in ms; -1: without end.
    pub retry_timeout_ms: i64,
    /// Longest pause between two tries, in ms.
    pub retry_delay_max_ms: u64,
}

impl ErrorPolicy {
    /// Reads the connector's config.
    pub fn from_config(config: &Config) -> tributary_sdk::Result<Self> {
        let flag = |key| config.get(key).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        Ok(Self {
            tolerate: config.get("errors.tolerance").is_some_and(|value| value.trim().eq_ignore_ascii_case("all")),
            log: flag("errors.log.enable"),
            log_messages: flag("errors.log.include.messages"),
            retry_timeout_ms: config.parsed("errors.retry.timeout", 0)?,
            retry_delay_max_ms: config.parsed("errors.retry.delay.max.ms", 60_000)?,
        })
    }

    /// The tries that an operation has, from its first failure on.
    pub fn retries(&self) -> Retries {
        let deadline = u64::try_from(self.retry_timeout_ms).ok().map(|ms| Instant::now() + Duration::from_millis(ms));
        Retries { deadline, longest: Duration::from_millis(self.retry_delay_max_ms), attempt: 0 }
    }
}

/// The first pause between two tries; it doubles with each.
const FIRST_DELAY: Duration = Duration::from_millis(300);

/// Pauses between the tries of one operation: 300 ms, doubling; past `errors.retry.delay.max.ms` random below it; never
/// beyond the deadline.
#[derive(Debug)]
pub struct Retries {
    /// `None`: without end.
    deadline: Option<Instant>,
    longest: Duration,
    attempt: u32,
}

impl Retries {
    /// The pause before the next try; `None` when the time is up.
    pub fn next_pause(&mut self) -> Option<Duration> {
        self.pause_at(Instant::now(), || StdRng::from_os_rng().random())
    }

    fn pause_at(&mut self, now: Instant, random: impl FnOnce() -> f64) -> Option<Duration> {
        let left = match self.deadline {
            Some(deadline) => Some(deadline.checked_duration_since(now).filter(|left| !left.is_zero())?),
            None => None,
        };
        let doubled = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(self.attempt.min(30)));
        self.attempt += 1;
        let pause = if doubled > self.longest { self.longest.mul_f64(random()) } else { doubled };
        // A bound of 0 ms must not make a loop that never rests.
        let pause = pause.max(Duration::from_millis(1));
        Some(left.map_or(pause, |left| pause.min(left)))
    }
}

/// How a failed record is named.
pub trait Origin {
    /// For a task's failure: where the record comes from.
    fn place(&self, row: usize) -> String;
    /// For the log, in Connect's form: `consumed record is {…}`.
    fn details(&self, row: usize) -> String;
}

/// One task's way with errors.
#[derive(Clone)]
pub struct ErrorHandler {
    /// The connector's wishes.
    pub policy: ErrorPolicy,
    /// `<connector>-<task>`.
    pub task: Arc<str>,
    /// Counters, and the order to stop.
    pub control: Arc<TaskControl>,
}

impl ErrorHandler {
    /// Counts and logs records that failed for good, and answers whether the task goes on without them.
    pub fn judge(&self, failed: &[FailedRecord], origin: &dyn Origin) -> Result<(), TaskError> {
        let Some(first) = failed.first() else { return Ok(()) };
        let counters = &self.control.counters;
        let judged = if self.policy.tolerate { failed } else { &failed[..1] };
        counters.errors.failed_for_good(judged.len());
        if self.policy.log {
            for record in judged {
                self.log(record, origin);
            }
            counters.errors.logged(judged.len());
        }
        if self.policy.tolerate {
            counters.errors.skipped(failed.len());
            counters.failed(failed.len());
            return Ok(());
        }
        let FailedRecord { row, stage, class, message, .. } = first;
        Err(TaskError::new(format!(
            "Tolerance exceeded in error handler: record at {} failed in stage {} ({class}): {message}; \
             set errors.tolerance=all to skip such records, with errors.deadletterqueue.topic.name to keep them",
            origin.place(*row),
            stage.name(),
        )))
    }

    fn log(&self, record: &FailedRecord, origin: &dyn Origin) {
        let FailedRecord { row, stage, class, exception, message } = record;
        let (task, stage) = (&self.task, stage.name());
        if self.policy.log_messages {
            let details = origin.details(*row);
            tracing::error!(
                "Error encountered in task {task}. Executing stage '{stage}' with class '{class}', where {details}. {exception}: {message}"
            );
        } else {
            tracing::error!(
                "Error encountered in task {task}. Executing stage '{stage}' with class '{class}'. {exception}"
            );
        }
    }

    /// Makes a call again as long as its answer says that it may succeed later (`Some(why)`) and time is left for tries.
    /// What is answered last counts; nothing does when the task has to stop before.
    pub fn retried<T>(&self, what: &str, mut call: impl FnMut() -> (T, Option<String>)) -> Option<T> {
        let (mut answer, mut why) = call();
        if why.is_none() {
            return Some(answer);
        }
        let mut retries = self.policy.retries();
        while let Some(reason) = why {
            if !self.pause(&mut retries, what, &reason) {
                break;
            }
            (answer, why) = call();
        }
        self.control.counters.set_retrying(None);
        (!self.control.stopping()).then_some(answer)
    }

    /// Counts a failed try and waits for the next. Answers `false` when there is to be none, or the task has to stop.
    pub fn pause(&self, retries: &mut Retries, what: &str, reason: &str) -> bool {
        let counters = &self.control.counters;
        counters.errors.attempt_failed(1);
        let Some(pause) = retries.next_pause() else { return false };
        counters.set_retrying(Some(&format!("{what}: {reason}")));
        tracing::warn!("{what} will be tried again in {pause:?}: {reason}");
        if self.control.wait(pause) {
            return false;
        }
        counters.errors.retried();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(timeout_ms: i64, delay_max_ms: u64) -> Retries {
        let policy =
            ErrorPolicy { retry_timeout_ms: timeout_ms, retry_delay_max_ms: delay_max_ms, ..ErrorPolicy::default() };
        policy.retries()
    }

    #[test]
    fn pauses_double_and_are_random_below_the_bound_when_they_would_pass_it() {
        let mut retries = retries(-1, 1000);
        let now = Instant::now();
        let pauses: Vec<_> = (0..5).map(|_| retries.pause_at(now, || 0.25).unwrap().as_millis()).collect();
        assert_eq!(pauses, [300, 600, 250, 250, 250]);
    }

    #[test]
    fn no_pause_passes_the_deadline_and_none_comes_after_it() {
        assert!(retries(0, 1000).next_pause().is_none());
        let mut retries = retries(1000, 60_000);
        let begun = retries.deadline.unwrap() - Duration::from_millis(1000);
        let mut at = |ms| retries.pause_at(begun + Duration::from_millis(ms), || 0.5).map(|pause| pause.as_millis());
        assert_eq!([at(0), at(300), at(900), at(1000)], [Some(300), Some(600), Some(100), None]);
    }

    #[test]
    fn a_bound_of_nothing_still_rests() {
        assert_eq!(retries(-1, 0).next_pause(), Some(Duration::from_millis(1)));
    }
}
