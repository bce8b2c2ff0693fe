//! A source's positions in its own transactions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use tributary_sdk::source::SourcePosition;

use super::commit_loop::Outcome;
use super::transactor::Positions;
use crate::log::{LogError, TransactionError, TransactionalProducer};
use crate::storage::{StorageError, TransactionalOffsets};

/// Positions of one task: what is committed, and what the open transaction brings.
pub(super) struct SourceOffsets {
    connector: String,
    store: Arc<dyn TransactionalOffsets>,
    /// What was committed when the task began.
    initial: HashMap<String, Value>,
    /// Whether that was read.
    loaded: bool,
    /// What this task has committed since.
    committed: BTreeMap<String, SourcePosition>,
    /// Of the open transaction, by source partition as the connector wrote it.
    open: BTreeMap<Arc<str>, Box<str>>,
    /// Positions that became committed and are not told yet.
    news: Vec<SourcePosition>,
}

impl SourceOffsets {
    pub fn new(connector: &str, store: Arc<dyn TransactionalOffsets>) -> Self {
        Self {
            connector: connector.to_owned(),
            store,
            initial: HashMap::new(),
            loaded: false,
            committed: BTreeMap::new(),
            open: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// The topic that they are in.
    pub fn topic(&self) -> &str {
        self.store.topic()
    }

    /// The open transaction brings the source partition here.
    pub fn advance(&mut self, partition: &Arc<str>, offset: &str) {
        self.open.insert(partition.clone(), offset.into());
    }

    /// Whether the source partition has a place to resume at, committed or about to be.
    pub fn knows(&self, partition: &Arc<str>) -> bool {
        let stored = |partition: &str| {
            let parsed: Option<Value> = serde_json::from_str(partition).ok();
            parsed.is_some_and(|parsed| self.before(&key(&parsed)).is_some())
        };
        self.open.contains_key(partition) || stored(partition)
    }

    /// What has become committed since the last call.
    pub fn take_news(&mut self) -> Vec<SourcePosition> {
        std::mem::take(&mut self.news)
    }

    fn positions(&self) -> Vec<SourcePosition> {
        let parse =
            |json: &str| serde_json::from_str::<Value>(json).expect("offsets were checked when they were polled");
        let position =
            |partition: &str, offset: &str| SourcePosition { partition: parse(partition), offset: Some(parse(offset)) };
        self.open.iter().map(|(partition, offset)| position(partition, offset)).collect()
    }

    fn before(&self, key: &str) -> Option<&Value> {
        match self.committed.get(key) {
            Some(position) => position.offset.as_ref(),
            None => self.initial.get(key),
        }
    }
}

/// The same partition, however its fields are ordered.
fn key(partition: &Value) -> String {
    crate::storage::canonical(partition)
}

fn away(error: StorageError) -> LogError {
    LogError { retriable: error.retriable(), message: error.message, code: None }
}

impl Positions for SourceOffsets {
    fn load(&mut self) -> Result<(), LogError> {
        // Once, also where there was nothing: what is there after a later `init` may be what a transaction of this task has committed
        // whose answer was lost, or what another task has, and only `look` can tell.
        if !self.loaded {
            let all = self.store.all(&self.connector).map_err(away)?;
            self.initial =
                all.into_iter().filter_map(|position| Some((key(&position.partition), position.offset?))).collect();
            self.loaded = true;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<Outcome, LogError> {
        let open = self.positions();
        // What the open transaction does not touch has to be where this task has left it.
        let rest = self.committed.values().filter(|position| {
            let moved = key(&position.partition);
            !open.iter().any(|open| key(&open.partition) == moved)
        });
        let rest = rest.cloned().collect::<Vec<_>>();
        let partitions = open.iter().chain(&rest).map(|position| position.partition.clone()).collect::<Vec<_>>();
        let found = self.store.get(&self.connector, &partitions).map_err(away)?;
        let (of_open, of_rest) = found.split_at(open.len());
        if of_rest.iter().zip(&rest).any(|(found, position)| *found != position.offset) {
            return Ok(Outcome::Other);
        }
        let before = |(found, position): (&Option<Value>, &SourcePosition)| {
            found.as_ref() == self.before(&key(&position.partition))
        };
        let after = |(found, position): (&Option<Value>, &SourcePosition)| *found == position.offset;
        Ok(if of_open.iter().zip(&open).all(before) {
            Outcome::Before
        } else if of_open.iter().zip(&open).all(after) {
            Outcome::After
        } else {
            Outcome::Other
        })
    }

    fn add(&mut self, producer: &mut dyn TransactionalProducer, number: u64) -> Result<u64, TransactionError> {
        let positions = self.positions();
        let Some(records) = self.store.records(&self.connector, &positions) else { return Ok(0) };
        let producer = producer.as_producer();
        let mut from = 0;
        while from < records.len() {
            from += producer.send(self.store.topic(), &records, from, number, std::time::Duration::from_millis(100))?;
        }
        producer.finish(number);
        Ok(1)
    }

    fn tells(&self) -> bool {
        !self.open.is_empty()
    }

    fn settled(&mut self) {
        let positions = self.positions();
        self.open.clear();
        for position in &positions {
            self.committed.insert(key(&position.partition), position.clone());
        }
        self.store.committed(&self.connector, &positions);
        self.news.extend(positions);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::log::LogRecords;
    use crate::storage::OffsetStore;

    #[derive(Default)]
    struct Stored(Mutex<HashMap<String, Value>>);

    impl OffsetStore for Stored {
        fn get(&self, _: &str, partitions: &[Value]) -> Result<Vec<Option<Value>>, StorageError> {
            let stored = self.0.lock().unwrap();
            Ok(partitions.iter().map(|partition| stored.get(&key(partition)).cloned()).collect())
        }
        fn all(&self, _: &str) -> Result<Vec<SourcePosition>, StorageError> {
            let stored = self.0.lock().unwrap();
            let position = |(partition, offset): (&String, &Value)| SourcePosition {
                partition: serde_json::from_str(partition).unwrap(),
                offset: Some(offset.clone()),
            };
            Ok(stored.iter().map(position).collect())
        }
        fn put(&self, _: &str, positions: &[SourcePosition]) -> Result<(), StorageError> {
            let mut stored = self.0.lock().unwrap();
            stored.extend(positions.iter().map(|p| (key(&p.partition), p.offset.clone().unwrap())));
            Ok(())
        }
    }

    impl TransactionalOffsets for Stored {
        fn topic(&self) -> &str {
            "offsets"
        }
        fn records(&self, _: &str, _: &[SourcePosition]) -> Option<LogRecords> {
            None
        }
        fn committed(&self, _: &str, _: &[SourcePosition]) {}
    }

    fn put(store: &Stored, partition: u32, n: u32) {
        let position = SourcePosition { partition: json!({"p": partition}), offset: Some(json!({"n": n})) };
        store.put("c", &[position]).unwrap();
    }

    #[test]
    fn the_store_tells_what_became_of_a_transaction() {
        let store = Arc::new(Stored::default());
        put(&store, 1, 10);
        let mut offsets = SourceOffsets::new("c", store.clone());
        offsets.load().unwrap();
        assert_eq!(offsets.look().unwrap(), Outcome::Before);
        offsets.advance(&r#"{"p":1}"#.into(), r#"{"n":11}"#);
        offsets.advance(&r#"{"p":2}"#.into(), r#"{"n":1}"#);
        assert_eq!(offsets.look().unwrap(), Outcome::Before);
        put(&store, 1, 11);
        assert_eq!(offsets.look().unwrap(), Outcome::Other, "half of it is none of it");
        put(&store, 2, 1);
        assert_eq!(offsets.look().unwrap(), Outcome::After);
        offsets.settled();
        assert_eq!(offsets.take_news().len(), 2);
        assert_eq!(offsets.look().unwrap(), Outcome::Before);
        offsets.advance(&r#"{"p":2}"#.into(), r#"{"n":2}"#);
        // Somebody else moves what this transaction does not touch.
        put(&store, 1, 12);
        assert_eq!(offsets.look().unwrap(), Outcome::Other);
    }
    #[test]
    fn what_the_first_transaction_has_committed_is_not_where_the_task_began() {
        let store = Arc::new(Stored::default());
        let mut offsets = SourceOffsets::new("c", store.clone());
        offsets.load().unwrap();
        offsets.advance(&r#"{"p":1}"#.into(), r#"{"n":5}"#);
        // It is committed, and the answer is lost: another producer is initialised.
        put(&store, 1, 5);
        offsets.load().unwrap();
        assert_eq!(offsets.look().unwrap(), Outcome::After);
        // Somebody else was faster.
        put(&store, 1, 7);
        offsets.load().unwrap();
        assert_eq!(offsets.look().unwrap(), Outcome::Other);
    }
}
