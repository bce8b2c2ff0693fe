//! Source offsets that could not be committed while Kafka was away, with the generation and the task epoch that they
//! belong to: they are worth something only as long as both are still current.

use rusqlite::params;
use serde_json::Value;

use super::SqliteStore;
use super::offsets::canonical;
use crate::storage::StorageError;
use crate::worker::TaskId;

/// The journal of one offsets topic.
#[derive(Clone)]
pub struct OffsetJournal {
    store: SqliteStore,
    topic: String,
}

/// One offset that was not committed.
#[derive(Debug, Clone, PartialEq)]
pub struct JournaledOffset {
    /// Whose it is.
    pub task: TaskId,
    /// The source partition.
    pub partition: Value,
    /// `None`: to be removed.
    pub offset: Option<Value>,
    /// The group's generation when it was to be committed.
    pub generation: i32,
    /// Which run of the task it was.
    pub epoch: u64,
}

impl OffsetJournal {
    /// The journal of a topic.
    pub fn new(store: &SqliteStore, topic: &str) -> Self {
        Self { store: store.clone(), topic: topic.to_owned() }
    }

    /// Adds entries; an older one of the same task and partition is replaced. Durable on return.
    pub fn add(&self, entries: Vec<JournaledOffset>) -> Result<(), StorageError> {
        let topic = self.topic.clone();
        self.store.write("journaling offsets", move |transaction| {
            let mut put = transaction.prepare_cached(
                "INSERT OR REPLACE INTO offset_journal (topic, connector, task, partition, offset, generation, epoch)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for entry in &entries {
                let offset = entry.offset.as_ref().map(Value::to_string);
                put.execute(params![
                    topic,
                    entry.task.connector,
                    entry.task.task,
                    canonical(&entry.partition),
                    offset,
                    entry.generation,
                    entry.epoch as i64
                ])?;
            }
            Ok(())
        })
    }

    /// Everything in it.
    pub fn entries(&self) -> Result<Vec<JournaledOffset>, StorageError> {
        self.store.read("reading journaled offsets", |connection| {
            let mut statement = connection.prepare(
                "SELECT connector, task, partition, offset, generation, epoch FROM offset_journal WHERE topic = ?1
                 ORDER BY connector, task, partition",
            )?;
            let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::Null);
            let entries = statement.query_map([&self.topic], |row| {
                Ok(JournaledOffset {
                    task: TaskId { connector: row.get(0)?, task: row.get(1)? },
                    partition: json(row.get(2)?),
                    offset: row.get::<_, Option<String>>(3)?.map(json),
                    generation: row.get(4)?,
                    epoch: row.get::<_, i64>(5)? as u64,
                })
            })?;
            entries.collect()
        })
    }

    /// Takes out all entries of a task.
    pub fn remove_task(&self, task: &TaskId) -> Result<(), StorageError> {
        let (topic, task) = (self.topic.clone(), task.clone());
        self.store.write("removing journaled offsets", move |transaction| {
            transaction.execute(
                "DELETE FROM offset_journal WHERE topic = ?1 AND connector = ?2 AND task = ?3",
                params![topic, task.connector, task.task],
            )?;
            Ok(())
        })
    }

    /// Takes out everything.
    pub fn clear(&self) -> Result<(), StorageError> {
        let topic = self.topic.clone();
        self.store.write("removing journaled offsets", move |transaction| {
            transaction.execute("DELETE FROM offset_journal WHERE topic = ?1", [&topic])?;
            Ok(())
        })
    }
}
