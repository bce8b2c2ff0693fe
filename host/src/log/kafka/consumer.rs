//! [`LogConsumer`] through librdkafka's batch calls.
//!
//! Promises: records of a partition come in offset order and once per position; after `pause`, `seek`,
//! `unassign` or a revocation no record of an older position comes; offsets move only by `commit`.
//! Rebalances are events: nothing is delivered from new partitions before `assign`, and revoked ones stay
//! this member's until `unassign`.
//!
//! Fails: a broker that is away is retried inside and logged at most once in ten seconds. What a person has
//! to mend (no authorization, no offset under `auto.offset.reset=none`, a fenced `group.instance.id`) is
//! returned, after the records that came before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::run_builder::RunBuilder;
use super::super::{
    ClientSettings, CommitError, CommittedOffset, ConsumerEvent, GroupMetadata, LogConsumer, LogError, TopicPartition,
    Waker,
};
use super::batch_calls::{Client, Message, Messages, QueueWaker, Rebalance};
use super::errors;
use super::member_commits::{Member, MemberCommits};
use super::topic_pattern::TopicPattern;

/// Messages taken at a time: their structures stay in the second-level cache while they are copied.
const CHUNK: usize = 512;
/// First guess of a record's size, until some were seen.
const FIRST_GUESS: usize = 1024;
/// A column of bytes has 32-bit offsets.
const MAX_RUN_BYTES: usize = 1 << 30;

pub(super) struct KafkaConsumer {
    client: Client,
    messages: Messages,
    pattern: Option<TopicPattern>,
    /// As whom the last assignment was given, while it holds.
    assigned_as: Option<(String, i32)>,
    /// As whom the last assignment was given, also while it is given up.
    owner: Option<(String, i32)>,
    /// The cluster's and the group's, for commits with metadata.
    settings: ClientSettings,
    commits: Option<MemberCommits>,
    /// The assignment, with where each partition stands: the offset behind what was delivered last, or where it was started or sought to
    /// since; `None`: at the committed offset. librdkafka forgets it with each assignment, until a record of that comes.
    assigned: BTreeMap<TopicPartition, Option<i64>>,
    /// Announced as revoked or lost, and not given up yet.
    revoking: BTreeSet<TopicPartition>,
    paused: BTreeSet<TopicPartition>,
    /// Bytes of a record, lately.
    record_bytes: usize,
    /// Rows and bytes of the last call: room to make for the next one.
    last_run: (usize, usize),
    failed: Option<LogError>,
}

impl KafkaConsumer {
    /// A group member; `pattern` subscribes by itself, otherwise the client is subscribed or assigned by the caller.
    pub(super) fn new(client: Client, pattern: Option<TopicPattern>) -> Self {
        Self {
            client,
            messages: Messages::default(),
            pattern,
            assigned_as: None,
            owner: None,
            settings: ClientSettings::new(),
            commits: None,
            assigned: BTreeMap::new(),
            revoking: BTreeSet::new(),
            paused: BTreeSet::new(),
            record_bytes: FIRST_GUESS,
            last_run: (0, 0),
            failed: None,
        }
    }

    /// The same with the settings that the client was made with, so that it can commit offsets with metadata.
    pub(super) fn with_settings(self, settings: ClientSettings) -> Self {
        Self { settings, ..self }
    }

    /// The member's id and generation, where it is in its group and knows what it was assigned. librdkafka has a generation as soon
    /// as it has joined, before it has an assignment.
    pub(super) fn membership(&mut self) -> Option<(String, i32)> {
        let current = self.client.membership();
        current.filter(|current| self.assigned_as.as_ref() == Some(current))
    }

    /// The next offset to be delivered, where a record was delivered already.
    pub(super) fn positions(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
        self.client.positions(partitions)
    }

    /// What ends a `poll` that waits.
    pub(super) fn queue_waker(&self) -> Arc<QueueWaker> {
        self.client.waker()
    }

    /// Gathers what is ready, waiting up to `wait` for the first record.
    fn fetch(&mut self, limits: Limits, wait: Duration) -> Vec<ConsumerEvent> {
        let mut runs = Runs { expected: self.last_run, ..Runs::default() };
        let mut wait = wait;
        let mut messages = std::mem::take(&mut self.messages);
        loop {
            let room = limits.bytes.saturating_sub(runs.bytes()) / self.record_bytes.max(1);
            // The first call waits for one record only: a call waits until it has all that it asks for.
            let max = if runs.count == 0 { 1 } else { room.min(limits.records - runs.count).clamp(1, CHUNK) };
            self.client.consume(&mut messages, max, wait);
            wait = Duration::ZERO;
            for message in messages.iter() {
                if let Err(error) = runs.push(message) {
                    self.refused(error);
                }
            }
            let short = messages.len() < max;
            self.record_bytes = runs.bytes().checked_div(runs.count).unwrap_or(self.record_bytes).max(1);
            if short || self.failed.is_some() || runs.count >= limits.records || runs.bytes() >= limits.bytes {
                break;
            }
        }
        messages.clear();
        self.messages = messages;
        self.last_run = (runs.count.min(limits.records), runs.bytes());
        let events = runs.finish();
        self.delivered(&events);
        events
    }

    /// Where partitions stand after what is delivered now.
    fn delivered(&mut self, events: &[ConsumerEvent]) {
        for event in events {
            let (partition, next) = match event {
                ConsumerEvent::Batch(batch) => match batch.offsets.values().last() {
                    Some(last) => (&batch.topic_partition, last + 1),
                    None => continue,
                },
                ConsumerEvent::End(partition, end) => (partition, *end),
                _ => continue,
            };
            if let Some(at) = self.assigned.get_mut(partition) {
                *at = Some(next);
            }
        }
    }

    /// An error in a record's place.
    fn refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Code(code, text) if errors::ends_consumer(code) => {
                let error = errors::from_code(code, &format!("consumer {}: {text}", self.client.log().client()));
                self.failed = Some(LogError { retriable: false, ..error });
            }
            Refusal::Code(_, text) => self.client.log().broker_away(&text),
            Refusal::Record(reason) => self.failed = Some(LogError::fatal(reason)),
        }
    }

    /// Rebalances announced since the last call, as events. Empty ones are answered here.
    fn rebalances(&mut self) -> Result<Vec<ConsumerEvent>, LogError> {
        let mut events = Vec::new();
        for rebalance in self.client.take_rebalances() {
            self.assigned_as = match rebalance {
                Rebalance::Assigned(_) => self.client.membership(),
                Rebalance::Revoked(_) | Rebalance::Lost(_) => None,
            };
            if let Rebalance::Assigned(_) = rebalance {
                self.owner = self.assigned_as.clone();
            }
            match rebalance {
                Rebalance::Assigned(partitions) if partitions.is_empty() => self.client.assign(Some(&[]))?,
                Rebalance::Assigned(partitions) => events.push(ConsumerEvent::Assigned(partitions)),
                Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) if partitions.is_empty() => {
                    self.client.assign(None)?
                }
                Rebalance::Revoked(partitions) => {
                    self.revoking.extend(partitions.iter().cloned());
                    events.push(ConsumerEvent::Revoked(partitions));
                }
                Rebalance::Lost(partitions) => {
                    self.revoking.extend(partitions.iter().cloned());
                    events.push(ConsumerEvent::Lost(partitions));
                }
            }
        }
        Ok(events)
    }

    /// Gives librdkafka the whole assignment again, from where each partition stands. Not from its own positions: it has none until a record
    /// of the last assignment was delivered, and those of an older one while a seek has not been answered.
    fn reassign(&mut self) -> Result<(), LogError> {
        let list: Vec<_> = self.assigned.iter().map(|(partition, at)| (partition.clone(), *at)).collect();
        self.client.assign(Some(&list))?;
        let paused: Vec<_> = self.paused.iter().filter(|p| self.assigned.contains_key(p)).cloned().collect();
        if paused.is_empty() { Ok(()) } else { self.client.set_paused(&paused, true) }
    }
}

impl LogConsumer for KafkaConsumer {
    fn poll(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Vec<ConsumerEvent>, LogError> {
        let deadline = Instant::now() + timeout;
        let limits = Limits { records: max_records.max(1), bytes: max_bytes.clamp(1, MAX_RUN_BYTES) };
        loop {
            self.client.fatal()?;
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let mut wait = deadline.saturating_duration_since(Instant::now());
            if let Some(pattern) = &mut self.pattern {
                wait = wait.min(pattern.refresh(&mut self.client)?);
            }
            let mut events = self.fetch(limits, wait);
            events.append(&mut self.rebalances()?);
            if !events.is_empty() || self.client.take_woken() || Instant::now() >= deadline {
                if events.is_empty() {
                    self.client.fatal()?;
                    if let Some(error) = self.failed.take() {
                        return Err(error);
                    }
                }
                return Ok(events);
            }
        }
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        let fresh = self.assigned.is_empty();
        self.assigned.extend(partitions.iter().cloned());
        if fresh { self.client.assign(Some(partitions)) } else { self.reassign() }
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        let paused: Vec<_> = partitions.iter().filter(|p| self.paused.remove(p)).cloned().collect();
        if !paused.is_empty() {
            // A partition that comes back would still be paused.
            self.client.set_paused(&paused, false)?;
        }
        for partition in partitions {
            self.assigned.remove(partition);
        }
        let answering = !self.revoking.is_empty();
        for partition in partitions {
            self.revoking.remove(partition);
        }
        if answering && self.revoking.is_empty() || self.assigned.is_empty() {
            // Revocation is eager: all partitions go together.
            self.assigned.clear();
            self.paused.clear();
            return self.client.assign(None);
        }
        if answering { Ok(()) } else { self.reassign() }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        self.client.set_paused(partitions, true)?;
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        self.client.set_paused(partitions, false)?;
        self.paused.retain(|p| !partitions.contains(p));
        Ok(())
    }

    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), LogError> {
        let sought = self.client.seek(partition, offset, Duration::from_secs(5));
        let Some(at) = self.assigned.get_mut(partition) else { return sought };
        match sought {
            Ok(()) => {
                *at = Some(offset);
                Ok(())
            }
            // Not started yet, as when the broker that knows the committed offset is away: start it at the offset.
            Err(error) if error.retriable => {
                *at = Some(offset);
                self.reassign()
            }
            Err(error) => Err(error),
        }
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        if offsets.is_empty() { Ok(()) } else { self.client.commit(offsets) }
    }

    fn committed(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
        self.client.committed(partitions, timeout)
    }

    fn commit_with(&mut self, offsets: &[CommittedOffset]) -> Result<(), CommitError> {
        let Some((id, generation)) = &self.owner else {
            return Err(CommitError::Refused(LogError {
                message: "committing offsets with metadata: this consumer is not a member of its group any more".into(),
                retriable: true,
                code: Some("UNKNOWN_MEMBER_ID"),
            }));
        };
        let commits = match &mut self.commits {
            Some(commits) => commits,
            none => none.insert(MemberCommits::new(&self.settings).map_err(CommitError::Refused)?),
        };
        commits.commit(&Member { id, generation: *generation }, offsets)
    }

    fn committed_with(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<CommittedOffset>, LogError> {
        self.client.committed_with(partitions, timeout)
    }

    fn lag(&mut self) -> Vec<(TopicPartition, i64)> {
        let partitions: Vec<_> = self.assigned.keys().cloned().collect();
        let Ok(positions) = self.client.positions(&partitions) else { return Vec::new() };
        positions
            .into_iter()
            .filter_map(|(partition, position)| {
                let (_, high) = self.client.known_watermarks(&partition)?;
                let lag = (high - position?).max(0);
                Some((partition, lag))
            })
            .collect()
    }

    fn group_metadata(&mut self) -> Result<GroupMetadata, LogError> {
        self.client.group_metadata().map(GroupMetadata)
    }

    fn waker(&self) -> Option<Waker> {
        let waker = self.client.waker();
        Some(std::sync::Arc::new(move || waker.wake()))
    }

    fn close(mut self: Box<Self>, timeout: Duration) -> Result<(), LogError> {
        self.messages.clear();
        self.client.close(timeout)
    }
}

/// What one call may return.
#[derive(Debug, Clone, Copy)]
struct Limits {
    records: usize,
    bytes: usize,
}

/// What came in a record's place.
enum Refusal {
    Code(rdkafka_sys::rd_kafka_resp_err_t, String),
    Record(String),
}

/// The runs of one call.
#[derive(Default)]
struct Runs {
    finished: Vec<ConsumerEvent>,
    finished_bytes: usize,
    current: Option<(usize, RunBuilder)>,
    count: usize,
    /// Rows and bytes to make room for.
    expected: (usize, usize),
}

impl Runs {
    #[inline]
    fn push(&mut self, message: Message<'_>) -> Result<(), Refusal> {
        if message.is_end() {
            self.ended(message);
            return Ok(());
        }
        if let Some((code, text)) = message.error() {
            return Err(Refusal::Code(code, text));
        }
        let topic = message.topic_id();
        match &self.current {
            Some((id, run))
                if *id == topic
                    && run.topic_partition().partition == message.partition()
                    && run.bytes() < MAX_RUN_BYTES => {}
            _ => self.start(message),
        }
        let Some((_, run)) = &mut self.current else { return Ok(()) };
        run.push(message.offset(), message.timestamp(), message.key(), message.value());
        self.count += 1;
        message.headers(|key, value| run.header(key, value)).map_err(|reason| {
            let partition = run.topic_partition();
            Refusal::Record(format!(
                "record {} of {}-{}: {reason}",
                message.offset(),
                partition.topic,
                partition.partition
            ))
        })
    }

    #[cold]
    fn start(&mut self, message: Message<'_>) {
        self.end();
        let topic_partition = TopicPartition { topic: message.topic_name().into(), partition: message.partition() };
        // A little more than last time; only the first run of a call is that large.
        let (rows, bytes) = std::mem::take(&mut self.expected);
        self.current = Some((message.topic_id(), RunBuilder::new(topic_partition, rows + rows / 8, bytes + bytes / 8)));
    }

    /// Records of the partition are told of before its end is.
    #[cold]
    fn ended(&mut self, message: Message<'_>) {
        self.end();
        let partition = TopicPartition { topic: message.topic_name().into(), partition: message.partition() };
        self.finished.push(ConsumerEvent::End(partition, message.offset()));
    }

    fn end(&mut self) {
        if let Some((_, run)) = self.current.take().filter(|(_, run)| run.len() > 0) {
            self.finished_bytes += run.bytes();
            self.finished.push(ConsumerEvent::Batch(Box::new(run.finish())));
        }
    }

    fn bytes(&self) -> usize {
        self.finished_bytes + self.current.as_ref().map_or(0, |(_, run)| run.bytes())
    }

    fn finish(mut self) -> Vec<ConsumerEvent> {
        self.end();
        self.finished
    }
}
