//! Records that failed and are tolerated, kept in a topic with the reason in their headers (`errors.deadletterqueue.*`).
//!
//! What it promises: a dead letter is acknowledged before the offset of the record that it stands for may be stored or committed;
//! so a crash repeats letters and loses none. A log that is away is waited for. How it fails: a letter that is refused for
//! good ends the task, and from then on nothing is committed any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::TaskControl;
use super::errors::{FailedRecord, TaskError};
use super::letter_headers::{self, Context};
use crate::log::{Log, LogError, LogProducer, LogRecords, NewTopic};

/// How letters of one task look.
#[derive(Clone)]
pub struct Letterhead {
    /// Topic that they go to.
    pub topic: Arc<str>,
    /// Whether the reason is put into headers.
    pub context_headers: bool,
    /// The connector's name.
    pub connector: String,
    /// The task's number.
    pub task: u32,
    /// Orders and counters.
    pub control: Arc<TaskControl>,
}

impl Letterhead {
    /// Failed records as letters, to be produced: a row of `records` for each of `failed`, and where it comes from. Counts them.
    pub fn letters(
        &self,
        mut records: LogRecords,
        failed: &[&FailedRecord],
        origin: impl Fn(usize) -> Context,
    ) -> LogRecords {
        // Any partition will do, and the key decides as for all records.
        records.partitions = None;
        if self.context_headers {
            let context = |(row, failed): (usize, &&FailedRecord)| {
                let mut context = origin(row);
                context.extend(letter_headers::reason(&self.connector, self.task, failed));
                context
            };
            let contexts = failed.iter().enumerate().map(context).collect::<Vec<_>>();
            records.headers = Some(letter_headers::with_context(records.headers.as_ref(), &contexts));
        }
        self.control.counters.errors.dead_lettered(records.len());
        records
    }

    /// The task's error when a letter is refused.
    pub fn refused(&self, error: &LogError) -> TaskError {
        TaskError::new(format!(
            "a failed record could not be kept in dead-letter topic {}, so the task stops before it: {error}",
            self.topic
        ))
    }
}

/// The dead-letter queue of one task.
pub struct DeadLetters {
    /// How they look.
    pub head: Letterhead,
    /// The task's own producer for them.
    pub producer: Box<dyn LogProducer>,
    /// Number of the last send.
    pub sent: u64,
    /// Why a letter was refused.
    pub refused: Option<TaskError>,
    /// Whether status says that letters are waited for.
    pub waited: bool,
}

/// How long one attempt to hand letters over waits for room.
const PATIENCE: Duration = Duration::from_millis(100);

impl DeadLetters {
    /// Hands failed records over: a row of `records` for each of `failed`, and where it comes from. Waits for room.
    /// Answers `false` when the task has to stop and not all were taken: then their offsets must not move.
    pub fn send(
        &mut self,
        records: LogRecords,
        failed: &[&FailedRecord],
        origin: impl Fn(usize) -> Context,
    ) -> Result<bool, TaskError> {
        self.check()?;
        let records = self.head.letters(records, failed, origin);
        self.sent += 1;
        let mut from = 0;
        while from < records.len() {
            if !self.head.control.wait_for_lease() {
                return Ok(false);
            }
            let taken = self.producer.send(&self.head.topic, &records, from, self.sent, PATIENCE);
            let taken = taken.map_err(|error| self.failed(&error))?;
            from += taken;
            self.collect(Duration::ZERO)?;
            if taken == 0 {
                self.waiting();
                if self.head.control.stopping() {
                    return Ok(false);
                }
            }
        }
        self.producer.finish(self.sent);
        Ok(true)
    }

    /// Waits until every dead letter is acknowledged. Answers `false` when that takes longer: nothing may be committed yet.
    pub fn flush(&mut self, timeout: Duration) -> Result<bool, TaskError> {
        self.check()?;
        let deadline = Instant::now() + timeout;
        while self.producer.in_flight() > 0 {
            if self.head.control.fenced() {
                return Ok(false);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.waiting();
                return Ok(false);
            }
            // A flush only hurries the client; what became of the letters comes with the completions.
            match self.producer.flush(left.min(PATIENCE)) {
                Err(error) if !error.retriable => return Err(self.failed(&error)),
                _ => self.collect(Duration::ZERO)?,
            }
        }
        self.collect(Duration::ZERO)?;
        if std::mem::take(&mut self.waited) {
            self.head.control.counters.set_retrying(None);
        }
        Ok(true)
    }

    /// Frees the producer.
    pub fn close(self) {
        self.producer.close(Duration::from_secs(1)).unwrap_or_else(|error| tracing::warn!("{error}"));
    }

    /// Once a letter was refused, nothing may be committed.
    fn check(&self) -> Result<(), TaskError> {
        self.refused.clone().map_or(Ok(()), Err)
    }

    fn collect(&mut self, timeout: Duration) -> Result<(), TaskError> {
        let completions = self.producer.poll(timeout).map_err(|error| self.failed(&error))?;
        let refused = completions.into_iter().flat_map(|completion| completion.failed).collect::<Vec<_>>();
        let Some((_, error)) = refused.first() else { return Ok(()) };
        self.head.control.counters.errors.dead_letters_refused(refused.len());
        Err(self.failed(error))
    }

    fn failed(&mut self, error: &LogError) -> TaskError {
        let error = self.head.refused(error);
        self.refused.get_or_insert_with(|| error.clone());
        error
    }

    fn waiting(&mut self) {
        self.waited = true;
        let reason =
            format!("dead letters are not acknowledged by topic {} yet; nothing is committed before", self.head.topic);
        tracing::warn!("{reason}");
        self.head.control.counters.set_retrying(Some(&reason));
    }
}

/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(15);

/// Makes the topic where there is none, as Connect does: at the task's start, with one partition. Waits for a cluster that is away.
pub fn ensure_topic(log: &dyn Log, topic: &NewTopic, control: &TaskControl) -> Result<(), TaskError> {
    let mut pause = Duration::from_millis(300);
    loop {
        let outcome = match log.admin().topic(&topic.name, ASK) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => log.admin().create_topic(topic, ASK).map(|created| {
                if created {
                    tracing::info!("created topic {}", topic.name);
                }
            }),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                control.counters.set_retrying(None);
                return Ok(());
            }
            Err(error) if error.retriable => {
                let reason = format!("dead-letter topic {} cannot be looked up: {error}", topic.name);
                tracing::warn!("{reason}");
                control.counters.set_retrying(Some(&reason));
                if control.wait(pause) {
                    return Ok(());
                }
                pause = (pause * 2).min(Duration::from_secs(10));
            }
            Err(error) => {
                return Err(TaskError::new(format!(
                    "Could not initialize dead letter queue with topic={}: {error}; create the topic, or set \
                     errors.deadletterqueue.topic.replication.factor to at most the number of brokers",
                    topic.name
                )));
            }
        }
    }
}
