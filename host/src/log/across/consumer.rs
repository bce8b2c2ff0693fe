//! [`LogConsumer`] of a group in one cluster, of topics in another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::super::{ConsumerEvent, GroupMetadata, LogConsumer, LogError, TopicPartition, Waker, kafka};
use super::member::Member;
use super::shared::{Identity, Shared};
use super::survey::Survey;
use super::{Across, MemberSettings, shown};

/// The first offset that a reader finds.
const FIRST: i64 = -2;
/// How long one of two readers is waited for while the other may have something.
const SHARE: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct AcrossConsumer {
    settings: MemberSettings,
    shared: Arc<Shared>,
    /// Reads the topics.
    source: Box<dyn LogConsumer>,
    /// Reads topics of the target, and the group's offsets.
    target: Box<dyn LogConsumer>,
    /// Assigned partitions of the target.
    own: BTreeSet<TopicPartition>,
    /// Stand-ins' partitions of which the group has an offset, as far as this member has seen, with the last one it knows.
    reached: BTreeMap<TopicPartition, i64>,
    /// Partitions without an offset are an error (`auto.offset.reset=none`).
    strict: bool,
    ended: Receiver<()>,
    _leaver: Leaver,
}

impl AcrossConsumer {
    pub(super) fn new(across: Across) -> Result<Self, LogError> {
        let Across { target, member, source, mut reader, subscription, own } = across;
        let settings = MemberSettings::new(&member, &own)?;
        let strict = reader.get("auto.offset.reset").is_some_and(|reset| reset.trim() == "none");
        // Neither is a member of anything.
        let of_membership = ["group.instance.id", "group.protocol", "partition.assignment.strategy"];
        reader.retain(|name, _| !of_membership.contains(&name.as_str()));
        let mut own_reader = member.clone();
        own_reader.retain(|name, _| !of_membership.contains(&name.as_str()));
        // The group's offsets are told when the transactions of whoever committed them before are finished.
        own_reader.insert("isolation.level".into(), "read_committed".into());
        let survey = Survey::new(source.clone(), target.clone(), &subscription, &own, settings.names.clone())?;
        let shown_with = reader.clone();
        let source = source.reader(&reader, &[])?;
        let target = target.reader(&own_reader, &[])?;
        let shared = Arc::new(Shared::new(source.waker()));
        let member = Member::new(settings.clone(), shared.clone(), survey);
        let ended = start(member, shared.clone(), shown_with)?;
        let _leaver = Leaver(shared.clone());
        Ok(Self {
            settings,
            shared,
            source,
            target,
            own: BTreeSet::new(),
            reached: BTreeMap::new(),
            strict,
            ended,
            _leaver,
        })
    }

    fn is_own(&self, partition: &TopicPartition) -> bool {
        self.settings.own.iter().any(|own| **own == *partition.topic)
    }

    /// Partitions of the source, and those of the target.
    fn split(&self, partitions: &[TopicPartition]) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        partitions.iter().cloned().partition(|partition| !self.is_own(partition))
    }
}

/// The membership on a thread of its own.
fn start(member: Member, shared: Arc<Shared>, shown_with: super::ClientSettings) -> Result<Receiver<()>, LogError> {
    let failed =
        |error: std::io::Error| LogError::retriable(format!("cannot start the thread of a group member: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (end, ended) = sync_channel(1);
    std::thread::Builder::new()
        .name("group-member".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let showing = tokio::spawn(shown::run(shared, shown_with));
                member.run().await;
                _ = showing.await;
            });
            runtime.shutdown_timeout(Duration::from_millis(10));
            _ = end.send(());
        })
        .map_err(failed)?;
    Ok(ended)
}

impl LogConsumer for AcrossConsumer {
    fn poll(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Vec<ConsumerEvent>, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            let events = self.shared.poll()?;
            if !events.is_empty() {
                return Ok(events);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let (wait, both) = if self.own.is_empty() { (left, false) } else { (left.min(SHARE), true) };
            let mut events = match self.source.poll(max_records, max_bytes, wait) {
                // It is only for display, and nothing is asked of it.
                Err(error) if error.code == Some("GROUP_AUTHORIZATION_FAILED") => Vec::new(),
                polled => polled?,
            };
            if both {
                events.extend(self.target.poll(max_records, max_bytes, Duration::ZERO)?);
            }
            let woken = self.shared.take_woken() && !self.shared.has_events();
            if !events.is_empty() || woken || left.is_zero() {
                return Ok(events);
            }
        }
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        let mut places = partitions.to_vec();
        for (partition, place) in places.iter_mut().filter(|(_, place)| place.is_none()) {
            if self.strict {
                return Err(LogError::fatal(format!(
                    "partition {}-{} has no committed offset, and auto.offset.reset is none: set the connector's offsets \
                     (PATCH /connectors/…/offsets), or set consumer.override.auto.offset.reset",
                    partition.topic, partition.partition
                )));
            }
            // Offsets of the source's own group are never read.
            *place = Some(FIRST);
        }
        let (own, foreign): (Vec<_>, Vec<_>) = places.into_iter().partition(|(partition, _)| self.is_own(partition));
        if !foreign.is_empty() {
            self.source.assign(&foreign)?;
        }
        if !own.is_empty() {
            self.target.assign(&own)?;
            self.own.extend(own.into_iter().map(|(partition, _)| partition));
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        let (foreign, own) = self.split(partitions);
        self.own.retain(|partition| !own.contains(partition));
        let foreign = if foreign.is_empty() { Ok(()) } else { self.source.unassign(&foreign) };
        let own = if own.is_empty() { Ok(()) } else { self.target.unassign(&own) };
        // Whatever became of it: the group waits.
        self.shared.given_up(partitions);
        foreign.and(own)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        let (foreign, own) = self.split(partitions);
        if !foreign.is_empty() {
            self.source.pause(&foreign)?;
        }
        if own.is_empty() { Ok(()) } else { self.target.pause(&own) }
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        let (foreign, own) = self.split(partitions);
        if !foreign.is_empty() {
            self.source.resume(&foreign)?;
        }
        if own.is_empty() { Ok(()) } else { self.target.resume(&own) }
    }

    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), LogError> {
        if self.is_own(partition) { self.target.seek(partition, offset) } else { self.source.seek(partition, offset) }
    }

    fn commit(&mut self, _: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        Err(LogError::fatal("a group in another cluster than its topics commits only in transactions"))
    }

    fn committed(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
        let kept: Vec<_> = partitions.iter().map(|partition| self.kept_as(partition)).collect();
        let committed = self.target.committed(&kept, timeout)?;
        let mut found = Vec::with_capacity(partitions.len());
        for (kept, offset) in committed {
            match offset {
                Some(offset) => _ = self.reached.insert(kept.clone(), offset),
                None => {
                    if let Some(reached) = self.reached.get(&kept) {
                        return Err(LogError::fatal(format!(
                            "the offset of {}-{} in group {} of the target cluster, which was {reached} or more, is gone while the task runs: \
                             was the topic {} deleted there? To read everything again, restart the task; to go on, stop the connector, \
                             set its offsets (PATCH /connectors/…/offsets) and resume it",
                            kept.topic, kept.partition, self.settings.group, kept.topic
                        )));
                    }
                }
            }
            let of = partitions.iter().find(|partition| self.kept_as(partition) == kept);
            found.extend(of.map(|partition| (partition.clone(), offset)));
        }
        Ok(found)
    }

    fn lag(&mut self) -> Vec<(TopicPartition, i64)> {
        let mut lag = self.source.lag();
        lag.extend(self.target.lag());
        lag
    }

    fn group_metadata(&mut self) -> Result<GroupMetadata, LogError> {
        let Some(Identity { member, generation }) = self.shared.identity() else {
            return Err(LogError {
                message: "reading the group membership: this consumer is not a member of its group any more".into(),
                retriable: true,
                code: Some("UNKNOWN_MEMBER_ID"),
            });
        };
        kafka::group_metadata(&self.settings.group, generation, &member, self.settings.instance.as_deref())
    }

    fn kept_as(&self, partition: &TopicPartition) -> TopicPartition {
        if self.is_own(partition) {
            return partition.clone();
        }
        // Without a name nothing is kept: brokers refuse offsets of topics that they do not have.
        let kept = self.shared.kept(&partition.topic);
        let topic = kept.unwrap_or_else(|| self.settings.names.name(&partition.topic, None).into());
        TopicPartition { topic, partition: partition.partition }
    }

    fn committed_in_transaction(&mut self, offsets: &[(TopicPartition, i64)]) {
        let reached: Vec<_> = offsets.iter().map(|(partition, next)| (self.kept_as(partition), *next)).collect();
        self.reached.extend(reached);
        self.shared.progress(offsets.iter().filter(|(partition, _)| !self.is_own(partition)).cloned());
    }

    fn waker(&self) -> Option<Waker> {
        let shared = self.shared.clone();
        Some(Arc::new(move || shared.wake()))
    }

    fn close(self: Box<Self>, timeout: Duration) -> Result<(), LogError> {
        self.shared.close();
        if self.ended.recv_timeout(timeout).is_err() {
            tracing::warn!(
                "a member of group {} did not leave in time; its session ends by itself",
                self.settings.group
            );
        }
        let source = self.source.close(timeout);
        self.target.close(timeout).and(source)
    }
}

/// The member leaves when its consumer is gone, however that came.
struct Leaver(Arc<Shared>);

impl Drop for Leaver {
    fn drop(&mut self) {
        self.0.close();
    }
}
