//! What one transaction writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, BinaryArray, Int32Array};

use super::Shard;
use crate::log::{LogRecords, TopicPartition};

/// A sealed layer: everything that steps wrote since the one before.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(super) number: u64,
    /// What has changed, in the order of writing: of each shard once, or once for each of the parts that were joined.
    pub changes: Vec<Arc<ShardChanges>>,
}

/// A shard's part of it, as records of the changelog.
#[derive(Debug)]
pub struct ShardChanges {
    /// The partition of the changelog.
    pub shard: Shard,
    /// The shard's own count of its layers.
    pub(super) number: u64,
    /// Keys, each once.
    pub keys: BinaryArray,
    /// Values; null is a tombstone.
    pub values: BinaryArray,
}

/// What a committed transaction made of positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// The next offset to read of each input partition.
    pub inputs: Vec<(TopicPartition, i64)>,
    /// For shards that had changes: the changelog's next offset.
    pub changelog: BTreeMap<Shard, i64>,
}

impl Layer {
    /// Appends the next part of the same transaction: they are committed together.
    pub fn join(&mut self, next: Self) {
        self.number = next.number;
        self.changes.extend(next.changes);
    }

    /// Whether the transaction has nothing to write for it. It is committed all the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Number of changelog records.
    pub fn len(&self) -> usize {
        self.changes.iter().map(|changes| changes.keys.len()).sum()
    }
}

impl ShardChanges {
    /// To be produced to the changelog topic.
    pub fn records(&self) -> LogRecords {
        LogRecords {
            keys: Some(self.keys.clone()),
            values: self.values.clone(),
            headers: None,
            timestamps: None,
            partitions: Some(Int32Array::from_value(self.shard, self.keys.len())),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.keys.get_array_memory_size() + self.values.get_array_memory_size()
    }
}
