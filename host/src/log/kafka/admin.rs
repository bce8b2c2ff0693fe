//! [`LogAdmin`] on one client, made when first asked and kept.
//!
//! Every call asks the cluster anew and waits at most its time-out; nothing is remembered between calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::{
    ClientSettings, CommittedOffset, LogAdmin, LogError, NewTopic, TopicDescription, TopicIdentity, TopicPartition,
};
use super::batch_calls::Client;
use super::settings::{ClientKind, NativeSettings};

pub(super) struct KafkaAdmin {
    settings: ClientSettings,
    client: Mutex<Option<Client>>,
    /// A consumer's, only for reading groups' offsets.
    groups: Mutex<Option<Client>>,
}

impl KafkaAdmin {
    pub(super) fn new(settings: ClientSettings) -> Self {
        Self { settings, client: Mutex::new(None), groups: Mutex::new(None) }
    }

    /// Runs `call` on the client; one call at a time.
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut Client) -> Result<T, LogError>) -> Result<T, LogError> {
        let mut guard = self.client.lock().unwrap_or_else(|e| e.into_inner());
        let client = match &mut *guard {
            Some(client) => client,
            none => {
                // A producer's client: a consumer's would want a group, and look up its coordinator.
                let mut native = NativeSettings::translate(ClientKind::Producer, &self.settings)?;
                // For the ends of partitions, which would leave out what is being written in transactions.
                native.values.insert("isolation.level".into(), "read_uncommitted".into());
                // It writes nothing, and whoever may only read is refused a producer id.
                native.values.insert("enable.idempotence".into(), "false".into());
                none.insert(Client::new(ClientKind::Producer, native, "tributary-admin")?)
            }
        };
        client.serve(Duration::ZERO);
        client.fatal()?;
        let outcome = call(client);
        if outcome.as_ref().is_err_and(lacks_controller) {
            // librdkafka goes on trying to reach the controller that it has heard of last, thousands of times a second, and does
            // not ask who it is now. A new client does.
            *guard = None;
        }
        outcome
    }

    /// Reads a group's offsets. A broker that does not coordinate the group makes librdkafka tell the client's own group of it, which
    /// a producer's client does not have: it would crash. A consumer's has one, and here never joins it.
    fn read_group(&self, group: &str, timeout: Duration) -> Result<Vec<CommittedOffset>, LogError> {
        let mut guard = self.groups.lock().unwrap_or_else(|e| e.into_inner());
        let client = match &mut *guard {
            Some(client) => client,
            none => {
                let mut settings = self.settings.clone();
                settings.insert("group.id".into(), group.to_owned());
                let native = NativeSettings::translate(ClientKind::Consumer, &settings)?;
                none.insert(Client::new(ClientKind::Consumer, native, "tributary-admin-groups")?)
            }
        };
        client.serve(Duration::ZERO);
        client.fatal()?;
        client.group_commits(group, timeout)
    }

    /// First offsets of partitions.
    pub(super) fn start_offsets(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        self.ask(timeout, |client, left| client.start_offsets(partitions, left))
    }

    /// A question asked with [`Self::with`], asked again while the cluster is still settling on who has the answer.
    fn ask<T>(
        &self,
        timeout: Duration,
        mut call: impl FnMut(&mut Client, Duration) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        self.settled(timeout, |left| self.with(|client| call(client, left)))
    }

    /// Asks until the cluster has settled.
    fn settled<T>(
        &self,
        timeout: Duration,
        mut call: impl FnMut(Duration) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match call(left) {
                Err(error) if lacks_controller(&error) && deadline > Instant::now() + PAUSE => {}
                Err(error) if error.code.is_some_and(|code| SETTLING.contains(&code)) && left > PAUSE => {
                    std::thread::sleep(PAUSE);
                    if error.code.is_some_and(|code| OUTDATED.contains(&code)) {
                        // The client would ask with the leaders that it remembers until it looks for them by itself, in minutes.
                        self.with(|client| client.topics(None, left))?;
                    }
                }
                other => return other,
            }
        }
    }
}

/// Whether the request waited for a controller that cannot be reached.
fn lacks_controller(error: &LogError) -> bool {
    error.code == Some("_TIMED_OUT") && error.message.contains("waiting for controller")
}

/// How long a question may take that goes to the controller, so that there is time to ask another one.
fn of_a_try(left: Duration) -> Duration {
    if left > Duration::from_secs(4) { left / 2 } else { left }
}

/// Answers of a cluster in which a topic was just made, a leader moves, or a coordinator loads.
const SETTLING: [&str; 7] = [
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "NOT_LEADER_FOR_PARTITION",
    "LEADER_NOT_AVAILABLE",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR",
];
/// Those of a cluster whose leaders are others than the client thinks.
const OUTDATED: [&str; 4] =
    ["FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH", "NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE"];
const PAUSE: Duration = Duration::from_millis(50);

impl LogAdmin for KafkaAdmin {
    fn topics(&self, timeout: Duration) -> Result<Vec<TopicDescription>, LogError> {
        let mut topics = self.with(|client| client.topics(None, timeout))?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    fn topic(&self, name: &str, timeout: Duration) -> Result<Option<TopicDescription>, LogError> {
        // Not by name: on a broker that creates topics by itself, asking for one creates it.
        Ok(self.topics(timeout)?.into_iter().find(|topic| topic.name == name))
    }

    fn create_topic(&self, topic: &NewTopic, timeout: Duration) -> Result<bool, LogError> {
        self.with(|client| client.create_topic(topic, timeout))
    }

    fn create_partitions(&self, name: &str, partitions: i32, timeout: Duration) -> Result<(), LogError> {
        self.with(|client| client.create_partitions(name, partitions, timeout))
    }

    fn delete_topic(&self, name: &str, timeout: Duration) -> Result<(), LogError> {
        self.with(|client| client.delete_topic(name, timeout))
    }

    fn delete_records(&self, before: &[(TopicPartition, i64)], timeout: Duration) -> Result<(), LogError> {
        if before.is_empty() {
            return Ok(());
        }
        self.ask(timeout, |client, left| client.delete_records(before, left))
    }

    fn topic_settings(&self, name: &str, timeout: Duration) -> Result<BTreeMap<String, String>, LogError> {
        self.ask(timeout, |client, left| client.topic_settings(name, of_a_try(left)))
    }

    fn watermarks(&self, partition: &TopicPartition, timeout: Duration) -> Result<(i64, i64), LogError> {
        self.ask(timeout, |client, left| client.watermarks(partition, left))
    }

    fn end_offsets(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(timeout, |client, left| client.end_offsets(partitions, left))
    }

    fn topic_identity(&self, name: &str, timeout: Duration) -> Result<Option<TopicIdentity>, LogError> {
        Ok(self.topic_identities(&[name], timeout)?.remove(name))
    }

    fn topic_identities(&self, names: &[&str], timeout: Duration) -> Result<BTreeMap<String, TopicIdentity>, LogError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.ask(timeout, |client, left| client.topic_identities(names, of_a_try(left)))
    }

    fn brokers(&self, timeout: Duration) -> Result<BTreeSet<String>, LogError> {
        self.with(|client| client.brokers(timeout))
    }

    /// librdkafka does not ask for the log directories.
    fn size(&self, _partition: &TopicPartition, _timeout: Duration) -> Result<Option<u64>, LogError> {
        Ok(None)
    }

    fn offset_at(
        &self,
        partition: &TopicPartition,
        timestamp: i64,
        timeout: Duration,
    ) -> Result<Option<i64>, LogError> {
        self.ask(timeout, |client, left| client.offset_for_time(partition, timestamp, left))
    }

    fn group_commits(&self, group: &str, timeout: Duration) -> Result<Vec<CommittedOffset>, LogError> {
        let mut commits = self.settled(timeout, |left| self.read_group(group, left))?;
        commits.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(commits)
    }

    fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, Option<i64>)],
        timeout: Duration,
    ) -> Result<(), LogError> {
        let set: Vec<_> = offsets.iter().filter_map(|(p, o)| Some((p.clone(), (*o)?))).collect();
        let removed: Vec<_> = offsets.iter().filter(|(_, o)| o.is_none()).map(|(p, _)| p.clone()).collect();
        self.ask(timeout, |client, left| {
            if !set.is_empty() {
                client.set_group_offsets(group, &set, left)?;
            }
            if removed.is_empty() { Ok(()) } else { client.remove_group_offsets(group, &removed, left) }
        })
    }

    fn delete_group(&self, group: &str, timeout: Duration) -> Result<(), LogError> {
        match self.ask(timeout, |client, left| client.delete_group(group, left)) {
            Err(error) if error.code == Some("GROUP_ID_NOT_FOUND") => Ok(()),
            other => other,
        }
    }
}
