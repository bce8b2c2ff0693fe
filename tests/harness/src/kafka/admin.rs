//! What tests ask of a broker besides producing and consuming.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::KafkaBroker;
use crate::{Context, Error, Result};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A topic as its broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOfBroker {
    /// Number of partitions.
    pub partitions: usize,
    /// Replicas of the first one.
    pub replicas: usize,
    /// Settings that are not the broker's.
    pub settings: BTreeMap<String, String>,
}

impl KafkaBroker {
    /// A client configuration that leads to this broker.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config
    }

    /// Creates a topic; it fails if there is one of this name.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let results = block_on(admin.create_topics([&topic], &options))?;
        for result in results {
            result.map_err(|(name, code)| Error::new(format!("cannot create topic {name}: {code}")))?;
        }
        Ok(())
    }

    /// Gives a topic so many partitions in all.
    pub fn add_partitions(&self, name: &str, partitions: usize) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let results = block_on(admin.create_partitions([&NewPartitions::new(name, partitions)], &options))?;
        for result in results {
            result.map_err(|(name, code)| Error::new(format!("cannot add partitions to {name}: {code}")))?;
        }
        Ok(())
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let results = block_on(admin.delete_topics(&[name], &options))?;
        for result in results {
            result.map_err(|(name, code)| Error::new(format!("cannot delete topic {name}: {code}")))?;
        }
        Ok(())
    }

    /// The names of all topics, in order.
    pub fn topics(&self) -> Result<Vec<String>> {
        let client: BaseConsumer = self.client().create()?;
        let metadata = client.fetch_metadata(None, TIMEOUT)?;
        let mut names: Vec<String> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// First and next offset of every partition. A topic that is not there is an error.
    pub fn watermarks(&self, topic: &str) -> Result<Vec<(i64, i64)>> {
        let client: BaseConsumer = self.client().set("allow.auto.create.topics", "false").create()?;
        let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if partitions == 0 {
            return Err(Error::new(format!("there is no topic {topic}")));
        }
        let partitions = i32::try_from(partitions).context("too many partitions")?;
        (0..partitions).map(|partition| Ok(client.fetch_watermarks(topic, partition, TIMEOUT)?)).collect()
    }

    /// A topic's partitions, replicas and the settings that were made for it; `None` if there is no such topic.
    pub fn describe_topic(&self, name: &str) -> Result<Option<TopicOfBroker>> {
        let client: BaseConsumer = self.client().set("allow.auto.create.topics", "false").create()?;
        let metadata = client.fetch_metadata(None, TIMEOUT)?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let mut settings = BTreeMap::new();
        for resource in block_on(admin.describe_configs([&ResourceSpecifier::Topic(name)], &options))? {
            let resource = resource.map_err(|code| Error::new(format!("cannot describe topic {name}: {code}")))?;
            let own = resource.entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
            settings.extend(own.map(|entry| (entry.name, entry.value.unwrap_or_default())));
        }
        let replicas = topic.partitions().first().map_or(0, |partition| partition.replicas().len());
        Ok(Some(TopicOfBroker { partitions: topic.partitions().len(), replicas, settings }))
    }

    /// How many offsets all partitions of a topic hold together, control records included.
    pub fn record_count(&self, topic: &str) -> Result<u64> {
        let spans = self.watermarks(topic)?.into_iter().map(|(first, next)| u64::try_from(next - first).unwrap_or(0));
        Ok(spans.sum())
    }
}

/// Admin calls are futures that librdkafka's own thread completes; any executor does.
fn block_on<T>(future: impl Future<Output = Result<T, rdkafka::error::KafkaError>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    Ok(runtime.block_on(future)?)
}
