//! Source partition and offset: `{"server": topic.prefix}`, as Debezium has it, and where the task resumes.
//!
//! `lsn_commit` is a place in the log: all transactions that committed before it are out. Inside of a transaction, `transaction` says which
//! one (where its commit stands) and `events` how many of its events are out. While a snapshot is taken, `snapshot` has the tables
//! that are read, and parts of others; `adhoc` has what signals asked for and is not done.
//!
//! Offsets that Debezium stored are understood: their `lsn_commit`, and in the transaction behind it `lsn_proc`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tributary_sdk::{Error, Result, SourcePosition};

use super::adhoc::Request;
use super::snapshot::Parts;

/// An offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offset {
    /// All transactions that committed before it are out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn_commit: Option<u64>,
    /// Of the last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<u64>,
    /// Debezium's, of the last event that is out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn_proc: Option<u64>,
    #[serde(default, rename = "txId", skip_serializing_if = "Option::is_none")]
    pub tx_id: Option<u64>,
    /// Of the last event's commit, in microseconds from 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts_usec: Option<i64>,
    /// The transaction that is partly out, by where its commit stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<u64>,
    /// How many of its events are out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// An object while a snapshot of ours is taken; Debezium has a text or a flag here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Value>,
    /// Debezium's: whether its snapshot is complete.
    #[serde(default, skip_serializing)]
    pub snapshot_completed: Option<bool>,
    /// The same in older versions.
    #[serde(default, skip_serializing)]
    pub last_snapshot_record: Option<bool>,
    /// Snapshots that signals asked for, the one under way first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adhoc: Vec<Request>,
}

/// A snapshot under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotProgress {
    /// What the first attempt saw, and so what had committed before the slot.
    pub begun: String,
    /// Tables that are read.
    pub tables: BTreeSet<String>,
    /// By table that is partly read, what of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, Parts>,
}

/// Where a task begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing is stored.
    Anew,
    /// In the middle of a snapshot.
    Snapshot(Box<Offset>, SnapshotProgress),
    Streaming(Box<Offset>),
}

/// The source partition.
pub(crate) fn partition(prefix: &str) -> Value {
    json!({ "server": prefix })
}

impl Start {
    pub fn of(stored: Option<Offset>) -> Result<Self> {
        let Some(offset) = stored else { return Ok(Self::Anew) };
        match &offset.snapshot {
            Some(Value::Object(progress)) => {
                let progress = serde_json::from_value(Value::Object(progress.clone()))?;
                Ok(Self::Snapshot(Box::new(offset), progress))
            }
            // Debezium's, of a snapshot that did not come to its end.
            Some(_) if offset.snapshot_completed == Some(false) || offset.last_snapshot_record == Some(false) => {
                Ok(Self::Anew)
            }
            _ if offset.lsn_commit.or(offset.lsn_proc).or(offset.lsn).is_none() => Err(Error::failed(
                "the stored offset has neither lsn_commit nor lsn: reset the connector's offsets to begin with a snapshot",
            )),
            _ => Ok(Self::Streaming(Box::new(offset))),
        }
    }
}

impl Offset {
    /// Where the server is to begin.
    pub fn resume_at(&self) -> u64 {
        self.lsn_commit.or(self.lsn_proc).or(self.lsn).unwrap_or_default()
    }

    /// Whether Debezium stored it, inside of a transaction.
    pub fn is_within_of_debezium(&self) -> bool {
        self.transaction.is_none() && self.lsn_proc > self.lsn_commit
    }

    /// Ordered by how much is out.
    pub fn place(&self) -> (u64, u64, u64) {
        (self.lsn_commit.unwrap_or_default(), self.transaction.unwrap_or_default(), self.events.unwrap_or_default())
    }
}

/// Checks offsets that a user wants stored; resets are allowed for anything.
pub(crate) fn check(prefix: Option<&str>, offsets: &[SourcePosition]) -> Result<bool> {
    for SourcePosition { partition: place, offset } in offsets {
        let Some(offset) = offset.as_ref().filter(|offset| !offset.is_null()) else { continue };
        let parsed: Offset = serde_json::from_value(offset.clone()).map_err(|error| {
            Error::failed(format!("the offset {offset} is not one of this connector: {error}; give it as {{\"lsn_commit\": 24023128}}, or null"))
        })?;
        Start::of(Some(parsed))?;
        let server = place.get("server").and_then(Value::as_str);
        if server.is_none() || prefix.is_some_and(|prefix| server != Some(prefix)) {
            return Err(Error::failed(format!(
                "the source partition {place} is not one of this connector: give it as {}",
                partition(prefix.unwrap_or("<topic.prefix>"))
            )));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_debezium_are_understood() {
        let stored = json!({"lsn_proc": 24023160, "messageType": "INSERT", "lsn_commit": 24023128, "lsn": 24023160, "txId": 555, "ts_usec": 1});
        let Start::Streaming(offset) = Start::of(Some(serde_json::from_value(stored).unwrap())).unwrap() else {
            panic!("not streaming")
        };
        assert_eq!((offset.resume_at(), offset.lsn_proc), (24_023_128, Some(24_023_160)));
        let halfway = json!({"snapshot": "INITIAL", "snapshot_completed": false, "lsn": 5});
        assert_eq!(Start::of(Some(serde_json::from_value(halfway).unwrap())).unwrap(), Start::Anew);
        let older = json!({"snapshot": true, "last_snapshot_record": true, "lsn": 5});
        assert!(matches!(Start::of(Some(serde_json::from_value(older).unwrap())).unwrap(), Start::Streaming(_)));
    }

    #[test]
    fn changed_offsets_are_checked() {
        let at = |partition, offset| check(Some("p"), &[SourcePosition { partition, offset: Some(offset) }]);
        assert_eq!(at(partition("p"), json!({"lsn_commit": 5})), Ok(true));
        assert!(at(partition("q"), json!({"lsn_commit": 5})).is_err());
        assert!(at(partition("p"), json!({})).is_err());
        assert!(at(partition("p"), json!({"lsn_commit": "5"})).is_err());
        assert_eq!(check(Some("p"), &[SourcePosition { partition: json!(1), offset: None }]), Ok(true));
    }
}
