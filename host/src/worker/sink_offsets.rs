//! The offsets of a sink: those of its consumer group on the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tributary_sdk::Config;
use tributary_sdk::prepared::PreparedToken;
use tributary_sdk::sink::TopicPartitionOffset;

use super::TaskId;
use super::clusters::{Clusters, addresses, without_addresses};
use super::environment::Environment;
use super::offsets::{OffsetsError, PartitionOffset};
use crate::config::{ClientKind, client_settings};
use crate::log::across::ensure_stand_in;
use crate::log::{CommittedOffset, LogAdmin, LogError, StandIns, TopicPartition};
use crate::state::changelog;
use crate::task::prepared::Carried;

const TOPIC: &str = "kafka_topic";
const PARTITION: &str = "kafka_partition";
const OFFSET: &str = "kafka_offset";

/// How long one request to the log may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long members of a group that have no task any more are waited for.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);
/// Tasks of earlier configs may have left members behind, too.
const LEAST_MEMBERS: usize = 16;

/// Reads one partition and offset of a request.
pub fn parse(given: &PartitionOffset) -> Result<TopicPartitionOffset, OffsetsError> {
    let refused = |message: String| Err(OffsetsError::Refused(message));
    let Some(partition) = given.partition.as_object() else {
        return refused("The partition for a sink connector offset cannot be null or missing".to_owned());
    };
    let (Some(topic), Some(number)) = (partition.get(TOPIC), partition.get(PARTITION)) else {
        return refused(format!(
            "The partition for a sink connector offset must contain the keys '{TOPIC}' and '{PARTITION}'"
        ));
    };
    if topic.is_null() {
        return refused("Kafka topic names must be valid strings and may not be null".to_owned());
    }
    if number.is_null() {
        return refused("Kafka partitions must be valid numbers and may not be null".to_owned());
    }
    let number = text(number);
    let Ok(partition) = number.parse::<i32>() else {
        return refused(format!(
            "Failed to parse the following Kafka partition value in the provided offsets: '{number}'. Partition values for \
             sink connectors need to be integers."
        ));
    };
    let offset = match given.offset.as_object() {
        None => None,
        Some(offset) => {
            let Some(offset) = offset.get(OFFSET) else {
                return refused(format!(
                    "The offset for a sink connector should either be null or contain the key '{OFFSET}'"
                ));
            };
            let offset = text(offset);
            let Ok(offset) = offset.parse::<i64>() else {
                return refused(format!(
                    "Failed to parse the following Kafka offset value in the provided offsets: '{offset}'. Offset values for \
                     sink connectors need to be integers."
                ));
            };
            Some(offset)
        }
    };
    Ok(TopicPartitionOffset { topic: text(topic).into(), partition, offset })
}

/// Strings as they are, the rest as it is written.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The consumer group of a sink.
pub struct SinkGroup<'a> {
    environment: &'a Environment,
    connector: &'a str,
    /// The target has the group.
    clusters: Clusters,
    group: String,
    /// How it calls the topics of another cluster.
    stand_ins: Option<StandIns>,
    /// Members that tasks of this connector may have left behind.
    members: Vec<String>,
    /// With the connector's own settings, if it has any.
    admin: Option<Box<dyn LogAdmin>>,
}

impl<'a> SinkGroup<'a> {
    /// The group of a connector with this (resolved) config. Asks the clusters of one that may have two whether it does.
    pub fn new(environment: &'a Environment, connector: &'a str, config: &Config) -> Result<Self, OffsetsError> {
        let id = TaskId { connector: connector.to_owned(), task: 0 };
        let settings = |kind| {
            client_settings(&environment.config, kind, config, &id).map_err(|error| {
                OffsetsError::Failed(format!(
                    "Failed to retrieve consumer group offsets for sink connector {connector}: {error}"
                ))
            })
        };
        let consumer = settings(ClientKind::Consumer)?;
        let group =
            consumer.get("group.id").map_or_else(|| format!("connect-{connector}"), |group| group.trim().to_owned());
        let tasks = config.parsed("tasks.max", 1).unwrap_or(1).clamp(LEAST_MEMBERS, 1000);
        let members = match consumer.get("group.instance.id") {
            Some(instance) => vec![instance.clone()],
            None => (0..tasks).map(|task| format!("{connector}-{task}")).collect(),
        };
        let of_its_own = |kind: &Config, prefix: &str| kind.with_prefix(prefix).0.keys().any(|key| key != "client.id");
        let own = of_its_own(config, ClientKind::Admin.override_prefix())
            || of_its_own(&environment.config.properties, ClientKind::Admin.prefix());
        let clusters = environment.clusters(connector, config).map_err(|error| {
            OffsetsError::Failed(format!(
                "Failed to retrieve consumer group offsets for sink connector {connector}: {error}"
            ))
        })?;
        let group = clusters.consumer_group(&group);
        let admin = match own {
            // The admin client's addresses are the worker's, and the group may be elsewhere.
            true if !Arc::ptr_eq(&clusters.target, &environment.log) => {
                let mut admin = without_addresses(&settings(ClientKind::Admin)?);
                admin.extend(addresses(&settings(ClientKind::Producer)?));
                clusters.target.admin_with(&admin)
            }
            true => clusters.target.admin_with(&settings(ClientKind::Admin)?),
            false => None,
        };
        Ok(Self { environment, connector, stand_ins: clusters.stand_ins(&group), clusters, group, members, admin })
    }

    fn admin(&self) -> &dyn LogAdmin {
        self.admin.as_deref().unwrap_or_else(|| self.clusters.target.admin())
    }

    fn offsets(&self, what: &str) -> Result<Vec<(TopicPartition, i64)>, OffsetsError> {
        let offsets = self.group_offsets();
        offsets.map_err(|error| OffsetsError::Failed(format!("{what} sink connector {}: {error}", self.connector)))
    }

    /// By the names of the topics themselves. Offsets of a topic that is not there any more are as good as gone, although its stand-in is there:
    /// one that is made anew under its name does not have them.
    fn group_offsets(&self) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        let offsets = self.admin().group_offsets(&self.group, TIMEOUT)?;
        let Some(names) = &self.stand_ins else { return Ok(offsets) };
        let topics: BTreeSet<_> = offsets.iter().filter_map(|(kept, _)| names.topic(&kept.topic)).collect();
        let identities =
            self.clusters.source.admin().topic_identities(&topics.into_iter().collect::<Vec<_>>(), TIMEOUT)?;
        let known = |(kept, offset): (TopicPartition, i64)| {
            let Some(topic) = names.topic(&kept.topic) else { return Some((kept, offset)) };
            let identity = identities.get(topic)?;
            let now = *kept.topic == *names.name(topic, identity.id.as_deref());
            now.then(|| (TopicPartition { topic: topic.into(), partition: kept.partition }, offset))
        };
        Ok(offsets.into_iter().filter_map(known).collect())
    }

    /// The committed offsets, as REST shows them.
    pub fn list(&self) -> Result<Vec<PartitionOffset>, OffsetsError> {
        let offsets = self.offsets("Failed to retrieve consumer group offsets for")?;
        let shown = |(partition, offset): (TopicPartition, i64)| PartitionOffset {
            partition: json!({ TOPIC: &*partition.topic, PARTITION: partition.partition }),
            offset: json!({ OFFSET: offset }),
        };
        Ok(offsets.into_iter().map(shown).collect())
    }

    /// Takes static members that tasks have left behind out of the group; others end by themselves, or are in the way of a change later.
    pub fn dismiss(&self) {
        let log = &self.clusters.target;
        if log.static_membership()
            && let Err(error) = log.remove_static_members(&self.group, &self.members, TIMEOUT)
        {
            tracing::warn!(connector = self.connector, "{error}");
        }
    }

    /// Tokens of prepared transactions that the committed offsets carry. Most of them are committed already.
    pub fn tokens(&self) -> Result<Vec<PreparedToken>, OffsetsError> {
        let commits = self.admin().group_commits(&self.group, TIMEOUT).map_err(|error| self.failed(&error))?;
        let token = |commit: CommittedOffset| {
            let token = Carried::parse(&commit.metadata)?.token?;
            Some(PreparedToken { at: (&commit.partition).into(), token })
        };
        Ok(commits.into_iter().filter_map(token).collect())
    }

    /// The committed partitions, each to be forgotten.
    pub fn to_reset(&self) -> Result<Vec<TopicPartitionOffset>, OffsetsError> {
        let offsets = self.offsets("Failed to list offsets prior to resetting offsets for")?;
        let reset = |(partition, _): (TopicPartition, i64)| TopicPartitionOffset {
            topic: partition.topic,
            partition: partition.partition,
            offset: None,
        };
        Ok(offsets.into_iter().map(reset).collect())
    }

    /// Refuses what the log would refuse, or would take and never use: offsets below zero, partitions that do not exist.
    pub fn check(&self, offsets: &[TopicPartitionOffset]) -> Result<(), OffsetsError> {
        if let Some(wrong) = offsets.iter().find(|offset| offset.offset.is_some_and(|offset| offset < 0)) {
            return Err(OffsetsError::Refused(format!(
                "Failed to modify offsets for sink connector {}: Invalid negative offset {} for partition {}-{}",
                self.connector,
                wrong.offset.unwrap_or_default(),
                wrong.topic,
                wrong.partition
            )));
        }
        let mut topics = self.admin().topics(TIMEOUT).map_err(|error| self.failed(&error))?;
        if self.clusters.are_two() {
            // In the target are only topics of the connector's own; all others that it reads are in the source.
            topics.retain(|topic| self.is_own(&topic.name));
            topics.extend(self.clusters.source.admin().topics(TIMEOUT).map_err(|error| self.failed(&error))?);
        }
        let partitions: BTreeMap<&str, i32> =
            topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
        // What is to be forgotten need not exist any more.
        let unknown = offsets
            .iter()
            .filter(|offset| offset.offset.is_some())
            .find(|offset| partitions.get(&*offset.topic).is_none_or(|count| !(0..*count).contains(&offset.partition)));
        match unknown {
            None => Ok(()),
            Some(unknown) => Err(OffsetsError::Refused(format!(
                "Failed to alter consumer group offsets for connector {}: there is no partition {} of a topic {}",
                self.connector, unknown.partition, unknown.topic
            ))),
        }
    }

    /// The same offsets as the connector knows their partitions. It knows an outbox by another name, and may have offsets of one whose group
    /// has none yet: they are forgotten, too.
    pub fn as_asked(
        &self,
        offsets: &[TopicPartitionOffset],
        reset: bool,
        keeps_state: bool,
    ) -> Result<Vec<TopicPartitionOffset>, OffsetsError> {
        let mut asked = offsets.to_vec();
        let group = self.clusters.group_of_state(self.environment.group_of_state());
        let outbox = changelog::outbox_topic(&group, self.connector);
        let identity = match self.clusters.target.admin().topic_identity(&outbox, TIMEOUT) {
            Ok(Some(identity)) => identity,
            Ok(None) => return Ok(asked),
            // Without state there is no outbox, and it does not matter if the cluster tells nothing of the topic.
            Err(_) if !keeps_state => return Ok(asked),
            Err(error) => return Err(self.failed(&error)),
        };
        let label: Arc<str> = changelog::outbox_label(&outbox, identity.id.as_deref()).into();
        for offset in asked.iter_mut().filter(|offset| *offset.topic == *outbox) {
            offset.topic = label.clone();
        }
        // A cluster that had no ids once may have left offsets under the bare name.
        let names = if *label == *outbox { vec![label] } else { vec![label, outbox.as_str().into()] };
        for (topic, partition) in names.iter().flat_map(|name| (0..identity.partitions).map(move |at| (name, at))) {
            if reset && !asked.iter().any(|known| known.topic == *topic && known.partition == partition) {
                asked.push(TopicPartitionOffset { topic: topic.clone(), partition, offset: None });
            }
        }
        Ok(asked)
    }

    /// Whether a topic is one between stages.
    fn is_own(&self, topic: &str) -> bool {
        let group = self.clusters.group_of_state(self.environment.group_of_state());
        changelog::is_repartition_topic(&group, self.connector, topic)
    }

    /// Under which name the group keeps the offset of a partition, which is made if it is missing.
    fn kept(&self, partition: TopicPartition) -> Result<TopicPartition, LogError> {
        let Some(names) = self.stand_ins.as_ref().filter(|_| !self.is_own(&partition.topic)) else {
            return Ok(partition);
        };
        let TopicPartition { topic, partition } = partition;
        let known = self.clusters.source.admin().topic_identity(&topic, TIMEOUT)?;
        let Some(known) = known.filter(|known| known.partitions > 0) else {
            return Err(LogError::fatal(format!("the topic {topic} does not exist in the source cluster")));
        };
        let name = names.name(&topic, known.id.as_deref());
        ensure_stand_in(&*self.clusters.target, &topic, &name, known.partitions)?;
        Ok(TopicPartition { topic: name.into(), partition })
    }

    /// Commits and forgets offsets.
    pub fn alter(&self, offsets: &[TopicPartitionOffset]) -> Result<(), OffsetsError> {
        let committed = self.group_offsets().map_err(|error| self.failed(&error))?;
        let partition = |offset: &TopicPartitionOffset| TopicPartition {
            topic: Arc::clone(&offset.topic),
            partition: offset.partition,
        };
        // Forgetting what is not there is done already; the log would call it an error.
        let wanted: Vec<_> = offsets
            .iter()
            .map(|offset| (partition(offset), offset.offset))
            .filter(|(partition, offset)| offset.is_some() || committed.iter().any(|(known, _)| known == partition))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let kept = |(partition, offset)| Ok((self.kept(partition)?, offset));
        let wanted =
            wanted.into_iter().map(kept).collect::<Result<Vec<_>, _>>().map_err(|error| self.failed(&error))?;
        self.once_empty(|| self.admin().alter_group_offsets(&self.group, &wanted, TIMEOUT))
            .map_err(|error| if has_members(&error) { self.not_empty("alter", &error) } else { self.failed(&error) })
    }

    /// Removes the group.
    pub fn delete(&self) -> Result<(), OffsetsError> {
        self.once_empty(|| self.admin().delete_group(&self.group, TIMEOUT)).map_err(|error| {
            if has_members(&error) {
                return self.not_empty("reset", &error);
            }
            OffsetsError::Failed(format!(
                "Failed to reset consumer group offsets for sink connector {}: {error}",
                self.connector
            ))
        })
    }

    fn failed(&self, error: &LogError) -> OffsetsError {
        OffsetsError::Failed(format!(
            "Failed to alter consumer group offsets for connector {}: {error}",
            self.connector
        ))
    }

    /// Begins with Connect's words.
    fn not_empty(&self, what: &str, error: &LogError) -> OffsetsError {
        OffsetsError::Failed(format!(
            "Failed to {what} consumer group offsets for connector {} either because its tasks haven't stopped completely yet \
             or the connector was resumed before the request to {what} its offsets could be successfully completed. If the \
             connector is in a stopped state, this operation can be safely retried. If it does not succeed, members that are \
             no tasks of this connector are in the group: {error}",
            self.connector
        ))
    }

    /// Makes a call that the log refuses while the group has members. A task that was killed leaves one behind, which
    /// stays until its session ends: it is taken out; one that only ends slowly is waited for a little.
    fn once_empty(&self, call: impl Fn() -> Result<(), LogError>) -> Result<(), LogError> {
        let deadline = Instant::now() + EMPTY_WITHIN;
        loop {
            match call() {
                Err(error) if has_members(&error) && Instant::now() < deadline => {
                    self.dismiss();
                    std::thread::sleep(Duration::from_millis(200));
                }
                other => return other,
            }
        }
    }
}

fn has_members(error: &LogError) -> bool {
    error.code.is_some_and(|code| ["NON_EMPTY_GROUP", "UNKNOWN_MEMBER_ID", "GROUP_SUBSCRIBED_TO_TOPIC"].contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(partition: Value, offset: Value) -> Result<(String, i32, Option<i64>), String> {
        let parsed = parse(&PartitionOffset { partition, offset }).map_err(|error| error.to_string())?;
        Ok((parsed.topic.to_string(), parsed.partition, parsed.offset))
    }

    #[test]
    fn numbers_may_be_text_and_nothing_else() {
        let partition = json!({"kafka_topic": "t", "kafka_partition": "3"});
        assert_eq!(parsed(partition.clone(), json!({"kafka_offset": "10"})), Ok(("t".into(), 3, Some(10))));
        assert_eq!(parsed(partition.clone(), Value::Null), Ok(("t".into(), 3, None)));
        for wrong in [json!("ten"), json!(1.5), json!(null), json!(""), json!(1e3), json!(true), json!([1])] {
            let error = parsed(partition.clone(), json!({ "kafka_offset": wrong })).unwrap_err();
            assert!(error.starts_with("Failed to parse the following Kafka offset value"), "{error}");
        }
        for wrong in [json!("ten"), json!(2_147_483_648_i64), json!(0.0)] {
            let partition = json!({"kafka_topic": "t", "kafka_partition": wrong});
            let error = parsed(partition, Value::Null).unwrap_err();
            assert!(error.starts_with("Failed to parse the following Kafka partition value"), "{error}");
        }
        for (partition, part) in [
            (Value::Null, "cannot be null or missing"),
            (json!({"kafka_topic": "t"}), "must contain the keys"),
            (json!({"kafka_topic": null, "kafka_partition": 1}), "topic names must be valid"),
            (json!({"kafka_topic": "t", "kafka_partition": null}), "partitions must be valid"),
        ] {
            assert!(parsed(partition, Value::Null).unwrap_err().contains(part), "{part}");
        }
    }
}
