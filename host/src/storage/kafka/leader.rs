//! The leader's writes to the config topic: in transactions, so that whoever led before can write no more.
//!
//! Several producers take turns in a burst of writes. After a commit the broker is busy for some milliseconds with the markers of the
//! transaction, and refuses the next one of the same id; librdkafka then waits 20 ms, which is longer than some writes take.
//! The first id is Kafka Connect's own, and a Connect worker that takes the group over fences only that one: so the others write
//! only right after the first could. Where they are not permitted, the first does it all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::prepare::classified;
use super::writer::{Row, records};
use crate::log::{ClientSettings, Log, LogError, NextStep, TransactionError, TransactionalProducer};
use crate::storage::{StorageError, StorageErrorKind};

/// How long claiming or one write may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a transaction of a leader that died may hide what comes after it, if nobody takes its place.
const TRANSACTION: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);
/// How long after a commit of the first producer the others may write: nobody becomes the leader so quickly.
const BURST: Duration = Duration::from_millis(100);
/// Producers that take turns.
const PRODUCERS: usize = 4;

/// The transactional producer, while this worker leads.
pub(super) struct LeaderWriter {
    log: Arc<dyn Log>,
    settings: ClientSettings,
    id: String,
    topic: String,
    producer: Mutex<Leading>,
}

#[derive(Default)]
struct Leading {
    /// The first one, and the others as far as they are permitted; none: this worker does not lead.
    producers: Vec<Box<dyn TransactionalProducer>>,
    /// When the first one committed.
    first_committed: Option<Instant>,
    /// Whose turn it is, as long as the first one's commit is not long ago.
    next: usize,
    token: u64,
}

impl Leading {
    /// Who writes now.
    fn turn(&self) -> usize {
        let burst = self.first_committed.is_some_and(|at| at.elapsed() < BURST);
        if burst && self.next < self.producers.len() { self.next } else { 0 }
    }

    /// That one has committed.
    fn committed(&mut self, turn: usize) {
        if turn == 0 {
            self.first_committed = Some(Instant::now());
        }
        self.next = turn + 1;
    }
}

impl LeaderWriter {
    pub(super) fn new(log: Arc<dyn Log>, settings: &ClientSettings, id: String, topic: String) -> Self {
        let mut settings = settings.clone();
        settings.insert("linger.ms".to_owned(), "0".to_owned());
        settings.insert("transaction.timeout.ms".to_owned(), TRANSACTION.as_millis().to_string());
        Self { log, settings, id, topic, producer: Mutex::default() }
    }

    /// Fences whoever wrote before, an earlier self too.
    pub(super) fn claim(&self) -> Result<(), StorageError> {
        let mut leading = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        retire(&mut leading);
        let others = (2..=PRODUCERS).map(|number| format!("{}-{number}", self.id)).collect::<Vec<_>>();
        let (first, others) = std::thread::scope(|scope| {
            let others = others.iter().map(|id| scope.spawn(|| self.producer(id))).collect::<Vec<_>>();
            let first = self.producer(&self.id);
            (first, others.into_iter().map(|other| other.join()).collect::<Vec<_>>())
        });
        let mut failed = first.map(|first| leading.producers.push(first)).err();
        for other in others {
            match other {
                Ok(Ok(other)) => leading.producers.push(other),
                Ok(Err(error)) if error.kind == StorageErrorKind::Misconfigured => {
                    tracing::info!("changes of configs take some milliseconds longer: {error}");
                }
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(_) => {
                    let panicked = "a thread that claims the config topic panicked";
                    failed = failed.or_else(|| Some(StorageError::other(panicked)));
                }
            }
        }
        match failed {
            None => Ok(()),
            Some(error) => {
                retire(&mut leading);
                Err(error)
            }
        }
    }

    /// A producer that has fenced those before it with the same id.
    fn producer(&self, id: &str) -> Result<Box<dyn TransactionalProducer>, StorageError> {
        let mut producer = self.log.transactional_producer(id, &self.settings).map_err(classified)?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match producer.init(left.max(PAUSE)) {
                Ok(()) => return Ok(producer),
                Err(error) if error.next == NextStep::Retry && left > PAUSE => std::thread::sleep(PAUSE),
                Err(error) => {
                    let _ = producer.close_transactional(Duration::from_secs(1));
                    return Err(self.refused(id, error));
                }
            }
        }
    }

    /// Whether this worker has claimed the topic and has not been found fenced since.
    pub(super) fn leads(&self) -> bool {
        !self.producer.lock().unwrap_or_else(PoisonError::into_inner).producers.is_empty()
    }

    /// Writes all rows or none; the offset of the last one.
    pub(super) fn write(&self, rows: &[Row]) -> Result<Option<i64>, StorageError> {
        let mut leading = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        leading.token += 1;
        let token = leading.token;
        let turn = leading.turn();
        let Some(producer) = leading.producers.get_mut(turn) else { return Err(self.not_leading()) };
        match self.transaction(&mut **producer, rows, token) {
            Ok(offset) => {
                leading.committed(turn);
                Ok(offset)
            }
            Err(error) => {
                // What came of it is not known to this client; the next claim finishes it.
                retire(&mut leading);
                Err(self.refused(&self.id, error))
            }
        }
    }

    /// Gives the claim up.
    pub(super) fn close(&self) {
        retire(&mut self.producer.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn transaction(
        &self,
        producer: &mut dyn TransactionalProducer,
        rows: &[Row],
        token: u64,
    ) -> Result<Option<i64>, TransactionError> {
        let deadline = Instant::now() + TIMEOUT;
        let records = records(rows);
        let begun = Instant::now();
        producer.begin()?;
        let mut sent = 0;
        while sent < records.len() {
            sent += producer.as_producer().send(&self.topic, &records, sent, token, Duration::from_millis(100))?;
        }
        producer.as_producer().finish(token);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match producer.commit(left.max(PAUSE)) {
                Ok(()) => break,
                Err(error) if error.next == NextStep::Retry && left > PAUSE => std::thread::sleep(PAUSE),
                Err(error) if error.next == NextStep::Abort => {
                    let reason = self.first_failure(producer, token);
                    // Nothing of it is visible, whether this works or not: a failure leaves it to the transaction's time-out.
                    producer.abort(left.max(PAUSE)).ok();
                    return Err(
                        reason.map_or(error.clone(), |reason| TransactionError { error: reason, next: error.next })
                    );
                }
                Err(error) => return Err(error),
            }
        }
        tracing::debug!(topic = self.topic, rows = rows.len(), took = ?begun.elapsed(), "written");
        let completions = producer.as_producer().poll(Duration::ZERO)?;
        let last = completions.into_iter().filter(|completion| completion.token == token).find_map(|c| c.last);
        Ok(last.map(|(_, offset)| offset))
    }

    /// Why a record was refused, which says more than that the transaction has to be aborted.
    fn first_failure(&self, producer: &mut dyn TransactionalProducer, token: u64) -> Option<LogError> {
        let completions = producer.as_producer().poll(Duration::ZERO).ok()?;
        let failed = completions.into_iter().find(|completion| completion.token == token)?.failed;
        failed.into_iter().next().map(|(_, error)| error)
    }

    fn not_leading(&self) -> StorageError {
        StorageError::new(
            StorageErrorKind::Fenced,
            format!(
                "writing to topic {}: this worker is not the leader, or another one has taken its place",
                self.topic
            ),
        )
    }

    fn refused(&self, id: &str, error: TransactionError) -> StorageError {
        let TransactionError { error, next } = error;
        let topic = &self.topic;
        match (next, error.code) {
            (NextStep::Fenced, _) => StorageError::new(
                StorageErrorKind::Fenced,
                format!("writing to topic {topic}: another worker is the leader now ({error})"),
            ),
            (_, Some("TRANSACTIONAL_ID_AUTHORIZATION_FAILED" | "CLUSTER_AUTHORIZATION_FAILED")) => StorageError::new(
                StorageErrorKind::Misconfigured,
                format!(
                    "writing to topic {topic} as the leader: {error}; grant the worker's principal Write and Describe on the transactional id {id} (literal or by prefix)"
                ),
            ),
            (_, Some("_UNSUPPORTED_FEATURE" | "UNSUPPORTED_VERSION")) => StorageError::new(
                StorageErrorKind::Misconfigured,
                format!(
                    "writing to topic {topic} as the leader: {error}; the brokers have to know transactions (Kafka 0.11 or later)"
                ),
            ),
            (NextStep::Retry, _) => StorageError::new(
                StorageErrorKind::Away,
                format!(
                    "writing to topic {topic} with the transactional id {id}: {error}; whether it was written is not known"
                ),
            ),
            _ => {
                let classified = classified(error);
                StorageError { message: format!("writing to topic {topic}: {}", classified.message), ..classified }
            }
        }
    }
}

/// Closes on librdkafka's own closing thread, waiting for little.
fn retire(leading: &mut Leading) {
    leading.first_committed = None;
    std::thread::scope(|scope| {
        for producer in leading.producers.drain(..) {
            scope.spawn(|| {
                if let Err(error) = producer.close_transactional(Duration::from_secs(1)) {
                    tracing::debug!("{error}");
                }
            });
        }
    });
}
