//! `topic.creation.*` of source connectors: groups of settings for the topics that a source makes (KIP-158).
//!
//! The first group that includes and does not exclude a topic counts; `default`, which always exists, has the others. A
//! group without `partitions` or `replication.factor` has those of `default`; -1 is the cluster's own default. Kafka
//! Connect accepts a config with mistakes here and fails the connector; this worker refuses the config, in the same words.

use std::collections::BTreeMap;

use crate::log::name_matches;
use tributary_sdk::Config;
use tributary_sdk::Pattern;

use crate::log::NewTopic;

const PREFIX: &str = "topic.creation.";
const DEFAULT: &str = "default";
const INCLUDE: &str = "include";
const EXCLUDE: &str = "exclude";
const PARTITIONS: &str = "partitions";
const REPLICATION_FACTOR: &str = "replication.factor";

/// The keys that a group has beside settings of topics.
pub const GROUP_KEYS: [&str; 4] = [INCLUDE, EXCLUDE, REPLICATION_FACTOR, PARTITIONS];

/// The groups of a connector, `default` last.
#[derive(Debug, Clone)]
pub struct TopicCreation(Vec<Group>);

#[derive(Debug, Clone)]
struct Group {
    name: String,
    include: Pattern,
    exclude: Pattern,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    settings: BTreeMap<String, String>,
}

impl TopicCreation {
    /// The groups of a source's config; `None` if it has no key of topic creation. Otherwise what is wrong: key and
    /// message.
    pub fn new(config: &Config) -> Result<Option<Self>, Vec<(String, String)>> {
        if !config.0.keys().any(|key| key.starts_with(PREFIX)) {
            return Ok(None);
        }
        let mut reader = Reader { config, errors: Vec::new() };
        let replication_factor = reader.replication_factor(DEFAULT, None);
        let partitions = reader.partitions(DEFAULT, None);
        let names = config.list("topic.creation.groups");
        let mut groups: Vec<Group> = Vec::new();
        for name in names {
            if name != DEFAULT && !groups.iter().any(|group| group.name == name) {
                groups.push(Group {
                    name: name.to_owned(),
                    include: reader.patterns(name, INCLUDE),
                    exclude: reader.patterns(name, EXCLUDE),
                    replication_factor: reader.replication_factor(name, Some(replication_factor)),
                    partitions: reader.partitions(name, Some(partitions)),
                    settings: reader.settings(name),
                });
            }
        }
        // What the default group includes or excludes is of no account.
        let settings = reader.settings(DEFAULT);
        let (include, exclude) = (joined(&[".*"]), joined(&[]));
        if let (Ok(include), Ok(exclude)) = (include, exclude) {
            groups.push(Group { name: DEFAULT.to_owned(), include, exclude, partitions, replication_factor, settings });
        }
        if reader.errors.is_empty() { Ok(Some(Self(groups))) } else { Err(reader.errors) }
    }

    /// The topic as its group wants it, and the group's name.
    pub fn new_topic(&self, topic: &str) -> (NewTopic, &str) {
        let matching =
            self.0.iter().find(|group| !name_matches(&group.exclude, topic) && name_matches(&group.include, topic));
        // A name with a line break does not match `.*`, and no topic has one.
        let group = matching.or(self.0.last());
        let name = topic.to_owned();
        match group {
            Some(group) => {
                let (partitions, replication_factor) = (group.partitions, group.replication_factor);
                (NewTopic { name, partitions, replication_factor, settings: group.settings.clone() }, &group.name)
            }
            None => (NewTopic { name, ..NewTopic::default() }, DEFAULT),
        }
    }
}

struct Reader<'a> {
    config: &'a Config,
    errors: Vec<(String, String)>,
}

impl Reader<'_> {
    fn replication_factor(&mut self, group: &str, default: Option<Option<i16>>) -> Option<i16> {
        let what = "Replication factor must be positive and not larger than the number of brokers in the Kafka cluster, or -1 to use the broker's default";
        self.number(group, REPLICATION_FACTOR, "SHORT", what, default)
    }

    fn partitions(&mut self, group: &str, default: Option<Option<i32>>) -> Option<i32> {
        let what = "Number of partitions must be positive, or -1 to use the broker's default";
        self.number(group, PARTITIONS, "INT", what, default)
    }

    /// A positive number, or -1, which becomes `None`.
    fn number<N: std::str::FromStr + Copy + Into<i64>>(
        &mut self,
        group: &str,
        name: &str,
        kind: &str,
        what: &str,
        default: Option<Option<N>>,
    ) -> Option<N> {
        let key = format!("{PREFIX}{group}.{name}");
        let message = match (self.config.get(&key), default) {
            (None, Some(default)) => return default,
            (None, None) => format!("Missing required configuration \"{key}\" which has no default value."),
            (Some(text), _) => match text.trim().parse::<N>() {
                Ok(number) if number.into() >= 1 => return Some(number),
                Ok(number) if number.into() == -1 => return None,
                Ok(_) => format!("Invalid value {text} for configuration {name}: {what}"),
                Err(_) => format!("Invalid value {text} for configuration {key}: Not a number of type {kind}"),
            },
        };
        self.errors.push((key, message));
        None
    }

    fn patterns(&mut self, group: &str, name: &str) -> Pattern {
        let key = format!("{PREFIX}{group}.{name}");
        let items = self.config.list(&key);
        match joined(&items) {
            Ok(regex) => regex,
            Err(error) => {
                let items = items.join(", ");
                let message = format!(
                    "Invalid value [{items}] for configuration {name}: Syntax error in regular expression: {error}"
                );
                self.errors.push((key, message));
                nothing()
            }
        }
    }

    fn settings(&self, group: &str) -> BTreeMap<String, String> {
        let own = self.config.with_prefix(&format!("{PREFIX}{group}."));
        own.0.into_iter().filter(|(key, _)| !GROUP_KEYS.contains(&key.as_str())).collect()
    }
}

/// One expression that matches whole names that any of these matches; none of them: the empty name alone.
fn joined(patterns: &[&str]) -> Result<Pattern, String> {
    Pattern::whole(&patterns.join("|"))
}

fn nothing() -> Pattern {
    Pattern::new("^$").expect("a fixed expression")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creation(pairs: &[(&str, &str)]) -> Result<Option<TopicCreation>, Vec<(String, String)>> {
        let pairs = pairs.iter().map(|(key, value)| (format!("topic.creation.{key}"), *value));
        TopicCreation::new(&pairs.collect())
    }

    #[test]
    fn the_first_matching_group_counts() {
        let creation = creation(&[
            ("groups", "compacted, big,default,big"),
            ("default.partitions", "3"),
            ("default.replication.factor", "-1"),
            ("default.exclude", ".*"),
            ("default.retention.ms", "7"),
            ("compacted.include", "state-.*,table"),
            ("compacted.exclude", "state-tmp"),
            ("compacted.cleanup.policy", "compact"),
            ("big.include", "state-.*"),
            ("big.partitions", "12"),
            ("big.replication.factor", "2"),
        ])
        .unwrap()
        .unwrap();
        for (topic, group, partitions, replication, setting) in [
            ("state-a", "compacted", Some(3), None, Some(("cleanup.policy", "compact"))),
            ("table", "compacted", Some(3), None, Some(("cleanup.policy", "compact"))),
            ("state-tmp", "big", Some(12), Some(2), None),
            ("tables", "default", Some(3), None, Some(("retention.ms", "7"))),
        ] {
            let (new, name) = creation.new_topic(topic);
            assert_eq!((name, new.partitions, new.replication_factor), (group, partitions, replication), "{topic}");
            let settings: Vec<_> = new.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(settings, setting.into_iter().collect::<Vec<_>>(), "{topic}");
        }
    }

    #[test]
    fn mistakes_are_told_in_connects_words() {
        assert!(TopicCreation::new(&[("topic", "t")].into_iter().collect()).unwrap().is_none());
        let errors = |pairs: &[(&str, &str)]| creation(pairs).unwrap_err();
        let missing = errors(&[("groups", "a")]);
        assert_eq!(missing.len(), 2);
        assert_eq!(
            missing[0].1,
            "Missing required configuration \"topic.creation.default.replication.factor\" which has no default value."
        );
        let default = [
            ("default.partitions", "0"),
            ("default.replication.factor", "99999"),
            ("groups", "a"),
            ("a.include", "x("),
        ];
        let wrong = errors(&default);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[1].1.starts_with("Invalid value 0 for configuration partitions: Number of partitions must be"));
        assert!(wrong[0].1.ends_with("Not a number of type SHORT"));
        assert!(
            wrong[2]
                .1
                .starts_with("Invalid value [x(] for configuration include: Syntax error in regular expression: ")
        );
    }
}
