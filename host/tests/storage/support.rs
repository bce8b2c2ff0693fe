//! Groups with their topics, workers with their databases, and records as others write them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tributary::log::{ClientSettings, Log, kafka::KafkaLog};
use tributary::storage::kafka::{KafkaStorage, Listeners, StorageSettings};
use tributary::storage::sqlite::SqliteStore;
use tributary::storage::{ConfigChange, StorageError};
use tributary_harness::KafkaBroker;
use tributary_sdk::Config;

/// Long enough for a machine that does other things.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A worker group of its own on a broker.
pub struct Group {
    pub bootstrap: String,
    pub properties: Vec<(String, String)>,
    pub name: String,
}

impl Group {
    pub fn new(broker: &KafkaBroker) -> Self {
        Self::at(&broker.bootstrap())
    }

    pub fn at(bootstrap: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("group-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut properties = vec![("group.id".to_owned(), name.clone())];
        for role in ["config", "offset", "status"] {
            properties.push((format!("{role}.storage.topic"), format!("{name}-{role}")));
            properties.push((format!("{role}.storage.replication.factor"), "1".to_owned()));
        }
        properties.push(("offset.storage.partitions".to_owned(), "4".to_owned()));
        Self { bootstrap: bootstrap.to_owned(), properties, name }
    }

    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.properties.retain(|(known, _)| known != key);
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn topic(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }

    pub fn settings(&self) -> StorageSettings {
        let properties: Config = self.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        StorageSettings::new(&properties).unwrap()
    }

    /// A worker that has read everything.
    pub fn worker(&self) -> Worker {
        let worker = self.start(tempfile::tempdir().unwrap());
        worker.wait_current(PATIENCE).unwrap();
        worker
    }

    /// A worker with this data directory.
    pub fn start(&self, directory: tempfile::TempDir) -> Worker {
        let log: Arc<dyn Log> = Arc::new(KafkaLog::new(&self.bootstrap, &ClientSettings::new()));
        let database = SqliteStore::open(directory.path()).unwrap();
        let changes: Arc<Mutex<Vec<ConfigChange>>> = Arc::default();
        let listeners = Listeners {
            config: {
                let changes = changes.clone();
                Arc::new(move |new| changes.lock().unwrap().extend_from_slice(new))
            },
            ..Listeners::default()
        };
        let storage = KafkaStorage::open(log.clone(), &self.settings(), &database, listeners).unwrap();
        Worker { storage, changes, log, directory, _database: database }
    }
}

/// A worker's stores.
pub struct Worker {
    pub storage: KafkaStorage,
    pub changes: Arc<Mutex<Vec<ConfigChange>>>,
    pub log: Arc<dyn Log>,
    directory: tempfile::TempDir,
    _database: SqliteStore,
}

impl std::ops::Deref for Worker {
    type Target = KafkaStorage;

    fn deref(&self) -> &KafkaStorage {
        &self.storage
    }
}

impl Worker {
    /// Ends it; its data directory is what remains.
    pub fn stop(self) -> tempfile::TempDir {
        self.storage.close(Duration::from_secs(10));
        self.directory
    }

    pub fn take_changes(&self) -> Vec<ConfigChange> {
        std::mem::take(&mut self.changes.lock().unwrap())
    }
}

/// Waits until `done` answers.
pub fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = done() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} took longer than {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A config of these pairs.
pub fn config(pairs: &[(&str, &str)]) -> Config {
    pairs.iter().copied().collect()
}

/// Writes records as somebody else would; keys without a value are tombstones.
pub fn produce(bootstrap: &str, topic: &str, records: &[(Option<&[u8]>, Option<&[u8]>)]) {
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    for (key, value) in records {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        while let Err((rdkafka::error::KafkaError::MessageProduction(_), same)) = producer.send(record) {
            producer.poll(Duration::from_millis(10));
            record = same;
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// The same with text.
pub fn produce_text(bootstrap: &str, topic: &str, records: &[(&str, Option<&str>)]) {
    let records: Vec<_> = records.iter().map(|(key, value)| (Some(key.as_bytes()), value.map(str::as_bytes))).collect();
    produce(bootstrap, topic, &records);
}

/// A record as it is in a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub partition: i32,
    pub key: String,
    pub value: Option<String>,
}

/// Everything committed in a topic, partition by partition.
pub fn read_all(bootstrap: &str, topic: &str) -> Vec<Found> {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test-reader")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let count = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..count {
        list.add_partition_offset(topic, partition as i32, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut found, mut ended) = (Vec::new(), 0);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while ended < count {
        match consumer.poll(PATIENCE).expect("an end of each partition") {
            Ok(message) => found.push(Found {
                partition: message.partition(),
                key: text(message.key().unwrap_or_default()),
                value: message.payload().map(text),
            }),
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    found.sort_by_key(|record| record.partition);
    found
}

/// The error of something that must not work.
pub fn refused<T>(result: Result<T, StorageError>) -> StorageError {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => error,
    }
}
