//! The internal topics as the worker's properties name them: Kafka Connect's keys, defaults and pass-through.
//!
//! `config.storage.topic`, `config.storage.replication.factor`, and any other `config.storage.<setting>` as a setting of the
//! topic when it is created; `offset.storage.…` and `status.storage.…` likewise, with `….partitions`.

use std::collections::BTreeMap;

use tributary_sdk::Config;

use crate::log::NewTopic;

/// What a topic keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicRole {
    /// Connector and task configs.
    Config,
    /// Source offsets.
    Offset,
    /// States of connectors and tasks, and the topics they use.
    Status,
}

impl TopicRole {
    /// `config.storage.` and so on.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Config => "config.storage.",
            Self::Offset => "offset.storage.",
            Self::Status => "status.storage.",
        }
    }

    /// Kafka Connect's words for what is kept in it.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Config => "connector configurations",
            Self::Offset => "source connector offsets",
            Self::Status => "connector and task statuses",
        }
    }

    /// The property that names the topic.
    pub fn property(self) -> String {
        format!("{}topic", self.prefix())
    }
}

/// One of the topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopic {
    /// What it keeps.
    pub role: TopicRole,
    /// Its name.
    pub name: String,
    /// Partitions that it is created with; -1: the cluster's default.
    pub partitions: i32,
    /// Replicas that it is created with; -1: the cluster's default.
    pub replication_factor: i16,
    /// Other settings that it is created with.
    pub settings: BTreeMap<String, String>,
}

impl InternalTopic {
    /// The topic to create: always compacted, whatever the settings say.
    pub fn to_create(&self) -> NewTopic {
        let mut settings = self.settings.clone();
        settings.insert("cleanup.policy".to_owned(), "compact".to_owned());
        NewTopic {
            name: self.name.clone(),
            partitions: (self.partitions > 0).then_some(self.partitions),
            replication_factor: (self.replication_factor > 0).then_some(self.replication_factor),
            settings,
        }
    }

    /// The same settings for a connector's own offsets topic (`offsets.storage.topic`).
    pub fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }
}

/// The group and its three topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// `group.id`.
    pub group: String,
    /// `config.storage.…`: always one partition.
    pub config: InternalTopic,
    /// `offset.storage.…`: 25 partitions if nothing is said.
    pub offset: InternalTopic,
    /// `status.storage.…`: 5 partitions if nothing is said.
    pub status: InternalTopic,
    /// What is odd about the properties, for the log.
    pub warnings: Vec<String>,
}

impl StorageSettings {
    /// Reads the worker's properties; the error lists everything that is wrong.
    pub fn new(properties: &Config) -> Result<Self, Vec<String>> {
        let mut reading = Reading { properties, errors: Vec::new(), warnings: Vec::new() };
        let group = reading.required("group.id");
        let config = reading.topic(TopicRole::Config, 1);
        let offset = reading.topic(TopicRole::Offset, 25);
        let status = reading.topic(TopicRole::Status, 5);
        let names = [&config.name, &offset.name, &status.name];
        if reading.errors.is_empty() && (names[0] == names[1] || names[1] == names[2] || names[0] == names[2]) {
            reading.errors.push(format!(
                "config.storage.topic, offset.storage.topic and status.storage.topic have to be three topics, but are {}, {} and {}",
                names[0], names[1], names[2]
            ));
        }
        let Reading { errors, warnings, .. } = reading;
        if errors.is_empty() { Ok(Self { group, config, offset, status, warnings }) } else { Err(errors) }
    }

    /// The `transactional.id` with which the leader writes configs, as Kafka Connect forms it.
    pub fn leader_transactional_id(&self) -> String {
        format!("connect-cluster-{}", self.group)
    }
}

struct Reading<'a> {
    properties: &'a Config,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Reading<'_> {
    fn required(&mut self, key: &str) -> String {
        let value = self.properties.get(key).unwrap_or_default().trim().to_owned();
        if value.is_empty() {
            self.errors.push(format!("Missing required configuration \"{key}\" which has no default value"));
        }
        value
    }

    fn number(&mut self, key: &str, default: i64, max: i64) -> i64 {
        let Some(text) = self.properties.get(key).map(str::trim) else { return default };
        match text.parse::<i64>() {
            Ok(-1) => -1,
            Ok(number) if (1..=max).contains(&number) => number,
            _ => {
                self.errors.push(format!(
                    "invalid value {text} for configuration {key}: write a number from 1 to {max}, or -1 for the Kafka cluster's default"
                ));
                default
            }
        }
    }

    fn topic(&mut self, role: TopicRole, default_partitions: i64) -> InternalTopic {
        let prefix = role.prefix();
        let name = self.required(&role.property());
        let replication = self.number(&format!("{prefix}replication.factor"), 3, i64::from(i16::MAX));
        let mut settings = self.properties.with_prefix(prefix).0;
        settings.remove("topic");
        settings.remove("replication.factor");
        let partitions = settings.remove("partitions");
        let partitions = match (role, partitions) {
            (TopicRole::Config, Some(given)) => {
                self.warnings.push(format!(
                    "{prefix}partitions={given} has no effect: the config topic always has one partition"
                ));
                1
            }
            (TopicRole::Config, None) => 1,
            _ => self.number(&format!("{prefix}partitions"), default_partitions, i64::from(i32::MAX)),
        };
        if let Some(policy) = settings.remove("cleanup.policy") {
            self.warnings
                .push(format!("{prefix}cleanup.policy={policy} has no effect: internal topics are always compacted"));
        }
        // Kafka Connect's standalone mode has a key of this prefix.
        settings.remove("file.filename");
        InternalTopic {
            role,
            name,
            partitions: i32::try_from(partitions).unwrap_or(-1),
            replication_factor: i16::try_from(replication).unwrap_or(-1),
            settings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &[(&str, &str)] = &[
        ("group.id", "g"),
        ("config.storage.topic", "c"),
        ("offset.storage.topic", "o"),
        ("status.storage.topic", "s"),
    ];

    fn settings(more: &[(&str, &str)]) -> Result<StorageSettings, Vec<String>> {
        StorageSettings::new(&LEAST.iter().chain(more).copied().collect())
    }

    #[test]
    fn defaults_are_connects() {
        let settings = settings(&[]).unwrap();
        let shape = |topic: &InternalTopic| (topic.partitions, topic.replication_factor);
        assert_eq!(shape(&settings.config), (1, 3));
        assert_eq!(shape(&settings.offset), (25, 3));
        assert_eq!(shape(&settings.status), (5, 3));
        assert_eq!(settings.leader_transactional_id(), "connect-cluster-g");
        assert_eq!(settings.warnings, [""; 0]);
    }

    #[test]
    fn other_settings_reach_the_topic_but_not_its_cleanup_policy() {
        let settings = settings(&[
            ("config.storage.partitions", "4"),
            ("config.storage.min.insync.replicas", "2"),
            ("config.storage.cleanup.policy", "delete"),
            ("offset.storage.partitions", "-1"),
            ("offset.storage.replication.factor", "1"),
            ("offset.storage.file.filename", "/tmp/x"),
        ])
        .unwrap();
        let create = settings.config.to_create();
        assert_eq!(create.partitions, Some(1));
        assert_eq!(create.settings["min.insync.replicas"], "2");
        assert_eq!(create.settings["cleanup.policy"], "compact");
        assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
        let create = settings.offset.to_create();
        assert_eq!((create.partitions, create.replication_factor, create.settings.len()), (None, Some(1), 1));
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let errors = settings(&[
            ("group.id", " "),
            ("status.storage.partitions", "0"),
            ("config.storage.replication.factor", "many"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(settings(&[("status.storage.topic", "c")]).unwrap_err()[0].contains("three topics"));
    }
}
