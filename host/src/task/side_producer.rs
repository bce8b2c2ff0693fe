//! Records that a task writes beside its work: dead letters, and what a sink writes itself.
//!
//! What it promises: [`SideProducer::flush`] answers `true` only when all of them are acknowledged, so that offsets that move after it
//! leave none behind. A log that is away is waited for. How it fails: a record that is refused for good ends the task, and from
//! then on nothing is flushed any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::TaskControl;
use super::errors::TaskError;
use crate::log::{LogError, LogProducer, LogRecords};

/// How long one attempt to hand records over waits for room.
const PATIENCE: Duration = Duration::from_millis(100);

/// What becomes of so many records that were refused with this error: the task's end.
pub type Refused = Box<dyn Fn(usize, &LogError) -> TaskError + Send>;

/// See the module.
pub struct SideProducer {
    producer: Box<dyn LogProducer>,
    control: Arc<TaskControl>,
    /// What the records are, in plural, for status and log.
    what: String,
    on_refused: Refused,
    /// Number of the last send.
    sent: u64,
    /// Why a record was refused.
    refused: Option<TaskError>,
    /// Whether status says that acknowledgements are waited for.
    waited: bool,
}

impl SideProducer {
    /// Over a producer of the task's own.
    pub fn new(producer: Box<dyn LogProducer>, control: Arc<TaskControl>, what: String, on_refused: Refused) -> Self {
        Self { producer, control, what, on_refused, sent: 0, refused: None, waited: false }
    }

    /// Hands records over. Waits for room. Answers `false` when the task has to stop and not all were taken: then the offsets of what
    /// they are about must not move.
    pub fn send(&mut self, topic: &str, records: &LogRecords) -> Result<bool, TaskError> {
        self.check()?;
        self.sent += 1;
        let mut from = 0;
        while from < records.len() {
            if !self.control.wait_for_lease() {
                return Ok(false);
            }
            let taken = self.producer.send(topic, records, from, self.sent, PATIENCE);
            let taken = taken.map_err(|error| self.failed(0, &error))?;
            from += taken;
            self.collect(Duration::ZERO)?;
            if taken == 0 {
                self.waiting();
                if self.control.stopping() {
                    return Ok(false);
                }
            }
        }
        self.producer.finish(self.sent);
        Ok(true)
    }

    /// Waits until everything is acknowledged. Answers `false` when that takes longer: nothing may be committed yet.
    pub fn flush(&mut self, timeout: Duration) -> Result<bool, TaskError> {
        self.check()?;
        let deadline = Instant::now() + timeout;
        while self.producer.in_flight() > 0 {
            if self.control.fenced() {
                return Ok(false);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.waiting();
                return Ok(false);
            }
            // A flush only hurries the client; what became of the records comes with the completions.
            match self.producer.flush(left.min(PATIENCE)) {
                Err(error) if !error.retriable => return Err(self.failed(0, &error)),
                _ => self.collect(Duration::ZERO)?,
            }
        }
        self.collect(Duration::ZERO)?;
        if std::mem::take(&mut self.waited) {
            self.control.counters.set_retrying(None);
        }
        Ok(true)
    }

    /// Whether everything is acknowledged by now. Does not wait.
    pub fn has_come_through(&mut self) -> Result<bool, TaskError> {
        self.check()?;
        self.collect(Duration::ZERO)?;
        Ok(self.producer.in_flight() == 0)
    }

    /// Frees the producer.
    pub fn close(self) {
        self.producer.close(Duration::from_secs(1)).unwrap_or_else(|error| tracing::warn!("{error}"));
    }

    /// Once a record was refused, nothing may be committed.
    fn check(&self) -> Result<(), TaskError> {
        self.refused.clone().map_or(Ok(()), Err)
    }

    fn collect(&mut self, timeout: Duration) -> Result<(), TaskError> {
        let completions = self.producer.poll(timeout).map_err(|error| self.failed(0, &error))?;
        let refused = completions.into_iter().flat_map(|completion| completion.failed).collect::<Vec<_>>();
        let Some((_, error)) = refused.first() else { return Ok(()) };
        Err(self.failed(refused.len(), error))
    }

    fn failed(&mut self, records: usize, error: &LogError) -> TaskError {
        let error = (self.on_refused)(records, error);
        self.refused.get_or_insert_with(|| error.clone());
        error
    }

    fn waiting(&mut self) {
        self.waited = true;
        let reason = format!("{} are not acknowledged yet; nothing is committed before", self.what);
        tracing::warn!("{reason}");
        self.control.counters.set_retrying(Some(&reason));
    }
}
