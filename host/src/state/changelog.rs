//! The changelog: every write of state as a record of a compacted topic.
//!
//! `<group.id>-<connector>-changelog`, one partition for each shard. Records are written in the transaction that commits the offsets
//! of the input they come from. The key is laid out as [`super::key`] says. A null value (a tombstone) removes the entry. Others are:
//!
//! | Bytes | |
//! |---|---|
//! | 1 | 0: no time; 1: a time follows |
//! | 0 or 8 | when something is to happen with the entry (a window closes, a key expires): event time in milliseconds, big-endian |
//! | n | the transform's own bytes, which begin with their own version where they have several |

use std::collections::BTreeMap;
use std::time::Duration;

use super::StateError;

/// How long a tombstone can be read at least.
pub(super) const TOMBSTONES: Duration = Duration::from_secs(24 * 3600);

/// No time.
pub(super) const NEVER: i64 = i64::MAX;

/// Appends the record's value.
pub(super) fn write_value(due: i64, payload: &[u8], out: &mut Vec<u8>) {
    if due == NEVER {
        out.push(0);
    } else {
        out.push(1);
        out.extend_from_slice(&due.to_be_bytes());
    }
    out.extend_from_slice(payload);
}

/// Time ([`NEVER`]: none) and the transform's bytes.
pub(super) fn read_value(value: &[u8]) -> Result<(i64, &[u8]), StateError> {
    match value.split_first() {
        Some((0, payload)) => Ok((NEVER, payload)),
        Some((1, rest)) if rest.len() >= 8 => {
            let (due, payload) = rest.split_at(8);
            Ok((i64::from_be_bytes(due.try_into().expect("eight bytes")), payload))
        }
        _ => Err(StateError::damaged("a value that this version cannot read")),
    }
}

/// The changelog topic's name.
pub fn topic(group_id: &str, connector: &str) -> String {
    format!("{group_id}-{connector}-changelog")
}

/// The name of a connector's repartition topic, counted from 1 on.
pub fn repartition_topic(group_id: &str, connector: &str, number: usize) -> String {
    format!("{group_id}-{connector}-{number}-repartition")
}

/// Whether a topic is one of a connector's repartition topics.
pub fn is_repartition_topic(group_id: &str, connector: &str, topic: &str) -> bool {
    let number =
        topic.strip_prefix(&format!("{group_id}-{connector}-")).and_then(|rest| rest.strip_suffix("-repartition"));
    number.is_some_and(|number| number.parse::<usize>().is_ok_and(|number| number > 0))
}

/// The name of the topic between a connector's stateful transforms and its sink, where that keeps its own offsets.
pub fn outbox_topic(group_id: &str, connector: &str) -> String {
    format!("{group_id}-{connector}-sink-outbox")
}

/// By what such a sink knows the topic. It keeps offsets under this name, which are not to be those of an earlier topic of the same name.
pub fn outbox_label(topic: &str, identity: Option<&str>) -> String {
    identity.map_or_else(|| topic.to_owned(), |id| format!("{topic}@{id}"))
}

/// The settings that the changelog topic is made with, whatever the cluster's defaults are.
pub fn topic_settings() -> BTreeMap<String, String> {
    let settings =
        [("cleanup.policy", "compact".to_owned()), ("delete.retention.ms", TOMBSTONES.as_millis().to_string())];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_outlive_the_files_that_are_trusted() {
        assert_eq!(topic_settings()["delete.retention.ms"], "86400000");
        assert_eq!(topic_settings()["cleanup.policy"], "compact");
    }

    #[test]
    fn values_are_laid_out_as_documented() {
        let mut value = Vec::new();
        write_value(NEVER, b"x", &mut value);
        assert_eq!(value, b"\0x");
        assert_eq!(read_value(&value).unwrap(), (NEVER, b"x".as_slice()));
        value.clear();
        write_value(-2, b"", &mut value);
        assert_eq!(value, b"\x01\xff\xff\xff\xff\xff\xff\xff\xfe");
        assert_eq!(read_value(&value).unwrap(), (-2, b"".as_slice()));
        assert!(read_value(b"").is_err() && read_value(b"\x01\0").is_err() && read_value(b"\x07").is_err());
    }
}
