//! A vault that a topic is written to, and the judge of what is in it.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_harness::checker::read_topic;
use tributary_harness::{Error, KafkaBroker, Rest, Result, WorkerOptions, wait};
use tributary_plugin_vault::Store;
use tributary_tests::install_plugin;
pub use tributary_tests::{rounds, unique};

/// Partitions of the input.
pub const PARTITIONS: i32 = 3;

/// The connector, its topic and its store.
pub struct Rig {
    pub name: String,
    pub topic: String,
    pub folder: PathBuf,
    /// Records that were produced.
    pub count: usize,
    /// Keeps the folder.
    _dir: tempfile::TempDir,
}

/// Options of a worker that has the vault and commits often.
pub fn options(plugins: &tempfile::TempDir) -> Result<WorkerOptions> {
    install_plugin(plugins.path(), "vault")?;
    Ok(WorkerOptions::default()
        .set("plugin.path", &plugins.path().display().to_string())
        .set("offset.flush.interval.ms", "150"))
}

impl Rig {
    /// Without a topic yet.
    pub fn new(what: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let name = unique(what);
        Ok(Self { topic: format!("{name}-in"), name, folder: dir.path().join("vault"), count: 0, _dir: dir })
    }

    /// With its topic.
    pub fn on(broker: &KafkaBroker, what: &str) -> Result<Self> {
        let rig = Self::new(what)?;
        broker.create_topic(&rig.topic, PARTITIONS, &[])?;
        Ok(rig)
    }

    /// The connector's config, with more.
    pub fn config(&self, tasks: usize, more: &Value) -> Value {
        let mut config = json!({
            "connector.class": "com.example.VaultSink", "folder": self.folder, "topics": self.topic, "tasks.max": tasks,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "consumer.override.session.timeout.ms": "6000", "consumer.override.heartbeat.interval.ms": "1000",
            "errors.restart.backoff.initial.ms": "50",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }

    /// Creates the connector, or changes it.
    pub fn create(&self, rest: &Rest, tasks: usize) -> Result<()> {
        rest.put_connector(&self.name, &self.config(tasks, &json!({}))).map(drop)
    }

    /// Adds so many records, to all partitions.
    pub fn produce(&mut self, broker: &KafkaBroker, count: usize) -> Result<()> {
        let producer: BaseProducer = broker.client().create()?;
        for number in self.count..self.count + count {
            let line = format!("record {number}");
            let partition = number as i32 % PARTITIONS;
            let record = || BaseRecord::<str, str>::to(&self.topic).payload(&line).partition(partition);
            while let Err((error, _)) = producer.send(record()) {
                if error.rdkafka_error_code() != Some(rdkafka::types::RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(50));
            }
        }
        self.count += count;
        Ok(producer.flush(Duration::from_secs(60))?)
    }

    pub fn store(&self) -> Result<Store> {
        Store::open(&self.folder).map_err(|error| Error::new(error.to_string()))
    }

    /// What is visible.
    pub fn lines(&self) -> Result<Vec<String>> {
        self.store()?.lines().map_err(|error| Error::new(error.to_string()))
    }

    /// Waits until all records of the topic are visible, and judges: each once, and nothing was lost or aborted that should not be.
    pub fn check(&self, rest: &Rest, broker: &KafkaBroker) -> Result<()> {
        let mut expected = Vec::new();
        read_topic(broker, &self.topic, |_, value| {
            expected.push(String::from_utf8_lossy(value.unwrap_or_default()).into_owned());
        })?;
        self.check_against(rest, expected)
    }

    /// The same with records that are known.
    pub fn check_against(&self, rest: &Rest, mut expected: Vec<String>) -> Result<()> {
        let name = &self.name;
        wait::until(&format!("{name} has all records"), 2 * wait::PATIENCE, || {
            let (count, status) = (self.lines()?.len(), rest.status(name)?);
            if count >= expected.len() {
                Ok(Some(()))
            } else {
                Err(Error::new(format!("{count} of {}: {status}", expected.len())))
            }
        })?;
        let wrongs = self.store()?.wrongs();
        if !wrongs.is_empty() {
            return Err(Error::new(format!("{name}: {wrongs:#?}")));
        }
        let mut found = self.lines()?;
        found.sort();
        expected.sort();
        if found == expected {
            return Ok(());
        }
        let twice: Vec<_> = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).take(5).collect();
        let missing: Vec<_> = expected.iter().filter(|line| found.binary_search(line).is_err()).take(5).collect();
        let (found, expected) = (found.len(), expected.len());
        Err(Error::new(format!(
            "{name}: {found} records where {expected} are expected; twice {twice:?}, missing {missing:?}"
        )))
    }
}
