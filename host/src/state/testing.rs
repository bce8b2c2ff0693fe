//! A changelog in memory.

use std::collections::BTreeMap;

use arrow_array::{Array, BinaryArray};

use super::{ChangelogReader, ChangelogRecords, Layer, Positions, StateError};

/// Committed records with their offsets, of shard 0.
#[derive(Default)]
pub(crate) struct MemoryLog {
    pub records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub first: i64,
    pub read: usize,
    pub page: usize,
}

impl MemoryLog {
    pub fn append(&mut self, layer: &Layer) -> Positions {
        for changes in &layer.changes {
            for row in 0..changes.keys.len() {
                let value = changes.values.is_valid(row).then(|| changes.values.value(row).to_vec());
                self.records.push((changes.keys.value(row).to_vec(), value));
            }
        }
        let changelog = match layer.is_empty() {
            true => BTreeMap::new(),
            false => BTreeMap::from([(0, self.records.len() as i64)]),
        };
        Positions { inputs: Vec::new(), changelog }
    }
}

impl ChangelogReader for MemoryLog {
    fn bounds(&mut self) -> Result<(i64, i64), StateError> {
        self.read = usize::MAX;
        Ok((self.first, self.records.len() as i64))
    }
    fn read(&mut self, from: i64) -> Result<Option<ChangelogRecords>, StateError> {
        if self.read == usize::MAX {
            self.read = from as usize;
        }
        let to = (self.read + self.page.max(1)).min(self.records.len());
        if self.read >= to {
            return Ok(None);
        }
        let records = &self.records[self.read..to];
        self.read = to;
        Ok(Some(ChangelogRecords {
            keys: BinaryArray::from_iter_values(records.iter().map(|(key, _)| key)),
            values: records.iter().map(|(_, value)| value.as_deref()).collect(),
            next_offset: to as i64,
        }))
    }
}
