//! What the behaviours stand on: the logs, and reading and writing in one line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arrow_array::{Array, BinaryArray, ListArray, StringArray, StructArray};
use tributary::log::embedded::EmbeddedLog;
use tributary::log::kafka::KafkaLog;
use tributary::log::{
    ClientSettings, Completion, ConsumerEvent, FetchedBatch, Log, LogConsumer, LogRecords, NewTopic, Subscription,
    TopicPartition,
};
use tributary_harness::KafkaBroker;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A log under test.
pub struct Fixture {
    pub log: Arc<dyn Log>,
    _keep: Box<dyn std::any::Any>,
}

pub fn kafka() -> Fixture {
    let broker = KafkaBroker::shared().expect("a broker starts");
    Fixture { log: Arc::new(KafkaLog::new(&broker.bootstrap(), &BTreeMap::new())), _keep: Box::new(broker) }
}

/// An embedded log in a directory of its own.
pub fn embedded() -> Fixture {
    let dir = tempfile::tempdir().expect("a temporary directory");
    Fixture { log: Arc::new(EmbeddedLog::open(&dir.path().join("log.db")).unwrap()), _keep: Box::new(dir) }
}

/// A name that no other test uses.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn settings(pairs: &[(&str, &str)]) -> ClientSettings {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

pub fn partition(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

pub fn values<T: AsRef<[u8]>>(values: &[T]) -> LogRecords {
    LogRecords::from_values(BinaryArray::from_iter_values(values))
}

impl Fixture {
    pub fn topic(&self, name: &str, partitions: i32) -> String {
        let name = unique(name);
        let topic = NewTopic { name: name.clone(), partitions: Some(partitions), ..NewTopic::default() };
        assert!(self.log.admin().create_topic(&topic, PATIENCE).unwrap());
        name
    }

    /// Writes and waits for the acknowledgement of every row.
    pub fn write(&self, topic: &str, records: &LogRecords) {
        let completions = self.try_write(topic, records, &[]);
        assert!(completions.iter().all(|c| c.failed.is_empty()), "{completions:?}");
    }

    pub fn try_write(&self, topic: &str, records: &LogRecords, with: &[(&str, &str)]) -> Vec<Completion> {
        let mut producer = self.log.producer(&settings(with)).unwrap();
        let mut row = 0;
        let mut completions = Vec::new();
        while row < records.len() {
            row += producer.send(topic, records, row, 1, Duration::from_millis(100)).unwrap();
            completions.extend(producer.poll(Duration::ZERO).unwrap());
        }
        producer.finish(1);
        producer.flush(PATIENCE).unwrap();
        completions.extend(producer.poll(Duration::from_secs(1)).unwrap());
        assert_eq!(producer.in_flight(), 0);
        producer.close(PATIENCE).unwrap();
        completions
    }

    pub fn member(&self, group: &str, topics: &[&str]) -> Box<dyn LogConsumer> {
        let topics = Subscription::Topics(topics.iter().map(|t| t.to_string()).collect());
        self.log.consumer(&settings(&[("group.id", group), ("session.timeout.ms", "6000")]), &topics).unwrap()
    }

    /// Every record of a topic, from its beginning, until `count` have come.
    pub fn read(&self, topic: &str, partitions: i32, count: usize) -> Vec<Record> {
        let start: Vec<_> = (0..partitions).map(|p| (partition(topic, p), 0)).collect();
        let mut reader = self.log.reader(&ClientSettings::new(), &start).unwrap();
        let records = read_some(&mut *reader, count);
        reader.close(PATIENCE).unwrap();
        records
    }
}

/// One record, for comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

fn cell(column: &BinaryArray, row: usize) -> Option<Vec<u8>> {
    column.is_valid(row).then(|| column.value(row).to_vec())
}

pub fn headers_of(headers: &ListArray, row: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let entries = headers.value(row);
    let entries = entries.as_any().downcast_ref::<StructArray>().unwrap();
    let keys = entries.column(0).as_any().downcast_ref::<StringArray>().unwrap();
    let values = entries.column(1).as_any().downcast_ref::<BinaryArray>().unwrap();
    (0..entries.len()).map(|i| (keys.value(i).to_string(), cell(values, i))).collect()
}

pub fn rows(batch: &FetchedBatch) -> Vec<Record> {
    let records = &batch.records;
    let timestamps = records.timestamps.as_ref().expect("timestamps are always present");
    assert!(records.values.len() == batch.offsets.len() && timestamps.len() == batch.offsets.len());
    (0..records.len())
        .map(|row| Record {
            partition: batch.topic_partition.partition,
            offset: batch.offsets.value(row),
            timestamp: timestamps.is_valid(row).then(|| timestamps.value(row)),
            key: records.keys.as_ref().and_then(|keys| cell(keys, row)),
            value: cell(&records.values, row),
            headers: records.headers.as_ref().map(|h| headers_of(h, row)).unwrap_or_default(),
        })
        .collect()
}

/// Polls until `count` records have come; rebalances are accepted as they come.
pub fn read_some(consumer: &mut dyn LogConsumer, count: usize) -> Vec<Record> {
    let start = Instant::now();
    let mut records = Vec::new();
    while records.len() < count {
        assert!(start.elapsed() < PATIENCE, "{} of {count} records came", records.len());
        for event in consumer.poll(10_000, 8 << 20, Duration::from_millis(200)).unwrap() {
            if let ConsumerEvent::Batch(batch) = &event {
                records.extend(rows(batch));
            }
            accept(consumer, &event);
        }
    }
    records
}

/// Answers a rebalance event as a task without state does.
pub fn accept(consumer: &mut dyn LogConsumer, event: &ConsumerEvent) {
    match event {
        ConsumerEvent::Batch(_) | ConsumerEvent::End(..) => {}
        ConsumerEvent::Assigned(partitions) => {
            let start: Vec<_> = partitions.iter().map(|p| (p.clone(), None)).collect();
            consumer.assign(&start).unwrap();
        }
        ConsumerEvent::Revoked(partitions) | ConsumerEvent::Lost(partitions) => consumer.unassign(partitions).unwrap(),
    }
}

/// Polls for `time` and gives all that came.
pub fn poll_for(consumer: &mut dyn LogConsumer, time: Duration) -> Vec<ConsumerEvent> {
    let end = Instant::now() + time;
    let mut events = Vec::new();
    while Instant::now() < end {
        events.append(&mut consumer.poll(10_000, 8 << 20, Duration::from_millis(50)).unwrap());
    }
    events
}

pub fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.value.clone().unwrap()).unwrap()).collect()
}
