//! The log at both ends of every task: topics with partitions, offsets, keys, headers, timestamps.
//!
//! One set of traits, two implementations: [`kafka`](self) through librdkafka, and the embedded log in
//! the worker's SQLite directory (`bootstrap.servers=embedded`). Everything above this module is the
//! same code on both, and one delivery suite runs on both.
//!
//! The unit is the batch: columns of serialized records. Nothing here is called per record, and every
//! call blocks its own thread; none may be made on a tokio worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub mod across;
pub mod commands;
mod deliveries;
pub mod embedded;
pub mod kafka;
mod open;
mod records;
mod run_builder;
mod stand_ins;
mod transactions;

pub use open::{EMBEDDED, attach_log, embedded_file, open_log};
pub use records::{HEADER_FIELDS, LogRecords};
pub use stand_ins::StandIns;
pub use transactions::{GroupMetadata, NextStep, TransactionError, TransactionalProducer, is_fenced};

/// The partition in which Java's default partitioner puts a record with this key.
pub fn murmur2_partition(key: &[u8], partitions: i32) -> i32 {
    embedded::partitioner::by_key(key, partitions)
}

/// What opens producers, consumers and admin clients on one cluster.
pub trait Log: Send + Sync {
    /// The cluster's id, as REST `/` shows it. Errors with the operation's name when it cannot be had in `timeout`.
    fn cluster_id(&self, timeout: Duration) -> Result<String, LogError>;
    /// A producer with these client settings (Kafka's names); settings that mean nothing here are ignored.
    fn producer(&self, settings: &ClientSettings) -> Result<Box<dyn LogProducer>, LogError>;
    /// A producer of transactions with this `transactional.id`. An error where the log has none.
    fn transactional_producer(
        &self,
        transactional_id: &str,
        _settings: &ClientSettings,
    ) -> Result<Box<dyn TransactionalProducer>, LogError> {
        Err(LogError::fatal(format!("making the producer {transactional_id}: this log has no transactions")))
    }
    /// Fences transactional ids: what their producers have open is aborted, and they commit nothing more, even if they come
    /// back after years. Waits until that is so.
    fn fence_producers(&self, _transactional_ids: &[String], _timeout: Duration) -> Result<(), LogError> {
        Err(LogError::fatal("fencing producers: this log has no transactions"))
    }
    /// A member of the consumer group `group.id` of the settings, subscribed to `subscription`.
    fn consumer(
        &self,
        settings: &ClientSettings,
        subscription: &Subscription,
    ) -> Result<Box<dyn LogConsumer>, LogError>;
    /// The same for a sink task, which may have nothing to read for long: where the log can, it costs next to nothing then.
    fn sink_consumer(
        &self,
        settings: &ClientSettings,
        subscription: &Subscription,
        _parking: ParkingSettings,
    ) -> Result<Box<dyn LogConsumer>, LogError> {
        self.consumer(settings, subscription)
    }
    /// A reader of explicitly assigned partitions outside any group's assignment. With `enable.partition.eof=true` among the
    /// settings it tells of ends ([`ConsumerEvent::End`]). Offset -2 is the first one there is.
    fn reader(
        &self,
        settings: &ClientSettings,
        start: &[(TopicPartition, i64)],
    ) -> Result<Box<dyn LogConsumer>, LogError>;
    /// The admin client.
    fn admin(&self) -> &dyn LogAdmin;
    /// An admin client with settings of its own on top of the cluster's; `None` where settings make no difference.
    fn admin_with(&self, _settings: &ClientSettings) -> Option<Box<dyn LogAdmin>> {
        None
    }
    /// Whether consumers should carry a `group.instance.id`: a member that crashed and comes back then has its partitions at
    /// once, and one that is gone for good has to be taken out with [`Log::remove_static_members`].
    fn static_membership(&self) -> bool {
        false
    }
    /// Who reads which partitions in a consumer group; `None` while that is being settled, or where the log does not tell.
    fn assigned_members(&self, _group: &str, _timeout: Duration) -> Result<Option<Vec<AssignedMember>>, LogError> {
        Ok(None)
    }
    /// Takes members that are gone for good out of a group, by their `group.instance.id`; fine where they are not in.
    fn remove_static_members(&self, _group: &str, _members: &[String], _timeout: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

/// A member of a consumer group, and what it reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssignedMember {
    /// Its `group.instance.id`, if it has one.
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Its partitions.
    pub partitions: Vec<TopicPartition>,
}

/// When a consumer that has nothing to read gives its client up for the time being.
#[derive(Clone)]
pub struct ParkingSettings {
    /// How long nothing has to come.
    pub after: Duration,
    /// Told when it is parked, and when it is no longer.
    pub parked: Arc<dyn Fn(bool) + Send + Sync>,
}

/// Kafka client settings by Kafka's names, after overrides.
pub type ClientSettings = BTreeMap<String, String>;

/// Which topics a consumer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// These topics by name.
    Topics(Vec<String>),
    /// Every topic whose whole name matches this regular expression (Java's `topics.regex`), now or later.
    Pattern(String),
}

/// A topic and a partition number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// As plugins know it, with an offset.
    pub fn at(&self, offset: Option<i64>) -> tributary_sdk::sink::TopicPartitionOffset {
        tributary_sdk::sink::TopicPartitionOffset { topic: self.topic.clone(), partition: self.partition, offset }
    }
}

impl From<&TopicPartition> for tributary_sdk::sink::TopicPartition {
    fn from(partition: &TopicPartition) -> Self {
        Self { topic: partition.topic.clone(), partition: partition.partition }
    }
}

/// What a group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Which partition.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// What was committed beside it; mostly nothing.
    pub metadata: Arc<str>,
}

/// Why a commit of offsets with metadata was not answered with a yes.
#[derive(Debug, Clone)]
pub enum CommitError {
    /// Nothing of it is in the group or will be. `retriable`: a new member of the group may commit.
    Refused(LogError),
    /// It may be in the group, or be there later, as long as this membership lasts: once a new consumer is a member in this one's place, it is
    /// there or never will be.
    InDoubt(LogError),
}

/// One run of records read from one topic-partition.
#[derive(Debug, Clone)]
pub struct FetchedBatch {
    /// Where the records come from.
    pub topic_partition: TopicPartition,
    /// The records; `records.timestamps` is always present.
    pub records: LogRecords,
    /// The offset of each record, increasing, not always contiguous (compaction, transactions).
    pub offsets: arrow_array::Int64Array,
}

/// What [`LogConsumer::poll`] returns.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// A run of records.
    Batch(Box<FetchedBatch>),
    /// Partitions given to this member. They deliver nothing until [`LogConsumer::assign`] is called.
    Assigned(Vec<TopicPartition>),
    /// Partitions about to be taken: flush, commit, then call [`LogConsumer::unassign`]; until then they stay this member's.
    Revoked(Vec<TopicPartition>),
    /// Partitions already taken (session expired): nothing may be committed for them. Call [`LogConsumer::unassign`].
    Lost(Vec<TopicPartition>),
    /// Everything before this offset of the partition was delivered, and nothing (committed) comes after it at present.
    End(TopicPartition, i64),
}

/// Ends the waiting of a [`LogConsumer::poll`], now or the next one; from any thread.
pub type Waker = std::sync::Arc<dyn Fn() + Send + Sync>;

/// Waits for a consumer in place of a thread.
pub trait Sleeper: Send + Sync {
    /// Calls `wake` once, as soon as there is something to poll for or the consumer is woken, on any thread. Gives it back, to
    /// be called at once, where that is so already.
    fn sleep(&self, wake: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>>;
}

/// A member of a consumer group, or a reader of fixed partitions.
pub trait LogConsumer: Send {
    /// Waits up to `timeout` for events; `max_records` and `max_bytes` bound what is returned by one call.
    /// Retriable errors (broker away) are retried inside and only logged; what is returned is fatal to the task or the configuration.
    fn poll(&mut self, max_records: usize, max_bytes: usize, timeout: Duration)
    -> Result<Vec<ConsumerEvent>, LogError>;
    /// Accepts partitions of an `Assigned` event. A start offset of `None` means the committed one, or the reset policy.
    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError>;
    /// Gives up partitions of a `Revoked` or `Lost` event.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError>;
    /// Stops delivery for these partitions, without losing their place.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError>;
    /// Resumes what `pause` stopped.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError>;
    /// The next record to be delivered for the partition is the one at `offset`.
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), LogError>;
    /// Commits next-to-read offsets for the group and waits for the answer.
    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError>;
    /// The group's committed next-to-read offsets.
    fn committed(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError>;
    /// Commits offsets with metadata, as the member that was given its partitions: a group that has given them to somebody else since does not
    /// take them, whatever this client has become in the meantime. Waits for the answer.
    fn commit_with(&mut self, _offsets: &[CommittedOffset]) -> Result<(), CommitError> {
        Err(CommitError::Refused(LogError::fatal("committing offsets with metadata: this log cannot")))
    }
    /// What the group has committed of these partitions, with metadata; those without an offset are left out.
    fn committed_with(
        &mut self,
        _partitions: &[TopicPartition],
        _timeout: Duration,
    ) -> Result<Vec<CommittedOffset>, LogError> {
        Err(LogError::fatal("reading committed offsets with metadata: this log cannot"))
    }
    /// Records between this member's position and the end of its partitions, where known; for lag metrics.
    fn lag(&mut self) -> Vec<(TopicPartition, i64)>;
    /// This member's place in its group, for offsets that are committed in a transaction.
    fn group_metadata(&mut self) -> Result<GroupMetadata, LogError> {
        Err(LogError::fatal("committing offsets in a transaction: this log has no transactions"))
    }
    /// Under which name the group keeps the offset of a partition: another than its own where it is in another cluster than the topics.
    fn kept_as(&self, partition: &TopicPartition) -> TopicPartition {
        partition.clone()
    }
    /// A transaction with these next-to-read offsets of the group is committed.
    fn committed_in_transaction(&mut self, _offsets: &[(TopicPartition, i64)]) {}
    /// What ends a `poll` that waits. `None`: this log's consumers have to be polled often by those who wait for something else too.
    fn waker(&self) -> Option<Waker> {
        None
    }
    /// While nothing comes and `poll` would do nothing but wait: who tells when that is over, so that no thread has to wait.
    fn sleeper(&self) -> Option<Arc<dyn Sleeper>> {
        None
    }
    /// Leaves the group (or stays until its session ends, for static members) and frees the client, waiting at most `timeout`.
    fn close(self: Box<Self>, timeout: Duration) -> Result<(), LogError>;
}

/// What became of one [`LogProducer::send`].
#[derive(Debug)]
pub struct Completion {
    /// The token given to `send`.
    pub token: u64,
    /// Rows that were refused for good, with their reasons; empty when all were acknowledged.
    pub failed: Vec<(usize, LogError)>,
    /// Partition and offset of the last acknowledged row, where the log tells.
    pub last: Option<(i32, i64)>,
}

/// Writes records. `send` hands over, `poll` reports; a send is complete when every row was acknowledged by `acks` replicas, or refused for good.
pub trait LogProducer: Send {
    /// Hands the records over, in row order. Waits while the client's buffers are full, at most `timeout`;
    /// returns the number of rows taken, so that the caller can go on with the rest (same token) after a poll.
    fn send(
        &mut self,
        topic: &str,
        records: &LogRecords,
        from_row: usize,
        token: u64,
        timeout: Duration,
    ) -> Result<usize, LogError>;
    /// Says that no further row of `token` follows, so that it can complete.
    fn finish(&mut self, token: u64);
    /// Calls `waker` from now on, from any thread, when there may be completions to poll; a log that cannot tell calls nobody.
    fn set_waker(&mut self, _waker: Waker) {}
    /// Collects completions, waiting up to `timeout` for the first.
    fn poll(&mut self, timeout: Duration) -> Result<Vec<Completion>, LogError>;
    /// Rows handed over and not yet acknowledged.
    fn in_flight(&self) -> usize;
    /// Waits until nothing is in flight, or `timeout` passes (`Err` names how many rows are unfinished). Completions are still collected with `poll`.
    fn flush(&mut self, timeout: Duration) -> Result<(), LogError>;
    /// Drops what was not sent and frees the client, waiting at most `timeout`.
    fn close(self: Box<Self>, timeout: Duration) -> Result<(), LogError>;
}

/// A topic to create.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Topic name.
    pub name: String,
    /// Partitions; `None` is the cluster's default.
    pub partitions: Option<i32>,
    /// Replication factor; `None` is the cluster's default.
    pub replication_factor: Option<i16>,
    /// Topic settings such as `cleanup.policy`.
    pub settings: BTreeMap<String, String>,
}

/// A topic as described by the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Topic name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
}

/// What tells a topic from an earlier one of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicIdentity {
    /// The cluster's id for it; `None` where the log has none (brokers before Kafka 2.8).
    pub id: Option<String>,
    /// Number of partitions.
    pub partitions: i32,
}

/// Administration of topics and groups.
pub trait LogAdmin: Send + Sync {
    /// All topics, internal ones included.
    fn topics(&self, timeout: Duration) -> Result<Vec<TopicDescription>, LogError>;
    /// One topic, or `None`.
    fn topic(&self, name: &str, timeout: Duration) -> Result<Option<TopicDescription>, LogError>;
    /// Creates a topic; `Ok(false)` when it was already there.
    fn create_topic(&self, topic: &NewTopic, timeout: Duration) -> Result<bool, LogError>;
    /// Adds partitions to a topic, so that it has so many.
    fn create_partitions(&self, name: &str, _partitions: i32, _timeout: Duration) -> Result<(), LogError> {
        Err(LogError::fatal(format!("adding partitions to topic {name}: this log cannot")))
    }
    /// Deletes a topic and its records.
    fn delete_topic(&self, name: &str, timeout: Duration) -> Result<(), LogError>;
    /// Deletes the records before these offsets, where the log can; they are then its partitions' first ones.
    fn delete_records(&self, _before: &[(TopicPartition, i64)], _timeout: Duration) -> Result<(), LogError> {
        Ok(())
    }
    /// A topic's settings, such as `cleanup.policy`.
    fn topic_settings(&self, name: &str, timeout: Duration) -> Result<BTreeMap<String, String>, LogError>;
    /// First and next offset of a partition (`read_uncommitted`).
    fn watermarks(&self, partition: &TopicPartition, timeout: Duration) -> Result<(i64, i64), LogError>;
    /// Next offsets of partitions (`read_uncommitted`).
    fn end_offsets(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        partitions.iter().map(|partition| Ok((partition.clone(), self.watermarks(partition, timeout)?.1))).collect()
    }
    /// Which topic it is that has this name now, or `None`. Asking does not create it.
    fn topic_identity(&self, name: &str, timeout: Duration) -> Result<Option<TopicIdentity>, LogError> {
        let topic = self.topic(name, timeout)?;
        Ok(topic.map(|topic| TopicIdentity { id: None, partitions: topic.partitions }))
    }
    /// The same of several topics at once, by name; those that do not exist are left out.
    fn topic_identities(&self, names: &[&str], timeout: Duration) -> Result<BTreeMap<String, TopicIdentity>, LogError> {
        let each =
            names.iter().map(|name| Ok(self.topic_identity(name, timeout)?.map(|known| ((*name).to_owned(), known))));
        each.filter_map(Result::transpose).collect()
    }
    /// `host:port` of the cluster's brokers, as they call themselves where this client is connected; none where the log has no brokers.
    fn brokers(&self, _timeout: Duration) -> Result<BTreeSet<String>, LogError> {
        Ok(BTreeSet::new())
    }
    /// Bytes that a partition's records take; `None` where the cluster does not tell.
    fn size(&self, partition: &TopicPartition, timeout: Duration) -> Result<Option<u64>, LogError>;
    /// The first offset whose record is from `timestamp` (milliseconds) or later; `None` when there is none.
    fn offset_at(&self, partition: &TopicPartition, timestamp: i64, timeout: Duration)
    -> Result<Option<i64>, LogError>;
    /// What a group has committed, with metadata.
    fn group_commits(&self, group: &str, timeout: Duration) -> Result<Vec<CommittedOffset>, LogError>;
    /// A group's committed offsets.
    fn group_offsets(&self, group: &str, timeout: Duration) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        let commits = self.group_commits(group, timeout)?;
        Ok(commits.into_iter().map(|commit| (commit.partition, commit.offset)).collect())
    }
    /// Sets (`Some`) or removes (`None`) committed offsets of a group without members.
    fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, Option<i64>)],
        timeout: Duration,
    ) -> Result<(), LogError>;
    /// Removes a group without members; fine when there is none.
    fn delete_group(&self, group: &str, timeout: Duration) -> Result<(), LogError>;
}

/// What went wrong on the log. Messages say what, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LogError {
    /// Lower-case; names the operation, topic, partition, broker.
    pub message: String,
    /// The same call may succeed later.
    pub retriable: bool,
    /// Kafka's own error name (`UNKNOWN_TOPIC_OR_PART`, `MSG_SIZE_TOO_LARGE`, …) where there is one.
    pub code: Option<&'static str>,
}

impl LogError {
    /// An error that no retry mends.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), retriable: false, code: None }
    }
    /// An error that may pass by itself.
    pub fn retriable(message: impl Into<String>) -> Self {
        Self { message: message.into(), retriable: true, code: None }
    }
}

/// Whether a name matches an expression. One that was given up after too many tries does not, and a warning says so.
pub(crate) fn name_matches(pattern: &tributary_sdk::Pattern, name: &str) -> bool {
    pattern.is_match(name).unwrap_or_else(|error| {
        tracing::warn!("{name}: {error}");
        false
    })
}
