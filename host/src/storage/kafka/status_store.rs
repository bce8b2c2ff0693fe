//! States of connectors and tasks, and the topics in use, in the group's status topic.
//!
//! Promises: what this worker reports is seen by itself at once and by the others when they have read it; a worker that has
//! fallen behind does not overwrite what a newer generation reported of failures and unassigned tasks (Connect's rules for
//! "safe" writes). What a worker wrote late, of a task that is this worker's by now, is overwritten again. Writes never wait. While Kafka is away the newest status of each connector and task is kept, and written
//! on return if this worker's generation is still the one it was reported in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::compacted_topic::{Applied, CompactedTopic, Fold, Notify, Record};
use super::own_statuses::OwnStatuses;
use super::settings::InternalTopic;
use super::status_records::{self as format, StatusKey};
use super::warnings::Warnings;
use super::writer::TopicWriter;
use crate::log::{ClientSettings, Log};
use crate::storage::sqlite::{ImageChange, SqliteStore, TopicImage};
use crate::storage::{StatusRecord, StatusStore, StorageError, TopicStatus};
use crate::worker::{State, TaskId};

const FORMAT: u32 = 1;

/// Told of the connectors whose statuses changed. Must not wait.
pub type StatusListener = Arc<dyn Fn(&[String]) + Send + Sync>;

/// See the module.
pub struct KafkaStatusStore {
    topic: Arc<CompactedTopic<StatusFold>>,
    sender: Arc<Sender>,
}

impl KafkaStatusStore {
    pub(super) fn open(
        log: Arc<dyn Log>,
        topic: &InternalTopic,
        client: &ClientSettings,
        database: &SqliteStore,
        writer: Arc<TopicWriter>,
        listener: StatusListener,
    ) -> Result<Self, StorageError> {
        let image = TopicImage::new(database, &topic.name, FORMAT);
        let fold = StatusFold::new(&topic.name, listener);
        let topic = Arc::new(CompactedTopic::open(log, topic.clone(), client, image, fold)?);
        let sender = Arc::new(Sender { topic: topic.clone(), writer, pending: Mutex::default() });
        // Nothing of this worker can have been overwritten before it writes.
        let _ = topic.with(|fold| fold.sender.set(Arc::downgrade(&sender)));
        Ok(Self { topic, sender })
    }

    /// Waits until the topic was read to its end for the first time.
    pub fn wait_current(&self, timeout: Duration) -> Result<(), StorageError> {
        self.topic.wait_current(timeout)
    }

    /// Reads to the present end.
    pub fn refresh(&self, timeout: Duration) -> Result<(), StorageError> {
        self.topic.read_to_end(timeout)
    }

    /// Whether what is answered may be old.
    pub fn stale(&self) -> bool {
        self.topic.stale()
    }

    /// Records read from Kafka since the start.
    pub fn records_read(&self) -> u64 {
        self.topic.records_read()
    }

    /// The connectors of which there is a status.
    pub fn connectors(&self) -> BTreeSet<String> {
        self.topic.with(|fold| fold.connectors.keys().cloned().collect())
    }

    pub(super) fn close(&self) {
        self.topic.close();
    }

    fn put(&self, key: StatusKey, status: &StatusRecord) {
        let report = Report::of(status);
        let allowed = self.topic.with(|fold| {
            let allowed = !report.gives_way() || fold.may_write(&key, status);
            if allowed {
                fold.own.reported(&key, status);
                fold.put(&key, Some(status.clone()));
            }
            allowed
        });
        if allowed {
            self.sender.send(key, report);
        }
    }

    fn remove(&self, key: StatusKey) {
        self.topic.with(|fold| fold.forget(&key));
        self.sender.send(key, Report { value: None, status: None });
    }
}

impl StatusStore for KafkaStatusStore {
    fn put_connector(&self, connector: &str, status: &StatusRecord) {
        self.put(StatusKey::Connector(connector.to_owned()), status);
    }

    fn put_task(&self, task: &TaskId, status: &StatusRecord) {
        self.put(StatusKey::Task(task.clone()), status);
    }

    fn remove_task(&self, task: &TaskId) {
        self.remove(StatusKey::Task(task.clone()));
    }

    fn remove_connector(&self, connector: &str) {
        let keys = self.topic.with(|fold| fold.keys_of(connector));
        keys.into_iter().for_each(|key| self.remove(key));
    }

    fn put_topic(&self, connector: &str, topic: &TopicStatus) {
        let key = StatusKey::Topic { connector: connector.to_owned(), topic: topic.topic.clone() };
        let new = self.topic.with(|fold| {
            let topics = &mut fold.connectors.entry(connector.to_owned()).or_default().topics;
            if topics.contains_key(&topic.topic) {
                return false;
            }
            topics.insert(topic.topic.clone(), topic.clone());
            true
        });
        if new {
            self.sender.send(key, Report { value: Some(format::topic(connector, topic)), status: None });
        }
    }

    fn remove_topics(&self, connector: &str) {
        let keys = self.topic.with(|fold| fold.keys_of(connector));
        keys.into_iter().filter(|key| matches!(key, StatusKey::Topic { .. })).for_each(|key| self.remove(key));
    }

    fn connector(&self, connector: &str) -> Result<Option<StatusRecord>, StorageError> {
        Ok(self.topic.with(|fold| fold.connectors.get(connector)?.connector.clone()))
    }

    fn tasks(&self, connector: &str) -> Result<Vec<(u32, StatusRecord)>, StorageError> {
        let tasks = self.topic.with(|fold| fold.connectors.get(connector).map(|statuses| statuses.tasks.clone()));
        Ok(tasks.unwrap_or_default().into_iter().collect())
    }

    fn topics(&self, connector: &str) -> Result<Vec<TopicStatus>, StorageError> {
        let topics = self.topic.with(|fold| fold.connectors.get(connector).map(|statuses| statuses.topics.clone()));
        Ok(topics.unwrap_or_default().into_values().collect())
    }
}

/// What is to be written of one key.
#[derive(Clone)]
struct Report {
    value: Option<Vec<u8>>,
    /// Of a connector or task: what it says, and whether it gives way to newer generations.
    status: Option<(StatusRecord, bool)>,
}

impl Report {
    fn of(status: &StatusRecord) -> Self {
        // What a worker says of the past must not hide what another one says of the present.
        let gives_way = matches!(status.state, State::Failed | State::Unassigned);
        Self { value: Some(format::status(status)), status: Some((status.clone(), gives_way)) }
    }

    fn gives_way(&self) -> bool {
        self.status.as_ref().is_some_and(|(_, gives_way)| *gives_way)
    }
}

/// Writes in the background: one write a key under way, and the newest after it.
struct Sender {
    topic: Arc<CompactedTopic<StatusFold>>,
    writer: Arc<TopicWriter>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    /// By key: what is to be written once the write under way is answered.
    under_way: HashMap<StatusKey, Option<Report>>,
    /// The generation of the last status of this worker.
    generation: i32,
}

impl Sender {
    fn send(self: &Arc<Self>, key: StatusKey, report: Report) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((status, _)) = &report.status {
            pending.generation = status.generation;
        }
        match pending.under_way.get_mut(&key) {
            Some(next) => *next = Some(report),
            None => {
                pending.under_way.insert(key.clone(), None);
                drop(pending);
                self.write(key, report);
            }
        }
    }

    /// Writes what this worker says of a connector or task, unless that is gone meanwhile.
    fn send_again(self: &Arc<Self>, key: StatusKey) {
        if let Some(status) = self.topic.with(|fold| fold.own.report(&key)) {
            self.send(key, Report::of(&status));
        }
    }

    fn write(self: &Arc<Self>, key: StatusKey, report: Report) {
        let sender = self.clone();
        let row = (key.to_bytes(), report.value.clone());
        let name = self.topic.topic().name.clone();
        self.writer.send(&name, vec![row], move |result| sender.written(key, report, result.err()));
    }

    fn written(self: &Arc<Self>, key: StatusKey, report: Report, error: Option<StorageError>) {
        let next = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = pending.under_way.get_mut(&key).and_then(Option::take);
            let next = newer.or_else(|| {
                let error = error.as_ref()?;
                let again = error.retriable() && self.still_true(&key, &report, pending.generation);
                if !again {
                    tracing::warn!(connector = key.connector(), "a status was not written: {error}");
                }
                again.then_some(report)
            });
            if next.is_none() {
                pending.under_way.remove(&key);
            }
            next
        };
        if let Some(next) = next {
            self.write(key, next);
        }
    }

    /// Whether a status that could not be written is still to be.
    fn still_true(&self, key: &StatusKey, report: &Report, generation: i32) -> bool {
        report.status.as_ref().is_none_or(|(status, safe)| {
            status.generation == generation && (!safe || self.topic.with(|fold| fold.may_write(key, status)))
        })
    }
}

/// What is known of one connector.
#[derive(Default)]
struct Statuses {
    connector: Option<StatusRecord>,
    tasks: BTreeMap<u32, StatusRecord>,
    topics: BTreeMap<String, TopicStatus>,
}

impl Statuses {
    fn get(&self, key: &StatusKey) -> Option<&StatusRecord> {
        match key {
            StatusKey::Connector(_) => self.connector.as_ref(),
            StatusKey::Task(task) => self.tasks.get(&task.task),
            StatusKey::Topic { .. } => None,
        }
    }
}

/// What the topic's records add up to.
pub(super) struct StatusFold {
    topic: String,
    connectors: BTreeMap<String, Statuses>,
    rows: BTreeMap<StatusKey, Option<Vec<u8>>>,
    changed: BTreeSet<String>,
    listener: StatusListener,
    own: OwnStatuses,
    /// Writes again what was overwritten; set once there is one.
    sender: Arc<OnceLock<Weak<Sender>>>,
    warnings: Warnings,
}

impl StatusFold {
    fn new(topic: &str, listener: StatusListener) -> Self {
        Self {
            topic: topic.to_owned(),
            connectors: BTreeMap::new(),
            rows: BTreeMap::new(),
            changed: BTreeSet::new(),
            listener,
            own: OwnStatuses::default(),
            sender: Arc::default(),
            warnings: Warnings::default(),
        }
    }

    fn get(&self, key: &StatusKey) -> Option<&StatusRecord> {
        self.connectors.get(key.connector())?.get(key)
    }

    fn may_write(&self, key: &StatusKey, status: &StatusRecord) -> bool {
        self.get(key).is_none_or(|known| known.worker_id == status.worker_id || known.generation <= status.generation)
    }

    fn put(&mut self, key: &StatusKey, status: Option<StatusRecord>) {
        let statuses = self.connectors.entry(key.connector().to_owned()).or_default();
        match (key, status) {
            (StatusKey::Connector(_), status) => statuses.connector = status,
            (StatusKey::Task(task), Some(status)) => drop(statuses.tasks.insert(task.task, status)),
            (StatusKey::Task(task), None) => drop(statuses.tasks.remove(&task.task)),
            (StatusKey::Topic { .. }, _) => {}
        }
    }

    fn forget(&mut self, key: &StatusKey) {
        self.own.removed(key);
        self.put(key, None);
        let connector = key.connector();
        let Some(statuses) = self.connectors.get_mut(connector) else { return };
        if let StatusKey::Topic { topic, .. } = key {
            statuses.topics.remove(topic);
        }
        if statuses.connector.is_none() && statuses.tasks.is_empty() && statuses.topics.is_empty() {
            self.connectors.remove(connector);
        }
    }

    fn keys_of(&self, connector: &str) -> Vec<StatusKey> {
        let Some(statuses) = self.connectors.get(connector) else { return Vec::new() };
        let own = statuses.connector.is_some().then(|| StatusKey::Connector(connector.to_owned()));
        let tasks =
            statuses.tasks.keys().map(|task| StatusKey::Task(TaskId { connector: connector.to_owned(), task: *task }));
        let topics = statuses.topics.keys();
        let topics = topics.map(|topic| StatusKey::Topic { connector: connector.to_owned(), topic: topic.clone() });
        own.into_iter().chain(tasks).chain(topics).collect()
    }

    /// Takes in a value that was read; `Ok(false)` if something newer is known.
    fn take(&mut self, key: &StatusKey, value: Option<&[u8]>) -> Result<bool, super::warnings::Nonsense> {
        let Some(value) = value else {
            self.forget(key);
            return Ok(true);
        };
        if let StatusKey::Topic { connector, topic } = key {
            let status = format::parse_topic(value)?;
            self.connectors.entry(connector.clone()).or_default().topics.insert(topic.clone(), status);
            return Ok(true);
        }
        let status = format::parse_status(value)?;
        if self.own.overwritten_by(key, &status) {
            return Ok(false);
        }
        // A worker that lost a task says so late, after the new owner has said that it runs.
        let outrun = |known: &StatusRecord| known.state == State::Running && known.generation >= status.generation;
        if matches!(key, StatusKey::Task(_)) && status.state == State::Unassigned && self.get(key).is_some_and(outrun) {
            return Ok(false);
        }
        self.put(key, Some(status));
        Ok(true)
    }
}

impl Fold for StatusFold {
    fn apply(&mut self, record: &Record<'_>) {
        let taken = StatusKey::parse(record.key).and_then(|key| Ok((self.take(&key, record.value)?, key)));
        match taken {
            Ok((true, key)) => {
                self.changed.insert(key.connector().to_owned());
                self.rows.insert(key, record.value.map(<[u8]>::to_vec));
            }
            Ok((false, _)) => {}
            Err(nonsense) => self.warnings.skip(&self.topic, record.partition, record.offset, &nonsense),
        }
    }

    fn take_rows(&mut self) -> Vec<ImageChange> {
        std::mem::take(&mut self.rows).into_iter().map(|(key, value)| (key.to_bytes(), value)).collect()
    }

    fn restore(&mut self, key: &[u8], row: &[u8]) -> Result<(), String> {
        let taken = StatusKey::parse(Some(key)).and_then(|key| self.take(&key, Some(row)));
        taken.map(drop).map_err(|nonsense| nonsense.detail)
    }

    fn clear(&mut self) {
        self.connectors.clear();
        self.rows.clear();
    }

    fn publish(&mut self, applied: &Applied) -> Option<Notify> {
        let changed: Vec<String> = if applied.became_current {
            self.changed.clear();
            self.connectors.keys().cloned().collect()
        } else {
            std::mem::take(&mut self.changed).into_iter().collect()
        };
        let overwritten = self.own.take_overwritten();
        if changed.is_empty() && overwritten.is_empty() {
            return None;
        }
        let (listener, sender) = (self.listener.clone(), self.sender.clone());
        Some(Box::new(move || {
            if let Some(sender) = sender.get().and_then(Weak::upgrade) {
                overwritten.into_iter().for_each(|key| sender.send_again(key));
            }
            listener(&changed);
        }))
    }
}
