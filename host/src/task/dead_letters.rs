//! Records that failed and are tolerated, kept in a topic with the reason in their headers (`errors.deadletterqueue.*`).
//!
//! What it promises: a dead letter is acknowledged before the offset of the record that it stands for may be stored or committed;
//! so a crash repeats letters and loses none. A log that is away is waited for. How it fails: a letter that is refused for
//! good ends the task, and from then on nothing is committed any more.

use std::sync::Arc;
use std::time::Duration;

use super::control::TaskControl;
use super::errors::{FailedRecord, TaskError};
use super::letter_headers::{self, Context};
use super::side_producer::SideProducer;
use crate::log::{LogError, LogProducer, LogRecords};

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
    head: Letterhead,
    producer: SideProducer,
}

impl DeadLetters {
    /// With the task's own producer for them.
    pub fn new(head: Letterhead, producer: Box<dyn LogProducer>) -> Self {
        let (control, what) = (head.control.clone(), format!("dead letters to topic {}", head.topic));
        let letterhead = head.clone();
        let refused = move |letters, error: &LogError| {
            letterhead.control.counters.errors.dead_letters_refused(letters);
            letterhead.refused(error)
        };
        Self { head, producer: SideProducer::new(producer, control, what, Box::new(refused)) }
    }

    /// Hands failed records over: a row of `records` for each of `failed`, and where it comes from. See [`SideProducer::send`].
    pub fn send(
        &mut self,
        records: LogRecords,
        failed: &[&FailedRecord],
        origin: impl Fn(usize) -> Context,
    ) -> Result<bool, TaskError> {
        let records = self.head.letters(records, failed, origin);
        self.producer.send(&self.head.topic, &records)
    }

    /// Waits until every dead letter is acknowledged. See [`SideProducer::flush`].
    pub fn flush(&mut self, timeout: Duration) -> Result<bool, TaskError> {
        self.producer.flush(timeout)
    }

    /// Whether every dead letter is acknowledged by now. Does not wait.
    pub fn has_come_through(&mut self) -> Result<bool, TaskError> {
        self.producer.has_come_through()
    }

    /// Frees the producer.
    pub fn close(self) {
        self.producer.close();
    }
}
