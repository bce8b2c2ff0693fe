//! Source offsets of a standalone worker that delivers exactly once: a compacted topic of its log, written by the tasks' own
//! transactions, over the worker's database.
//!
//! The topic counts first. What it does not have is looked up in the database, so that a worker that delivered at least once
//! until now goes on from there; and what is committed is copied there, so that the way back works as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_sdk::source::SourcePosition;

use super::offset_topic::OffsetTopic;
use super::settings::{InternalTopic, StorageSettings};
use super::writer::TopicWriter;
use crate::log::{ClientSettings, EMBEDDED, Log, LogRecords};
use crate::storage::sqlite::SqliteStore;
use crate::storage::{OffsetStore, StorageError, TransactionalOffsets, canonical};

/// How far the copy in the database may be behind.
const COPY_EVERY: Duration = Duration::from_secs(1);

/// Positions to copy, by source partition.
struct Copies {
    due: Instant,
    positions: HashMap<String, SourcePosition>,
}

/// See the module.
pub struct StandaloneOffsets {
    topic: OffsetTopic,
    writer: Arc<TopicWriter>,
    database: SqliteStore,
    /// By connector.
    copies: Mutex<HashMap<String, Copies>>,
}

impl StandaloneOffsets {
    /// Opens the topic, makes it if need be, and starts to read; does not wait for the log.
    pub fn open(log: Arc<dyn Log>, topic: &InternalTopic, database: &SqliteStore) -> Result<Self, StorageError> {
        let client = ClientSettings::new();
        let writer = Arc::new(TopicWriter::start(log.clone(), &client)?);
        let topic = OffsetTopic::open(log, topic, &client, database, writer.clone())?;
        Ok(Self { topic, writer, database: database.clone(), copies: Mutex::default() })
    }

    /// Ends reading and writing.
    pub fn close(&self) {
        let copies = std::mem::take(&mut *self.copies.lock().unwrap_or_else(PoisonError::into_inner));
        copies.into_iter().for_each(|(connector, copies)| self.copy(&connector, copies));
        self.writer.abandon();
        self.writer.close();
        self.topic.close();
    }

    fn copy(&self, connector: &str, copies: Copies) {
        let positions = copies.positions.into_values().collect::<Vec<_>>();
        if let Err(error) = self.database.put(connector, &positions) {
            tracing::warn!(connector, "offsets are committed, but were not copied to the worker's database: {error}");
        }
    }

    /// Waits until the topic was read to its end for the first time.
    pub fn wait_current(&self, timeout: Duration) -> Result<(), StorageError> {
        self.topic.wait_current(timeout)
    }
}

impl OffsetStore for StandaloneOffsets {
    fn get(&self, connector: &str, partitions: &[Value]) -> Result<Vec<Option<Value>>, StorageError> {
        let before = self.database.get(connector, partitions)?;
        let found = self.topic.get(connector, partitions)?;
        Ok(found.into_iter().zip(before).map(|(found, before)| found.or(before)).collect())
    }

    fn all(&self, connector: &str) -> Result<Vec<SourcePosition>, StorageError> {
        let mut all = self.topic.all(connector)?;
        for position in self.database.all(connector)? {
            if !all.iter().any(|known| known.partition == position.partition) {
                all.push(position);
            }
        }
        Ok(all)
    }

    fn put(&self, connector: &str, positions: &[SourcePosition]) -> Result<(), StorageError> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).remove(connector);
        // What is removed from the topic only would come back from the database.
        let removed = positions.iter().filter(|position| position.offset.is_none()).cloned().collect::<Vec<_>>();
        self.database.put(connector, &removed)?;
        self.topic.put(connector, positions)?;
        self.database.put(connector, positions)
    }
}

impl TransactionalOffsets for StandaloneOffsets {
    fn topic(&self) -> &str {
        self.topic.name()
    }

    fn records(&self, connector: &str, positions: &[SourcePosition]) -> Option<LogRecords> {
        self.topic.records(connector, positions)
    }

    fn committed(&self, connector: &str, positions: &[SourcePosition]) {
        let mut all = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let due = Instant::now() + COPY_EVERY;
        let copies = all.entry(connector.to_owned()).or_insert_with(|| Copies { due, positions: HashMap::new() });
        copies.positions.extend(positions.iter().map(|position| (canonical(&position.partition), position.clone())));
        if copies.due <= Instant::now()
            && let Some(copies) = all.remove(connector)
        {
            drop(all);
            self.copy(connector, copies);
        }
    }
}

impl StorageSettings {
    /// The offsets topic of a standalone worker: `offset.storage.topic`, or `<group.id>-offsets`.
    pub fn standalone_offsets(
        properties: &tributary_sdk::Config,
        bootstrap: &str,
        group: &str,
    ) -> Result<InternalTopic, Vec<String>> {
        let mut properties = properties.clone();
        let mut set =
            |key: &str, value: &str| _ = properties.0.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        set("offset.storage.topic", &format!("{group}-offsets"));
        set("offset.storage.replication.factor", "-1");
        if bootstrap == EMBEDDED {
            set("offset.storage.partitions", "1");
        }
        // The other two are not used.
        set("group.id", group);
        set("config.storage.topic", "-");
        set("status.storage.topic", "--");
        Self::new(&properties).map(|settings| settings.offset)
    }
}
