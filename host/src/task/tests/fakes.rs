//! A scripted log and plugin instances that write down what they are asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{BinaryArray, Int64Array};
use serde_json::Value;
use tributary_sdk::Config;
use tributary_sdk::source::SourcePosition;

use crate::converter;
use crate::log::{
    Completion, ConsumerEvent, FetchedBatch, LogConsumer, LogError, LogProducer, LogRecords, TopicPartition,
};
use crate::storage::{OffsetStore, StateStore, StorageError};
use crate::task::control::TaskControl;
use crate::task::converters::{Converters, Named};
use crate::task::dead_letters::{DeadLetters, Letterhead};
use crate::task::services::InstanceServices;

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until a line appears.
    pub fn wait_for(&self, line: &str) {
        for _ in 0..2000 {
            if self.lines().iter().any(|l| l == line) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{line:?} did not happen; this did: {:#?}", self.lines());
    }
}

pub fn partition(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

/// Records `from ..` of a partition.
pub fn fetched(at: &TopicPartition, from: i64, values: &[&str]) -> ConsumerEvent {
    let records = LogRecords {
        timestamps: Some(values.iter().map(|_| 0).collect::<Int64Array>()),
        ..LogRecords::from_values(values.iter().map(|v| Some(v.as_bytes())).collect::<BinaryArray>())
    };
    let offsets = (from..from + values.len() as i64).collect::<Vec<_>>().into();
    ConsumerEvent::Batch(Box::new(FetchedBatch { topic_partition: at.clone(), records, offsets }))
}

/// A consumer that plays events and notes commits.
pub struct ScriptedConsumer {
    pub events: Arc<Mutex<VecDeque<ConsumerEvent>>>,
    pub journal: Journal,
}

impl LogConsumer for ScriptedConsumer {
    fn poll(&mut self, _: usize, _: usize, timeout: Duration) -> Result<Vec<ConsumerEvent>, LogError> {
        let event = self.events.lock().unwrap().pop_front();
        if event.is_none() {
            std::thread::sleep(timeout.min(Duration::from_millis(5)));
        }
        Ok(event.into_iter().collect())
    }
    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        for (p, from) in partitions {
            self.journal.note(format!("assign {}-{} from {from:?}", p.topic, p.partition));
        }
        Ok(())
    }
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        partitions.iter().for_each(|p| self.journal.note(format!("unassign {}-{}", p.topic, p.partition)));
        Ok(())
    }
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        partitions.iter().for_each(|p| self.journal.note(format!("pause {}-{}", p.topic, p.partition)));
        Ok(())
    }
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        partitions.iter().for_each(|p| self.journal.note(format!("resume {}-{}", p.topic, p.partition)));
        Ok(())
    }
    fn seek(&mut self, _: &TopicPartition, _: i64) -> Result<(), LogError> {
        Ok(())
    }
    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        offsets
            .iter()
            .for_each(|(p, offset)| self.journal.note(format!("commit {}-{} {offset}", p.topic, p.partition)));
        Ok(())
    }
    fn committed(&mut self, _: &[TopicPartition], _: Duration) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
        Ok(Vec::new())
    }
    fn lag(&mut self) -> Vec<(TopicPartition, i64)> {
        Vec::new()
    }
    fn close(self: Box<Self>, _: Duration) -> Result<(), LogError> {
        self.journal.note("consumer closed");
        Ok(())
    }
}

/// A producer that completes what it is told to.
#[derive(Default)]
pub struct ScriptedProducer {
    pub journal: Journal,
    /// Values that are refused for good.
    pub refuse: Option<&'static str>,
    /// A send with such a value is refused as a whole, as too large: what librdkafka makes of a broker's refusal.
    pub refuse_batches_with: Option<&'static str>,
    /// How many further sends fail, to pass later.
    pub busy: u32,
    /// While true, nothing is acknowledged.
    pub hold: Arc<Mutex<bool>>,
    pub open: VecDeque<Completion>,
}

impl LogProducer for ScriptedProducer {
    fn send(
        &mut self,
        topic: &str,
        records: &LogRecords,
        from: usize,
        token: u64,
        _: Duration,
    ) -> Result<usize, LogError> {
        let mut failed = Vec::new();
        let value_of = |row| String::from_utf8_lossy(records.values.value(row)).into_owned();
        let too_large = (from..records.len()).any(|row| self.refuse_batches_with == Some(value_of(row).as_str()));
        let busy = self.busy > 0;
        self.busy = self.busy.saturating_sub(1);
        for row in from..records.len() {
            let value = value_of(row);
            if too_large {
                let error = LogError { code: Some("MSG_SIZE_TOO_LARGE"), ..LogError::fatal("too large") };
                failed.push((row, error));
            } else if busy {
                failed.push((row, LogError::retriable("not enough replicas")));
            } else if self.refuse == Some(value.as_str()) {
                failed.push((row, LogError::fatal("too large")));
            } else {
                self.journal.note(format!("{topic}: {value}"));
            }
        }
        self.open.push_back(Completion { token, failed, last: None });
        Ok(records.len() - from)
    }
    fn finish(&mut self, token: u64) {
        if self.open.iter().all(|open| open.token != token) {
            self.open.push_back(Completion { token, failed: Vec::new(), last: None });
        }
    }
    fn poll(&mut self, timeout: Duration) -> Result<Vec<Completion>, LogError> {
        if *self.hold.lock().unwrap() {
            std::thread::sleep(timeout);
            return Ok(Vec::new());
        }
        Ok(self.open.drain(..).collect())
    }
    fn in_flight(&self) -> usize {
        self.open.len()
    }
    fn flush(&mut self, timeout: Duration) -> Result<(), LogError> {
        if *self.hold.lock().unwrap() {
            std::thread::sleep(timeout);
        }
        Ok(())
    }
    fn close(self: Box<Self>, _: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

/// Dead letters that go to the topic `dlq` of a scripted producer.
pub fn dead_letters(producer: ScriptedProducer, control: &Arc<TaskControl>) -> DeadLetters {
    let head = Letterhead {
        topic: "dlq".into(),
        context_headers: true,
        connector: "c".into(),
        task: 0,
        control: control.clone(),
    };
    DeadLetters::new(head, Box::new(producer))
}

/// Stores that note what is stored.
#[derive(Clone, Default)]
pub struct Stores(pub Journal);

impl OffsetStore for Stores {
    fn get(&self, _: &str, partitions: &[Value]) -> Result<Vec<Option<Value>>, StorageError> {
        Ok(vec![None; partitions.len()])
    }
    fn all(&self, _: &str) -> Result<Vec<SourcePosition>, StorageError> {
        Ok(Vec::new())
    }
    fn put(&self, _: &str, positions: &[SourcePosition]) -> Result<(), StorageError> {
        for position in positions {
            self.0.note(format!("stored {}", position.offset.as_ref().unwrap()));
        }
        Ok(())
    }
}

impl StateStore for Stores {
    fn get_many(&self, _: &str, _: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        Ok(vec![None; keys.len()])
    }
    fn put_many(&self, _: &str, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<(), StorageError> {
        writes.iter().for_each(|(key, _)| self.0.note(format!("state {shard}/{}", String::from_utf8_lossy(key))));
        Ok(())
    }
    fn scan(
        &self,
        _: &str,
        _: &str,
        _: &[u8],
        _: &[u8],
        _: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        Ok(())
    }
}

pub fn services(journal: &Journal, control: &Arc<TaskControl>) -> Arc<InstanceServices> {
    let stores = Arc::new(Stores(journal.clone()));
    Arc::new(InstanceServices::new("c", Some(0), control.clone(), stores.clone(), stores))
}

pub fn converters(value: &str) -> Converters {
    let config = Config::from_iter([("schemas.enable", "false")]);
    let converter = |class: &str, is_key| Named {
        class: class.to_owned(),
        converter: converter::converter(class, &config, is_key).unwrap(),
    };
    let header = Named {
        class: "SimpleHeaderConverter".to_owned(),
        converter: converter::header_converter("SimpleHeaderConverter", &Config::default()).unwrap(),
    };
    Converters { key: converter("StringConverter", true), value: converter(value, false), header }
}
