//! Source offsets of a worker group: its offsets topic, connectors' own topics, and the journal of what could not be
//! committed.
//!
//! An offset that could not be committed because Kafka was away is journaled with the group's generation and the task's
//! epoch. When Kafka is back it is committed if both are still current: this worker was not removed from its group, and
//! the task was not started again in the meantime. Otherwise it is dropped, since somebody else may have gone on from an
//! earlier one. A worker that was restarted has a new generation and drops all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tributary_sdk::source::SourcePosition;

use super::offset_topic::OffsetTopic;
use super::settings::InternalTopic;
use super::writer::TopicWriter;
use crate::log::{ClientSettings, Log, LogRecords};
use crate::storage::sqlite::{JournaledOffset, OffsetJournal, SqliteStore};
use crate::storage::{OffsetStore, StorageError, TransactionalOffsets};
use crate::worker::TaskId;

/// How often the journal is tried.
const RETRY: Duration = Duration::from_secs(1);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct KafkaOffsetStore(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    settings: InternalTopic,
    client: ClientSettings,
    database: SqliteStore,
    writer: Arc<TopicWriter>,
    group: Arc<OffsetTopic>,
    own: Mutex<HashMap<String, Weak<OffsetTopic>>>,
    journal: OffsetJournal,
    /// Whether something is in the journal, or may be.
    journaled: AtomicBool,
    /// Whether a thread tries to empty it.
    settling: AtomicBool,
    /// Held while an offset is decided on: by a put while there is a journal, and while the journal is emptied.
    deciding: Mutex<()>,
    generation: AtomicI32,
    epochs: Mutex<HashMap<TaskId, u64>>,
    /// Where what is in the journal belongs.
    destinations: Mutex<HashMap<TaskId, Arc<dyn OffsetStore>>>,
    closing: AtomicBool,
}

impl KafkaOffsetStore {
    pub(super) fn open(
        log: Arc<dyn Log>,
        settings: &InternalTopic,
        client: &ClientSettings,
        database: &SqliteStore,
        writer: Arc<TopicWriter>,
    ) -> Result<Self, StorageError> {
        let journal = OffsetJournal::new(database, &settings.name);
        let left = journal.entries()?;
        if !left.is_empty() {
            tracing::warn!(
                topic = settings.name,
                "{} source offsets that were not committed before this worker was restarted are dropped; their records are read again",
                left.len()
            );
            journal.clear()?;
        }
        let group = Arc::new(OffsetTopic::open(log.clone(), settings, client, database, writer.clone())?);
        Ok(Self(Arc::new(Inner {
            log,
            settings: settings.clone(),
            client: client.clone(),
            database: database.clone(),
            writer,
            group,
            own: Mutex::default(),
            journal,
            journaled: AtomicBool::new(false),
            settling: AtomicBool::new(false),
            deciding: Mutex::default(),
            generation: AtomicI32::new(-1),
            epochs: Mutex::default(),
            destinations: Mutex::default(),
            closing: AtomicBool::new(false),
        })))
    }

    /// Waits until the topic was read to its end for the first time. No task may start before.
    pub fn wait_current(&self, timeout: Duration) -> Result<(), StorageError> {
        self.0.group.wait_current(timeout)
    }

    /// Reads the group's topic to its present end.
    pub fn refresh(&self, timeout: Duration) -> Result<(), StorageError> {
        self.0.group.read_to_end(timeout)
    }

    /// What is known of a connector's offsets, without waiting, and whether that may be old: for reads while Kafka is away.
    pub fn remembered(&self, connector: &str) -> (Vec<SourcePosition>, bool) {
        (self.0.group.known(connector), self.0.group.stale())
    }

    /// Records read from Kafka since the start.
    pub fn records_read(&self) -> u64 {
        self.0.group.records_read()
    }

    /// The group's generation that this worker is a member of; -1 while it is none.
    pub fn set_generation(&self, generation: i32) {
        self.0.generation.store(generation, Ordering::Release);
    }

    /// A task is about to start: its epoch, which makes earlier ones old.
    pub fn task_started(&self, task: &TaskId) -> u64 {
        let mut epochs = self.0.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = epochs.entry(task.clone()).or_default();
        *epoch += 1;
        *epoch
    }

    /// The store as one run of a task sees it; `own` is its connector's `offsets.storage.topic`.
    pub fn for_task(
        &self,
        task: &TaskId,
        generation: i32,
        epoch: u64,
        own: Option<&str>,
    ) -> Result<Arc<dyn OffsetStore>, StorageError> {
        let store = self.with_topic(own)?;
        Ok(Arc::new(TaskOffsets { offsets: self.clone(), store, task: task.clone(), generation, epoch }))
    }

    /// The store of a connector that keeps its offsets in a topic of its own as well (`offsets.storage.topic`): the topic is
    /// made if need be, its offsets count before the group's, and both are written.
    pub fn with_topic(&self, own: Option<&str>) -> Result<Arc<dyn OffsetStore>, StorageError> {
        match self.own(own)? {
            None => Ok(self.0.group.clone()),
            Some(own) => Ok(Arc::new(ConnectorOffsets { own, group: self.0.group.clone() })),
        }
    }

    /// The same for a task that commits its offsets in its own transactions. With a topic of its own, the group's follows.
    pub fn transactional(&self, own: Option<&str>) -> Result<Arc<dyn TransactionalOffsets>, StorageError> {
        match self.own(own)? {
            None => Ok(self.0.group.clone()),
            Some(own) => Ok(Arc::new(ConnectorOffsets { own, group: self.0.group.clone() })),
        }
    }

    fn own(&self, own: Option<&str>) -> Result<Option<Arc<OffsetTopic>>, StorageError> {
        let Some(name) = own.filter(|name| *name != self.0.settings.name) else { return Ok(None) };
        let mut topics = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, topic| topic.strong_count() > 0);
        let known = topics.get(name).and_then(Weak::upgrade);
        let topic = match known {
            Some(topic) => topic,
            None => {
                let Inner { log, settings, client, database, writer, .. } = &*self.0;
                let opened =
                    Arc::new(OffsetTopic::open(log.clone(), &settings.named(name), client, database, writer.clone())?);
                topics.insert(name.to_owned(), Arc::downgrade(&opened));
                opened
            }
        };
        Ok(Some(topic))
    }

    pub(super) fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
        self.0.group.close();
    }

    fn destinations(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<dyn OffsetStore>>> {
        self.0.destinations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_current(&self, task: &TaskId, generation: i32, epoch: u64) -> bool {
        let epochs = self.0.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.generation.load(Ordering::Acquire) == generation && epochs.get(task) == Some(&epoch)
    }

    /// Empties the journal as soon as Kafka is back, on a thread of its own.
    fn settle_later(&self) {
        if self.0.settling.swap(true, Ordering::AcqRel) {
            return;
        }
        let offsets = self.clone();
        let spawned = std::thread::Builder::new().name("offset-journal".to_owned()).spawn(move || {
            while !offsets.0.closing.load(Ordering::Acquire) {
                std::thread::sleep(RETRY);
                match offsets.0.group.read_to_end(RETRY).and_then(|()| offsets.settle()) {
                    Ok(()) => break,
                    Err(error) if error.retriable() => {}
                    Err(error) => {
                        tracing::warn!("journaled source offsets are not committed: {error}");
                        break;
                    }
                }
            }
            offsets.0.settling.store(false, Ordering::Release);
        });
        if let Err(error) = spawned {
            tracing::warn!("no thread to commit journaled source offsets on: {error}");
            self.0.settling.store(false, Ordering::Release);
        }
    }

    fn settle(&self) -> Result<(), StorageError> {
        let _deciding = self.0.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_task: HashMap<TaskId, Vec<JournaledOffset>> = HashMap::new();
        for entry in self.0.journal.entries()? {
            by_task.entry(entry.task.clone()).or_default().push(entry);
        }
        for (task, entries) in by_task {
            let count = entries.len();
            let current: Vec<SourcePosition> = entries
                .into_iter()
                .filter(|entry| self.is_current(&task, entry.generation, entry.epoch))
                .map(|entry| SourcePosition { partition: entry.partition, offset: entry.offset })
                .collect();
            if current.len() < count {
                let dropped = count - current.len();
                tracing::warn!(
                    connector = task.connector,
                    task = task.task,
                    "{dropped} source offsets that could not be committed in time are dropped: the task may have gone on elsewhere"
                );
            }
            let known = self.destinations().get(&task).cloned();
            known.unwrap_or_else(|| self.0.group.clone()).put(&task.connector, &current)?;
            self.0.journal.remove_task(&task)?;
        }
        self.destinations().clear();
        self.0.journaled.store(false, Ordering::Release);
        Ok(())
    }
}

impl OffsetStore for KafkaOffsetStore {
    fn get(&self, connector: &str, partitions: &[Value]) -> Result<Vec<Option<Value>>, StorageError> {
        self.0.group.get(connector, partitions)
    }

    fn all(&self, connector: &str) -> Result<Vec<SourcePosition>, StorageError> {
        self.0.group.all(connector)
    }

    fn put(&self, connector: &str, positions: &[SourcePosition]) -> Result<(), StorageError> {
        self.0.group.put(connector, positions)
    }
}

/// A connector's own topic over the group's.
struct ConnectorOffsets {
    own: Arc<OffsetTopic>,
    group: Arc<OffsetTopic>,
}

impl TransactionalOffsets for ConnectorOffsets {
    fn topic(&self) -> &str {
        self.own.name()
    }

    fn records(&self, connector: &str, positions: &[SourcePosition]) -> Option<LogRecords> {
        self.own.records(connector, positions)
    }

    fn committed(&self, connector: &str, positions: &[SourcePosition]) {
        self.group.put_later(connector, positions);
    }
}

impl OffsetStore for ConnectorOffsets {
    fn get(&self, connector: &str, partitions: &[Value]) -> Result<Vec<Option<Value>>, StorageError> {
        let group = self.group.get(connector, partitions)?;
        let own = self.own.get(connector, partitions)?;
        Ok(own.into_iter().zip(group).map(|(own, group)| own.or(group)).collect())
    }

    fn all(&self, connector: &str) -> Result<Vec<SourcePosition>, StorageError> {
        let mut all = self.own.all(connector)?;
        for position in self.group.all(connector)? {
            if !all.iter().any(|own| own.partition == position.partition) {
                all.push(position);
            }
        }
        Ok(all)
    }

    fn put(&self, connector: &str, positions: &[SourcePosition]) -> Result<(), StorageError> {
        let (set, removed): (Vec<_>, Vec<_>) =
            positions.iter().cloned().partition(|position| position.offset.is_some());
        // What is removed from the own topic only would come back from the group's.
        self.group.put(connector, &removed)?;
        self.own.put(connector, positions)?;
        if let Err(error) = self.group.put(connector, &set) {
            tracing::warn!(
                connector,
                "offsets were stored in the connector's own topic, but not in the group's: {error}"
            );
        }
        Ok(())
    }
}

/// The store as one run of a task sees it.
struct TaskOffsets {
    offsets: KafkaOffsetStore,
    store: Arc<dyn OffsetStore>,
    task: TaskId,
    generation: i32,
    epoch: u64,
}

impl OffsetStore for TaskOffsets {
    fn get(&self, connector: &str, partitions: &[Value]) -> Result<Vec<Option<Value>>, StorageError> {
        self.store.get(connector, partitions)
    }

    fn all(&self, connector: &str) -> Result<Vec<SourcePosition>, StorageError> {
        self.store.all(connector)
    }

    fn put(&self, connector: &str, positions: &[SourcePosition]) -> Result<(), StorageError> {
        let inner = &*self.offsets.0;
        let deciding = inner
            .journaled
            .load(Ordering::Acquire)
            .then(|| inner.deciding.lock().unwrap_or_else(PoisonError::into_inner));
        match self.store.put(connector, positions) {
            Ok(()) => {
                if deciding.is_some() {
                    inner.journal.remove_task(&self.task)?;
                }
                Ok(())
            }
            Err(error) if error.retriable() => {
                let entry = |position: &SourcePosition| JournaledOffset {
                    task: self.task.clone(),
                    partition: position.partition.clone(),
                    offset: position.offset.clone(),
                    generation: self.generation,
                    epoch: self.epoch,
                };
                inner.journal.add(positions.iter().map(entry).collect())?;
                self.offsets.destinations().insert(self.task.clone(), self.store.clone());
                inner.journaled.store(true, Ordering::Release);
                self.offsets.settle_later();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}
