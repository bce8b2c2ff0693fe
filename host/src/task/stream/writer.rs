//! The transactional side of a stream task.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::log::{
    GroupMetadata, LogError, LogRecords, NextStep, TopicPartition, TransactionError, TransactionalProducer,
};
use crate::task::control::TaskControl;
use crate::task::errors::TaskError;

/// Makes a producer with the task's `transactional.id`.
pub type MakeProducer = Box<dyn Fn() -> Result<Box<dyn TransactionalProducer>, LogError> + Send>;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);
/// How long a step is tried before the transaction is given up.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long to wait between looks at the orders.
const TICK: Duration = Duration::from_millis(100);

/// Why something was not done.
#[derive(Debug)]
pub enum Trouble {
    /// The transaction has come to nothing: begin again from the committed offsets.
    Again(String),
    /// The task ends.
    Fatal(TaskError),
    /// The task is to stop, or may not write any more.
    Stopped,
}

impl From<TaskError> for Trouble {
    fn from(error: TaskError) -> Self {
        Self::Fatal(error)
    }
}

/// One producer after the other, with one id.
pub struct Writer {
    pub make: MakeProducer,
    pub control: Arc<TaskControl>,
    producer: Option<Box<dyn TransactionalProducer>>,
    open: bool,
    token: u64,
    /// The last offsets of records that were sent with a token, where the log tells before the commit.
    last: HashMap<u64, (i32, i64)>,
}

impl Writer {
    pub fn new(make: MakeProducer, control: Arc<TaskControl>) -> Self {
        Self { make, control, producer: None, open: false, token: 0, last: HashMap::new() }
    }

    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Ends what an earlier producer of the id had open, this one's included, and makes a new one.
    pub fn renew(&mut self) -> Result<(), Trouble> {
        self.close();
        let begun = Instant::now();
        loop {
            let made = (self.make)().map_err(TransactionError::fatal);
            match made.and_then(|mut producer| producer.init(CALL).map(|()| producer)) {
                Ok(producer) => {
                    self.producer = Some(producer);
                    return Ok(());
                }
                Err(error) if !error.error.retriable && error.next != NextStep::Retry => {
                    return Err(Trouble::Fatal(error.error.into()));
                }
                Err(error) if begun.elapsed() > PATIENCE => return Err(Trouble::Again(error.error.message)),
                Err(error) => {
                    tracing::warn!("the transactional producer is made again: {}", error.error);
                    if self.control.wait(Duration::from_secs(1)) {
                        return Err(Trouble::Stopped);
                    }
                }
            }
        }
    }

    /// Opens a transaction if none is.
    pub fn begin(&mut self) -> Result<(), Trouble> {
        if self.open {
            return Ok(());
        }
        if !self.control.wait_for_lease() {
            return Err(Trouble::Stopped);
        }
        self.producer()?.begin().map_err(trouble)?;
        self.open = true;
        self.last.clear();
        Ok(())
    }

    /// Hands records over, and answers with their token.
    pub fn send(&mut self, topic: &str, records: &LogRecords) -> Result<u64, Trouble> {
        self.begin()?;
        self.token += 1;
        let (token, mut row, begun) = (self.token, 0, Instant::now());
        while row < records.len() {
            if self.control.fenced() {
                return Err(Trouble::Stopped);
            }
            let taken = self.producer()?.send(topic, records, row, token, TICK);
            let taken = taken.map_err(|error| trouble(TransactionError::fatal(error)))?;
            row += taken;
            self.collect(Duration::ZERO)?;
            if taken == 0 && begun.elapsed() > PATIENCE {
                return Err(Trouble::Again(format!("{topic} took no records for {PATIENCE:?}")));
            }
        }
        self.producer()?.finish(token);
        Ok(token)
    }

    /// Waits for the acknowledgement of everything sent, adds the offsets, and commits.
    pub fn commit(&mut self, offsets: &[(TopicPartition, i64)], group: &GroupMetadata) -> Result<(), Trouble> {
        let begun = Instant::now();
        while let Err(error) = self.producer()?.flush(TICK * 5) {
            self.collect(Duration::ZERO)?;
            if self.control.fenced() {
                return Err(Trouble::Stopped);
            }
            if !error.retriable || begun.elapsed() > PATIENCE {
                return Err(trouble(TransactionError::fatal(error)));
            }
        }
        self.collect(Duration::ZERO)?;
        if !self.control.wait_for_lease() {
            return Err(Trouble::Stopped);
        }
        if !offsets.is_empty() {
            self.tried(|producer| producer.send_offsets(offsets, group, CALL))?;
        }
        self.tried(|producer| producer.commit(CALL))?;
        self.open = false;
        self.collect(Duration::ZERO)
    }

    /// Where the records of a token end, if the log has told.
    pub fn last_offset(&self, token: u64) -> Option<i64> {
        self.last.get(&token).map(|(_, offset)| *offset)
    }

    /// Drops what is open. What cannot be aborted now is ended by the next producer.
    pub fn abort(&mut self) {
        if std::mem::take(&mut self.open)
            && let Some(producer) = &mut self.producer
            && let Err(error) = producer.abort(CALL)
        {
            tracing::warn!("the transaction was not aborted and is by the next producer: {}", error.error);
        }
    }

    pub fn close(&mut self) {
        self.open = false;
        if let Some(producer) = self.producer.take() {
            producer.close_transactional(Duration::from_secs(5)).unwrap_or_else(|error| tracing::warn!("{error}"));
        }
    }

    fn tried(
        &mut self,
        mut step: impl FnMut(&mut dyn TransactionalProducer) -> Result<(), TransactionError>,
    ) -> Result<(), Trouble> {
        let begun = Instant::now();
        loop {
            match step(&mut **self.producer()?) {
                Ok(()) => return Ok(()),
                Err(error) if error.next == NextStep::Retry && begun.elapsed() < PATIENCE => {
                    if self.control.fenced() {
                        return Err(Trouble::Stopped);
                    }
                    std::thread::sleep(TICK);
                }
                Err(error) => return Err(trouble(error)),
            }
        }
    }

    fn collect(&mut self, wait: Duration) -> Result<(), Trouble> {
        let completions = self.producer()?.poll(wait).map_err(|error| trouble(TransactionError::fatal(error)))?;
        for completion in completions {
            if let Some((_, error)) = completion.failed.first() {
                // A record that is refused for good would be refused again; what passes ends the transaction only.
                return Err(match error.retriable {
                    true => Trouble::Again(error.message.clone()),
                    false => trouble(TransactionError::fatal(error.clone())),
                });
            }
            if let Some(last) = completion.last {
                self.last.insert(completion.token, last);
            }
        }
        Ok(())
    }

    fn producer(&mut self) -> Result<&mut Box<dyn TransactionalProducer>, Trouble> {
        self.producer.as_mut().ok_or_else(|| Trouble::Again("there is no producer".to_owned()))
    }
}

/// Errors of the client that mean a new beginning, and those that another try does not mend.
fn trouble(error: TransactionError) -> Trouble {
    const HOPELESS: [&str; 9] = [
        "MSG_SIZE_TOO_LARGE",
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "TOPIC_EXCEPTION",
        "INVALID_RECORD",
        "INVALID_TIMESTAMP",
        "POLICY_VIOLATION",
    ];
    let TransactionError { error, next } = error;
    match error.code {
        _ if next == NextStep::Fenced => {
            Trouble::Fatal(TaskError::new(format!("another task of the connector has taken this one's place: {error}")))
        }
        Some(code) if HOPELESS.contains(&code) => Trouble::Fatal(error.into()),
        _ => Trouble::Again(error.message),
    }
}
