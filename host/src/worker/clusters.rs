//! The clusters of a `KafkaSink`: where it reads, and where it writes and keeps everything of its own.
//!
//! A transaction cannot span two clusters. What has to be committed together is in the one that is written to, the target: the output, the
//! state's changelog, dead letters, and the input's offsets, as those of a consumer group there. All of these names carry the id of the
//! cluster that is read, so that workers of two clusters may have connectors of one name with one target, and offsets in one cluster are
//! never taken for those in another.
//!
//! Whether two addresses are of one cluster is asked, not guessed: the offsets are in one place or in the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::Config;

use super::TaskId;
use super::environment::Environment;
use crate::config::{ClientKind, client_settings, is_client_setting};
use crate::log::{ClientSettings, EMBEDDED, Log, LogAdmin, LogError, StandIns, open_log};
use crate::task::stream;

/// How long a cluster may take to tell its id.
const ASK: Duration = Duration::from_secs(15);

/// Ids that clusters have whose owner has left the default of an image or copied an example: Apache's and Confluent's.
const GIVEN_AWAY: [&str; 2] = ["5L6g3nShT-eMCtK--X86sw", "MkU3OEVBNTcwNTJENDM2Qk"];

/// See the module.
pub struct Clusters {
    /// Has the input.
    pub source: Arc<dyn Log>,
    /// Has everything else.
    pub target: Arc<dyn Log>,
    /// The ids of both, where they are two.
    ids: Option<(String, String)>,
}

impl Clusters {
    /// One cluster, the worker's.
    pub fn home(environment: &Environment) -> Self {
        Self::one(environment.log.clone())
    }

    fn one(log: Arc<dyn Log>) -> Self {
        Self { source: log.clone(), target: log, ids: None }
    }

    /// Whether they are two.
    pub fn are_two(&self) -> bool {
        self.ids.is_some()
    }

    /// The first part of the names of changelogs, of other topics of the connector's own, and of transactional ids.
    pub fn group_of_state(&self, worker_group: &str) -> String {
        self.ids.as_ref().map_or_else(|| worker_group.to_owned(), |(source, _)| format!("{worker_group}-from-{source}"))
    }

    /// The group in the target that has the offsets of a connector, whose `group.id` this would be.
    pub fn consumer_group(&self, group: &str) -> String {
        self.ids.as_ref().map_or_else(|| group.to_owned(), |(source, _)| format!("{group}-from-{source}"))
    }

    /// The group in the source that shows these offsets.
    pub fn shown_group(&self, group: &str) -> String {
        self.ids.as_ref().map_or_else(|| group.to_owned(), |(_, target)| format!("{group}-to-{target}"))
    }

    /// How a group in the target calls the topics of the source; `None` where there is one cluster.
    pub fn stand_ins(&self, consumer_group: &str) -> Option<StandIns> {
        self.are_two().then(|| StandIns::new(consumer_group))
    }
}

impl Environment {
    /// The clusters of a connector with this (resolved) config. Blocks; a retriable error where it has to be asked whether they are two, and
    /// one of them does not answer.
    pub fn clusters(&self, connector: &str, config: &Config) -> Result<Clusters, LogError> {
        let is_stream = self.class(config).is_ok_and(|class| class.info().class == stream::CLASS);
        let Some([producer, consumer]) = is_stream.then(|| self.addresses(connector, config)).transpose()? else {
            return Ok(Clusters::home(self));
        };
        let home = self.config.cluster_settings().map_err(|error| LogError::fatal(error.to_string()))?;
        let here = |settings: &ClientSettings| bootstrap(settings) == bootstrap(&home);
        if here(&producer) && here(&consumer) {
            return Ok(Clusters::home(self));
        }
        if let Some(reason) = refusal(&home, &producer, &consumer) {
            return Err(LogError::fatal(reason));
        }
        let open = |settings: &ClientSettings| {
            if here(settings) {
                Ok(self.log.clone())
            } else {
                open_log(bootstrap(settings), settings, &self.config.data_dir)
            }
        };
        let target = open(&producer)?;
        if bootstrap(&producer) == bootstrap(&consumer) {
            return Ok(Clusters::one(target));
        }
        let source = open(&consumer)?;
        let id = |log: &dyn Log, settings: &ClientSettings, whose: &str| {
            log.cluster_id(ASK).map_err(|error| LogError {
                message: format!(
                    "whether the producer and the consumer of connector {connector} have the same cluster is not known as long as the \
                     {whose}'s ({}) does not tell its id: {error}",
                    bootstrap(settings)
                ),
                ..error
            })
        };
        let ids = (id(&*source, &consumer, "consumer")?, id(&*target, &producer, "producer")?);
        if ids.0 == ids.1 {
            if !are_one(source.admin(), target.admin())? {
                return Err(LogError::fatal(format!(
                    "the clusters of the consumer ({}) and of the producer ({}) of connector {connector} both have the id {}, and have neither \
                     brokers nor topics in common: if they are two, format one anew with an id of its own (kafka-storage random-uuid); if they \
                     are one, give both the same bootstrap.servers",
                    bootstrap(&consumer),
                    bootstrap(&producer),
                    ids.0
                )));
            }
            // Whichever of the addresses are the worker's.
            return Ok(Clusters::one(if here(&consumer) { source } else { target }));
        }
        if GIVEN_AWAY.contains(&&*ids.0) {
            tracing::warn!(
                connector,
                "the consumer's cluster has the id {}, which is an example's and may be that of others, too: connectors of one name that read \
                 from two clusters with one id take each other's offsets",
                ids.0
            );
        }
        Ok(Clusters { source, target, ids: Some(ids) })
    }

    /// How the clusters of a connector's producer and consumer are reached.
    fn addresses(&self, connector: &str, config: &Config) -> Result<[ClientSettings; 2], LogError> {
        let id = TaskId { connector: connector.to_owned(), task: 0 };
        let of = |kind| {
            let settings = client_settings(&self.config, kind, config, &id);
            settings.map(|all| addresses(&all)).map_err(|error| LogError::fatal(error.to_string()))
        };
        Ok([of(ClientKind::Producer)?, of(ClientKind::Consumer)?])
    }

    /// Why the clusters that the overrides of a connector name cannot be two, without asking them; with the key that has to be changed.
    pub fn refused_clusters(&self, connector: &str, config: &Config) -> Result<Option<(String, String)>, LogError> {
        let [producer, consumer] = self.addresses(connector, config)?;
        let home = self.config.cluster_settings().map_err(|error| LogError::fatal(error.to_string()))?;
        let key = |kind: ClientKind, setting: &str| format!("{}{setting}", kind.override_prefix());
        if let Some(reason) = refusal(&home, &producer, &consumer) {
            let kind =
                if bootstrap(&producer) == bootstrap(&home) { ClientKind::Consumer } else { ClientKind::Producer };
            return Ok(Some((key(kind, "bootstrap.servers"), reason)));
        }
        if bootstrap(&producer) == bootstrap(&consumer) {
            return Ok(None);
        }
        let protocol = key(ClientKind::Consumer, "group.protocol");
        let mut member = producer;
        if let Some(value) = config.get(&protocol) {
            member.insert("group.protocol".into(), value.to_owned());
        }
        let refused = crate::log::across::refusal(&member);
        Ok(refused.map(|reason| {
            let key = if reason.starts_with("group.protocol") {
                protocol
            } else {
                key(ClientKind::Producer, "bootstrap.servers")
            };
            (key, reason)
        }))
    }
}

/// Whether two clusters with one id are one: they have a broker in common, or, if they are reached through other listeners, topics with the same
/// ids and none of one name with another id.
fn are_one(source: &dyn LogAdmin, target: &dyn LogAdmin) -> Result<bool, LogError> {
    let (brokers, others) = (source.brokers(ASK)?, target.brokers(ASK)?);
    if !brokers.is_disjoint(&others) {
        return Ok(true);
    }
    let there: BTreeSet<_> = target.topics(ASK)?.into_iter().map(|topic| topic.name).collect();
    let both: Vec<_> =
        source.topics(ASK)?.into_iter().map(|topic| topic.name).filter(|name| there.contains(name)).collect();
    let both: Vec<_> = both.iter().map(String::as_str).collect();
    let (ours, theirs) = (source.topic_identities(&both, ASK)?, target.topic_identities(&both, ASK)?);
    let pairs = ours.iter().filter_map(|(name, ours)| Some((ours.id.as_ref()?, theirs.get(name)?.id.as_ref()?)));
    let pairs: Vec<_> = pairs.collect();
    Ok(!pairs.is_empty() && pairs.iter().all(|(ours, theirs)| ours == theirs))
}

/// Settings that say how a cluster is reached.
pub fn addresses(settings: &ClientSettings) -> ClientSettings {
    let of_cluster = settings.iter().filter(|(name, _)| is_client_setting(name) && *name != "client.id");
    of_cluster.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The other settings.
pub fn without_addresses(settings: &ClientSettings) -> ClientSettings {
    let others = settings.iter().filter(|(name, _)| !is_client_setting(name) || *name == "client.id");
    others.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn bootstrap(settings: &ClientSettings) -> &str {
    settings.get("bootstrap.servers").map_or("", |servers| servers.trim())
}

fn refusal(home: &ClientSettings, producer: &ClientSettings, consumer: &ClientSettings) -> Option<String> {
    let both = [producer, consumer];
    if bootstrap(home) == EMBEDDED {
        return both.iter().any(|settings| bootstrap(settings) != EMBEDDED).then(|| {
            "bootstrap.servers of a connector names a Kafka cluster, and the worker is on the embedded log, whose records no Kafka client \
             reads or writes: leave it out, or run the connector on a worker with bootstrap.servers of a Kafka cluster"
                .to_owned()
        });
    }
    both.iter().any(|settings| bootstrap(settings) == EMBEDDED).then(|| {
        "bootstrap.servers=embedded names the log in a worker's own directory, and this worker is on Kafka: give host:port of a Kafka broker"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(servers: &str) -> ClientSettings {
        [("bootstrap.servers".to_owned(), servers.to_owned())].into()
    }

    #[test]
    fn the_embedded_log_is_no_cluster_of_kafka() {
        let refused = |home, producer, consumer| refusal(&at(home), &at(producer), &at(consumer)).unwrap_or_default();
        assert!(refused(EMBEDDED, "a:1", EMBEDDED).contains("the worker is on the embedded log"));
        assert!(refused(EMBEDDED, EMBEDDED, "a:1").contains("the worker is on the embedded log"));
        assert!(refused("a:1", "a:1", EMBEDDED).contains("this worker is on Kafka"));
        assert_eq!(
            (refused("a:1", "b:1", "c:1"), refused(EMBEDDED, EMBEDDED, EMBEDDED)),
            (String::new(), String::new())
        );
    }

    #[test]
    fn settings_are_told_apart() {
        let mut all = at("a:1");
        for name in ["sasl.jaas.config", "ssl.truststore.location", "group.id", "client.id", "acks"] {
            all.insert(name.to_owned(), "x".to_owned());
        }
        let names = |settings: ClientSettings| settings.into_keys().collect::<Vec<_>>();
        assert_eq!(names(addresses(&all)), ["bootstrap.servers", "sasl.jaas.config", "ssl.truststore.location"]);
        assert_eq!(names(without_addresses(&all)), ["acks", "client.id", "group.id"]);
    }
}
