//! The keyed state of a source task's transforms.
//!
//! A shard is a source partition (`state.scope=partition`), or all of the connector. Its number is made from the source partition's
//! canonical JSON, so it is the same in whichever task it is read; shards share the partitions of the changelog, and there the number
//! stands before each key. The thread that polls works on the state, and seals it where a transaction is to end; the thread that
//! delivers commits it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, BinaryArray, Int32Array};
use sha2::{Digest, Sha256};

use super::control::TaskControl;
use super::delivery::Part;
use super::errors::TaskError;
use crate::log::{ClientSettings, Log, LogRecords};
use crate::state::{
    ChangelogReader, ChangelogRecords, Layer, LogChangelog, Shard, ShardChanges, StateError, TaskState,
};

/// How long the changelog may give nothing while there is more to come: as long as another task's transaction may be open.
const CHANGELOG: Duration = Duration::from_secs(180);

/// What records meet in: `state.scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of the connector, which has one source partition.
    Connector,
    /// Each source partition for itself.
    Partition,
}

/// What both threads know.
#[derive(Clone)]
pub struct SharedState {
    /// The stores.
    pub state: Arc<TaskState>,
    /// The changelog topic.
    pub changelog: Arc<str>,
    /// Number of its partitions.
    pub partitions: i32,
    /// Where it is.
    pub log: Arc<dyn Log>,
}

/// What one transaction writes.
pub struct Sealed {
    /// To be committed.
    pub layer: Layer,
    /// Its records, by shard.
    pub parts: Vec<(Shard, Part)>,
}

/// The polling side.
pub struct SourceState {
    /// What both threads know.
    pub shared: SharedState,
    /// What records meet in.
    pub scope: Scope,
    /// Client settings to read the changelog.
    pub reader: ClientSettings,
    /// By source partition, as the connector writes it.
    shards: HashMap<Arc<str>, Shard>,
    /// Which source partition a shard is of, in canonical JSON.
    names: HashMap<Shard, String>,
}

impl SourceState {
    /// No shard is open yet.
    pub fn new(shared: SharedState, scope: Scope, reader: ClientSettings) -> Self {
        Self { shared, scope, reader, shards: HashMap::new(), names: HashMap::new() }
    }

    /// The shard of a source partition, whose state is restored. `None`: the task has to stop first.
    pub fn shard(&mut self, partition: Option<&Arc<str>>, control: &TaskControl) -> Result<Option<Shard>, TaskError> {
        static WHOLE: &str = "{}";
        let text = partition.map_or(WHOLE, |partition| partition);
        if let Some(shard) = self.shards.get(text) {
            return Ok(Some(*shard));
        }
        let name =
            serde_json::from_str(text).map_or_else(|_| text.to_owned(), |value| crate::storage::canonical(&value));
        let shard = match self.scope {
            Scope::Connector => 0,
            Scope::Partition => number(&name),
        };
        match self.names.get(&shard) {
            Some(known) if *known == name => {}
            Some(known) if self.scope == Scope::Connector => {
                return Err(TaskError::new(format!(
                    "the source has several partitions ({known} and {name}), and records of one key may be in any: set \
                     state.scope=partition if those of one key are always in the same one, or use the transforms in a KafkaSink \
                     behind the topic"
                )));
            }
            Some(known) => {
                return Err(TaskError::new(format!(
                    "the source partitions {known} and {name} have the same number for their state ({shard}): use the transforms \
                     in a KafkaSink behind the topic"
                )));
            }
            None => {
                if !self.open(shard, control)? {
                    return Ok(None);
                }
                self.names.insert(shard, name);
            }
        }
        self.shards.insert(text.into(), shard);
        Ok(Some(shard))
    }

    fn open(&self, shard: Shard, control: &TaskControl) -> Result<bool, TaskError> {
        let SharedState { state, changelog, partitions, log } = &self.shared;
        let mut pause = Duration::from_millis(300);
        loop {
            let stopping = || control.stopping();
            let settings = self.reader.clone();
            let inner = LogChangelog::new(&**log, settings, changelog, shard % partitions, CHANGELOG, &stopping);
            match state.restore(shard, &mut OfShard { inner, prefix: shard.to_be_bytes() }) {
                Ok(_) => {
                    control.counters.set_retrying(None);
                    return Ok(true);
                }
                Err(_) if control.stopping() => return Ok(false),
                Err(error) if error.retriable => {
                    let told = format!("state is restored again in {pause:?}: {}", error.message);
                    tracing::warn!("{told}");
                    control.counters.set_retrying(Some(&told));
                    if control.wait(pause) {
                        return Ok(false);
                    }
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
                Err(error) => return Err(TaskError::new(error.message)),
            }
        }
    }

    /// Everything since the last call, as one transaction has to write it.
    pub fn seal(&self) -> Result<Sealed, TaskError> {
        let SharedState { state, changelog, partitions, .. } = &self.shared;
        let layer = state.seal().map_err(|error| TaskError::new(error.message))?;
        let part = |changes: &Arc<ShardChanges>| {
            let records = records(changes, *partitions);
            (changes.shard, Part { topic: changelog.clone(), source_partition: None, records, offsets: None })
        };
        let parts = layer.changes.iter().map(part).collect();
        Ok(Sealed { layer, parts })
    }

    /// What is committed is saved, and the files are closed.
    pub fn close(&self) {
        let state = &self.shared.state;
        state.shards().into_iter().for_each(|shard| state.close(shard));
    }
}

/// A number that is not negative.
fn number(name: &str) -> Shard {
    let digest = Sha256::digest(name.as_bytes());
    Shard::from_be_bytes([digest[0] & 0x7f, digest[1], digest[2], digest[3]])
}

/// Records of the changelog, with the shard's number before each key.
fn records(changes: &ShardChanges, partitions: i32) -> LogRecords {
    let prefix = changes.shard.to_be_bytes();
    let keys = changes.keys.iter().map(|key| key.map(|key| [&prefix, key].concat())).collect::<BinaryArray>();
    LogRecords {
        partitions: Some(Int32Array::from_value(changes.shard % partitions, keys.len())),
        keys: Some(keys),
        ..changes.records()
    }
}

/// One shard's part of a partition of the changelog.
struct OfShard<'l> {
    inner: LogChangelog<'l>,
    prefix: [u8; 4],
}

impl ChangelogReader for OfShard<'_> {
    fn bounds(&mut self) -> Result<(i64, i64), StateError> {
        self.inner.bounds()
    }

    fn read(&mut self, from: i64) -> Result<Option<ChangelogRecords>, StateError> {
        let Some(records) = self.inner.read(from)? else { return Ok(None) };
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for row in 0..records.keys.len() {
            let key = records.keys.is_valid(row).then(|| records.keys.value(row));
            let Some(key) = key.and_then(|key| key.strip_prefix(&self.prefix)) else { continue };
            keys.push(key);
            values.push(records.values.is_valid(row).then(|| records.values.value(row)));
        }
        Ok(Some(ChangelogRecords {
            keys: BinaryArray::from(keys),
            values: BinaryArray::from(values),
            next_offset: records.next_offset,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_partition_has_the_same_number_in_every_task() {
        assert_eq!(number(r#"{"file":"a"}"#), number(r#"{"file":"a"}"#));
        assert_ne!(number(r#"{"file":"a"}"#), number(r#"{"file":"b"}"#));
        // It is in the changelog's keys: it may never change.
        assert_eq!(number("{}"), 0x4413_6fa3);
        assert!((0..1000).all(|n| number(&n.to_string()) >= 0));
    }
}
