//! Under which subject a schema is registered (`key.subject.name.strategy`, `value.subject.name.strategy`).

use tributary_sdk::{Error, Result};

/// Confluent's strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubjectStrategy {
    /// `<topic>-key` or `<topic>-value`.
    #[default]
    Topic,
    /// The full name of the record.
    Record,
    /// `<topic>-<full name of the record>`.
    TopicRecord,
}

/// The classes that users write, without the package.
const NAMES: [(&str, SubjectStrategy); 3] = [
    ("TopicNameStrategy", SubjectStrategy::Topic),
    ("RecordNameStrategy", SubjectStrategy::Record),
    ("TopicRecordNameStrategy", SubjectStrategy::TopicRecord),
];

/// The package of the classes.
pub const PACKAGE: &str = "io.confluent.kafka.serializers.subject.";

impl SubjectStrategy {
    /// Of a class name, with or without its package.
    pub fn parse(class: &str, key: &str) -> Result<Self> {
        let simple = class.trim().strip_prefix(PACKAGE).unwrap_or(class.trim());
        let found = NAMES.iter().find(|(name, _)| *name == simple);
        found.map(|(_, strategy)| *strategy).ok_or_else(|| {
            let known = NAMES.map(|(name, _)| format!("{PACKAGE}{name}")).join(", ");
            Error::failed(format!("Invalid value {class} for configuration {key}: there are {known}"))
        })
    }

    /// The subject of a schema. `record` is its full name, if it has one.
    pub fn subject(self, topic: &str, is_key: bool, record: Option<&str>) -> Result<String, String> {
        let suffix = if is_key { "key" } else { "value" };
        match (self, record) {
            (Self::Topic, _) => Ok(format!("{topic}-{suffix}")),
            (Self::Record, Some(record)) => Ok(record.to_owned()),
            (Self::TopicRecord, Some(record)) => Ok(format!("{topic}-{record}")),
            (_, None) => Err(format!(
                "the {suffix} of topic {topic} is not a record with a name, and {suffix}.subject.name.strategy needs one; \
                 use TopicNameStrategy, or name the schema with the transform SetSchemaMetadata"
            )),
        }
    }
}
