//! The producer that the three stores share, on a thread of its own.
//!
//! Promises: every write is answered once: with the place of its last record when all of it is acknowledged by all in-sync
//! replicas, or with an error. What was not acknowledged within [`DELIVERY`] is given up, so that nothing is written long
//! after whoever wanted it has gone; whether a record that was on its way then was written is not known.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, atomic};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow_array::BinaryArray;

use super::prepare::classified;
use crate::log::{ClientSettings, Completion, Log, LogError, LogProducer, LogRecords};
use crate::storage::{StorageError, StorageErrorKind};

/// How long a record is tried.
pub(super) const DELIVERY: Duration = Duration::from_secs(10);
/// How long to look for acknowledgements before looking for new writes.
const TICK: Duration = Duration::from_millis(2);

/// Key and value; no value is a tombstone.
pub(super) type Row = (Vec<u8>, Option<Vec<u8>>);
/// Partition and offset of a write's last record.
pub(super) type Written = Option<(i32, i64)>;
type Done = Box<dyn FnOnce(Result<Written, StorageError>) + Send>;

struct Request {
    topic: String,
    rows: Vec<Row>,
    done: Done,
}

/// See the module.
pub(super) struct TopicWriter {
    requests: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: Arc<atomic::AtomicBool>,
}

impl TopicWriter {
    pub(super) fn start(log: Arc<dyn Log>, settings: &ClientSettings) -> Result<Self, StorageError> {
        let mut settings = settings.clone();
        for (name, value) in [("acks", "all"), ("enable.idempotence", "true"), ("linger.ms", "0")] {
            settings.insert(name.to_owned(), value.to_owned());
        }
        settings.insert("delivery.timeout.ms".to_owned(), DELIVERY.as_millis().to_string());
        let (requests, queue) = mpsc::channel();
        let ended = Arc::new(atomic::AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("storage-write".to_owned())
            .spawn({
                let ended = ended.clone();
                move || Writing { log, settings, producer: None, open: HashMap::new(), next: 0, ended }.run(&queue)
            })
            .map_err(|error| StorageError::other(format!("cannot start the writer of the internal topics: {error}")))?;
        Ok(Self { requests: Mutex::new(Some(requests)), thread: Mutex::new(Some(thread)), ended })
    }

    /// Writes rows, in order where they share a partition; `done` is called on the writer's thread and must not wait.
    pub(super) fn send(
        &self,
        topic: &str,
        rows: Vec<Row>,
        done: impl FnOnce(Result<Written, StorageError>) + Send + 'static,
    ) {
        let request = Request { topic: topic.to_owned(), rows, done: Box::new(done) };
        let sent = match &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(requests) => requests.send(request).map_err(|error| error.0),
            None => Err(request),
        };
        if let Err(request) = sent {
            (request.done)(Err(closed(&request.topic)));
        }
    }

    /// The same, and waits.
    pub(super) fn write(&self, topic: &str, rows: Vec<Row>) -> Result<Written, StorageError> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.send(topic, rows, move |result| drop(sender.send(result)));
        answer.recv().unwrap_or_else(|_| Err(closed(topic)))
    }

    /// Ends the thread once what was sent is answered, or at once where Kafka is away.
    pub(super) fn close(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }

    /// Gives up what is not acknowledged yet.
    pub(super) fn abandon(&self) {
        self.ended.store(true, atomic::Ordering::Release);
    }
}

impl Drop for TopicWriter {
    fn drop(&mut self) {
        self.abandon();
        self.close();
    }
}

fn closed(topic: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Closed, format!("writing to topic {topic}: the worker ends"))
}

struct Writing {
    log: Arc<dyn Log>,
    settings: ClientSettings,
    producer: Option<Box<dyn LogProducer>>,
    open: HashMap<u64, (String, Done)>,
    next: u64,
    ended: Arc<atomic::AtomicBool>,
}

impl Writing {
    fn run(mut self, queue: &Receiver<Request>) {
        // Made before it is needed: until a new client may write, half a second can pass.
        self.producer = self.log.producer(&self.settings).map_err(|error| tracing::debug!("{error}")).ok();
        loop {
            let request = if self.open.is_empty() {
                queue.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                queue.try_recv()
            };
            match request {
                Ok(request) => self.take(request),
                Err(TryRecvError::Empty) => self.collect(),
                Err(TryRecvError::Disconnected) if self.open.is_empty() => break,
                Err(TryRecvError::Disconnected) if self.ended.load(atomic::Ordering::Acquire) => {
                    for (_, (topic, done)) in self.open.drain() {
                        done(Err(closed(&topic)));
                    }
                    break;
                }
                Err(TryRecvError::Disconnected) => self.collect(),
            }
        }
        if let Some(producer) = self.producer.take()
            && let Err(error) = producer.close(Duration::from_secs(1))
        {
            tracing::debug!("{error}");
        }
    }

    fn take(&mut self, request: Request) {
        let Request { topic, rows, done } = request;
        if rows.is_empty() {
            return done(Ok(None));
        }
        let token = self.next;
        self.next += 1;
        self.open.insert(token, (topic.clone(), done));
        if let Err(error) = self.produce(&topic, &records(&rows), token) {
            self.failed(&error);
        }
    }

    fn produce(&mut self, topic: &str, records: &LogRecords, token: u64) -> Result<(), LogError> {
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => none.insert(self.log.producer(&self.settings)?),
        };
        let mut sent = 0;
        while sent < records.len() {
            // Rows that do not fit wait for acknowledgements, which end within the delivery time.
            sent += producer.send(topic, records, sent, token, Duration::from_millis(100))?;
        }
        producer.finish(token);
        Ok(())
    }

    fn collect(&mut self) {
        let Some(producer) = &mut self.producer else { return };
        match producer.poll(TICK) {
            Ok(completions) => completions.into_iter().for_each(|completion| self.complete(completion)),
            Err(error) => self.failed(&error),
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Some((topic, done)) = self.open.remove(&completion.token) else { return };
        done(match completion.failed.into_iter().next() {
            None => Ok(completion.last),
            Some((_, error)) => Err(failure(&topic, &error)),
        });
    }

    /// The client is of no further use: everything under way fails, and the next write makes a new one.
    fn failed(&mut self, error: &LogError) {
        if let Some(producer) = self.producer.take() {
            let _ = producer.close(Duration::from_secs(1));
        }
        for (_, (topic, done)) in self.open.drain() {
            done(Err(failure(&topic, error)));
        }
    }
}

fn failure(topic: &str, error: &LogError) -> StorageError {
    let error = classified(error.clone());
    StorageError { message: format!("writing to topic {topic}: {}", error.message), ..error }
}

/// Rows as columns.
pub(super) fn records(rows: &[Row]) -> LogRecords {
    let mut records = LogRecords::from_values(BinaryArray::from_iter(rows.iter().map(|(_, value)| value.as_deref())));
    records.keys = Some(BinaryArray::from_iter(rows.iter().map(|(key, _)| Some(key.as_slice()))));
    records
}
