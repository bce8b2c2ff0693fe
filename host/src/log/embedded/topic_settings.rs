//! Topic settings that the embedded log heeds, and their defaults.
//!
//! Others of Kafka's are accepted, kept and shown, without effect, so that a config written for a cluster
//! also works here.

use std::collections::BTreeMap;

use super::super::LogError;

/// Heeded settings with Kafka's defaults.
const DEFAULTS: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("delete.retention.ms", "86400000"),
    ("max.message.bytes", "1048588"),
    ("message.timestamp.type", "CreateTime"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
];

pub(super) fn default_of(name: &str) -> Option<&'static str> {
    DEFAULTS.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

/// All settings of a topic: what was set, over the defaults.
pub(super) fn described(set: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = DEFAULTS.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    all.extend(set.iter().map(|(n, v)| (n.clone(), v.clone())));
    all
}

/// Refuses values that make no sense for settings that are heeded.
pub(super) fn check(topic: &str, set: &BTreeMap<String, String>) -> Result<(), LogError> {
    for (name, value) in set {
        let wanted = match name.as_str() {
            "cleanup.policy" => {
                value.split(',').any(|p| !matches!(p.trim(), "delete" | "compact")).then_some("delete, compact or both")
            }
            "retention.ms" | "retention.bytes" | "delete.retention.ms" | "max.message.bytes" => {
                value.parse::<i64>().is_err().then_some("a whole number")
            }
            "min.cleanable.dirty.ratio" => {
                (!value.parse::<f64>().is_ok_and(|v| (0.0..=1.0).contains(&v))).then_some("a number from 0 to 1")
            }
            _ => None,
        };
        if let Some(wanted) = wanted {
            return Err(LogError {
                message: format!("creating topic {topic}: setting {name}={value}: {wanted} is wanted"),
                retriable: false,
                code: Some("INVALID_CONFIG"),
            });
        }
    }
    Ok(())
}

/// Kafka's rule for topic names.
pub(super) fn check_name(topic: &str) -> Result<(), LogError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || topic == "." || topic == ".." || !topic.chars().all(legal) {
        return Err(LogError {
            message: format!(
                "topic name {topic:?}: 1 to 249 of the characters a–z, A–Z, 0–9, '.', '_' and '-' are wanted"
            ),
            retriable: false,
            code: Some("TOPIC_EXCEPTION"),
        });
    }
    Ok(())
}
