//! Several brokers that are one cluster: each of them also a controller.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::broker::KafkaBroker;
use super::image::random_id;
use super::options::{BrokerOptions, Ports};
use crate::{Error, Result, ports};

/// A cluster of Kafka 4.3.1 brokers. Internal topics are on all of them.
#[derive(Debug)]
pub struct KafkaCluster {
    /// The brokers; number 0 is node 1.
    pub brokers: Vec<KafkaBroker>,
}

impl KafkaCluster {
    /// Starts so many brokers.
    pub fn start(count: usize, options: BrokerOptions) -> Result<Self> {
        let replicas = count.to_string();
        let majority = (count / 2 + 1).to_string();
        let options = options
            .set("offsets.topic.replication.factor", &replicas)
            .set("transaction.state.log.replication.factor", &replicas)
            .set("transaction.state.log.min.isr", &majority)
            .set("default.replication.factor", &replicas)
            .set("min.insync.replicas", &majority)
            // On a busy machine an election must not be repeated again and again.
            .set("controller.quorum.election.timeout.ms", "2000")
            .set("controller.quorum.fetch.timeout.ms", "4000");
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Ports { client: ports::free()?, controller: ports::free()?, ..Ports::default() });
        }
        let voters: Vec<String> = all
            .iter()
            .enumerate()
            .map(|(index, ports)| format!("{}@127.0.0.1:{}", index + 1, ports.controller))
            .collect();
        let cluster = random_id();
        let mut brokers = Vec::new();
        for (node, mut ports) in (1..).zip(all) {
            ports.node = Some((node, voters.join(",")));
            brokers.push(KafkaBroker::prepare(&options, ports, &cluster)?);
        }
        // A single one is not enough to elect a controller: all of them first.
        for broker in &mut brokers {
            broker.launch()?;
        }
        for broker in &mut brokers {
            broker.wait_until_ready()?;
        }
        Ok(Self { brokers })
    }

    /// The value for `bootstrap.servers`: all of them.
    pub fn bootstrap(&self) -> String {
        let servers: Vec<String> = self.brokers.iter().map(KafkaBroker::bootstrap).collect();
        servers.join(",")
    }

    /// Whether every replica of a topic has what its leader has; `None`: not yet.
    pub fn in_sync(&self, topic: &str) -> Result<Option<()>> {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.bootstrap()).create()?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let lacking = partitions.filter(|partition| partition.isr().len() < partition.replicas().len()).count();
        if lacking == 0 { Ok(Some(())) } else { Err(Error::new(format!("{lacking} partitions lack a replica"))) }
    }
}
