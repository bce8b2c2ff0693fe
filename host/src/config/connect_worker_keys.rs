//! Keys of Kafka Connect's workers that this worker has no definition of its own for: they are checked as Connect checks
//! them, so that a file that Connect refuses is not half understood here, and known when somebody mistypes one.

use std::sync::LazyLock;

use tributary_sdk::Config;
use tributary_sdk::config_def::{ConfigKey, Importance, Type, Validator};

const TABLE: &str = include_str!("connect_worker_keys.tsv");

static KEYS: LazyLock<Vec<Key>> =
    LazyLock::new(|| TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(Key::read).collect());

struct Key {
    key: ConfigKey,
    check: Check,
}

enum Check {
    /// What the key's type and validator say.
    Definition,
    /// A positive number, or -1 for the cluster's default.
    PositiveOrDefault(&'static str),
}

/// The names of these keys.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.key.name.as_str())
}

/// What is wrong with the values of these keys, in Kafka's words. References are not looked into.
pub(super) fn problems(properties: &Config) -> Vec<String> {
    let set = |key: &&Key| properties.get(&key.key.name).is_some_and(|text| !text.contains("${"));
    KEYS.iter().filter(set).flat_map(|key| key.problems(properties)).collect()
}

impl Key {
    fn read(line: &str) -> Option<Self> {
        let [name, kind, default, check] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let kind = match kind.parse().expect("a type of the table") {
            // Classes are Java's and mean nothing here.
            Type::Class => Type::String,
            kind => kind,
        };
        let mut key = match default.strip_prefix('=') {
            Some(default) => ConfigKey::optional(name, kind, default, Importance::Low, ""),
            None => ConfigKey::nullable(name, kind, Importance::Low, ""),
        };
        let choices = |text: &str| text.split(',').map(str::to_owned).collect();
        let mut rule = Check::Definition;
        if let Some(least) = check.strip_prefix("at least ") {
            key.validator = least.parse().ok().map(|least: f64| Validator::at_least(least));
        } else if let Some(values) = check.strip_prefix("one of ") {
            key.validator = Some(Validator::OneOf(choices(values)));
        } else if let Some(values) = check.strip_prefix("any case of ") {
            key.validator = Some(Validator::OneOfIgnoreCase(choices(values)));
        } else if check == "factor" {
            rule = Check::PositiveOrDefault(
                "Replication factor must be positive and not larger than the number of brokers in the Kafka cluster, or -1 to use the broker's default",
            );
        } else if check == "partitions" {
            rule = Check::PositiveOrDefault("Number of partitions must be positive, or -1 to use the broker's default");
        }
        Some(Self { key, check: rule })
    }

    fn problems(&self, properties: &Config) -> Vec<String> {
        let name = &self.key.name;
        let checked = self.key.check(properties, name);
        let number = checked.value.as_deref().and_then(|value| value.parse::<i64>().ok());
        match (&self.check, number) {
            (Check::PositiveOrDefault(what), Some(number)) if number < 1 && number != -1 => {
                vec![format!("Invalid value {number} for configuration {name}: {what}")]
            }
            // The null that a bad value leaves has a message of its own in Connect's validation, not at its start.
            _ => checked.errors.into_iter().take(1).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_and_checked_as_in_connect() {
        assert_eq!(names().count(), TABLE.lines().filter(|line| !line.starts_with('#')).count());
        for (key, value, error) in [
            (
                "session.timeout.ms",
                "soon",
                "Invalid value soon for configuration session.timeout.ms: Not a number of type INT",
            ),
            ("retry.backoff.ms", "-1", "Invalid value -1 for configuration retry.backoff.ms: Value must be at least 0"),
            (
                "security.protocol",
                "TLS",
                "Invalid value TLS for configuration security.protocol: String must be one of: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
            ),
            (
                "exactly.once.source.support",
                "on",
                "Invalid value on for configuration exactly.once.source.support: String must be one of: disabled, preparing, enabled",
            ),
            (
                "offset.storage.partitions",
                "0",
                "Invalid value 0 for configuration offset.storage.partitions: Number of partitions must be positive, or -1 to use the broker's default",
            ),
            (
                "status.storage.replication.factor",
                "three",
                "Invalid value three for configuration status.storage.replication.factor: Not a number of type SHORT",
            ),
        ] {
            assert_eq!(problems(&[(key, value)].into_iter().collect()), [error]);
        }
        let right = [
            ("offset.storage.partitions", "-1"),
            ("connect.protocol", "COMPATIBLE"),
            ("ssl.key.password", "${file:/x:y}"),
            ("plugin.discovery", "only_scan"),
        ];
        assert_eq!(problems(&right.into_iter().collect()), [""; 0]);
    }
}
