//! Commits offsets in the name of one membership, and of no other.
//!
//! librdkafka commits in the name of whatever its consumer is when the request goes out. A request that it holds back while the coordinator is
//! away goes out under the next generation, when the partition may be somebody else's; the group checks the generation and not the partitions,
//! and would take it. Offsets that carry tokens of prepared transactions must not go that way, so they are committed by the worker's own Kafka
//! client: with the member id and the generation in which the partitions were assigned.
//!
//! Promises: a request is sent once. What was not sent, or was refused because the membership is over, is known not to be there; what was sent and
//! not answered is in doubt, and nothing is tried again on top of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::runtime::Runtime;

use super::super::{ClientSettings, CommitError, CommittedOffset, LogError};
use crate::group::wire::{Cluster, Connection, CoordinatorKind, WireError, WireSettings};

/// How long the coordinator is looked for.
const FOUND_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// A connection that was idle for longer may have been closed by the broker, and what is sent on it would be in doubt.
const FRESH: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of one request's offsets: well below the megabyte that a batch of `__consumer_offsets` may have by default.
const MAX_REQUEST: usize = 512 << 10;
/// What the broker adds to each offset, roughly.
const OVERHEAD: usize = 256;

/// In whose name.
pub(super) struct Member<'a> {
    pub id: &'a str,
    pub generation: i32,
}

/// See the module's documentation.
pub(super) struct MemberCommits {
    group: String,
    instance: Option<String>,
    cluster: Cluster,
    runtime: Runtime,
    /// To the coordinator, and when it was used last.
    connection: Option<(Connection, Instant)>,
}

impl MemberCommits {
    /// Nothing is connected yet.
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, LogError> {
        let failed = |reason: &dyn std::fmt::Display| {
            LogError::fatal(format!("committing offsets with metadata in the name of a member: {reason}"))
        };
        let text = |name: &str| settings.get(name).map(|value| value.trim().to_owned()).filter(|text| !text.is_empty());
        if text("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer")) {
            return Err(failed(
                &"group.protocol=consumer has no generations: leave it out of the connector's consumer settings",
            ));
        }
        let cluster = Cluster::new(WireSettings::new(settings).map_err(|error| failed(&error))?);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
        let (group, instance) = (text("group.id").unwrap_or_default(), text("group.instance.id"));
        Ok(Self { group, instance, cluster, runtime, connection: None })
    }

    /// Commits and waits for the answers. Many long tokens go in several requests: the broker writes each as one batch.
    pub(super) fn commit(&mut self, member: &Member<'_>, offsets: &[CommittedOffset]) -> Result<(), CommitError> {
        for (number, part) in parts(offsets).into_iter().enumerate() {
            self.commit_part(member, part).map_err(|error| match error {
                // The parts before it are in the group.
                CommitError::Refused(error) if number > 0 => CommitError::InDoubt(error),
                error => error,
            })?;
        }
        Ok(())
    }

    fn commit_part(&mut self, member: &Member<'_>, offsets: &[CommittedOffset]) -> Result<(), CommitError> {
        let request = self.request(member, offsets);
        let (deadline, group) = (Instant::now() + FOUND_WITHIN, self.group.clone());
        let what = || format!("committing offsets of {} partitions of group {group}", offsets.len());
        loop {
            let mut connection = match self.coordinator(deadline) {
                Ok(connection) => connection,
                // Nothing was sent.
                Err(error) => {
                    let message = format!("{}: {error}", what());
                    return Err(CommitError::Refused(LogError { message, retriable: error.retriable(), code: None }));
                }
            };
            let answer = self.runtime.block_on(connection.call(ANSWER, |_| request.clone()));
            let answer =
                answer.map_err(|error| CommitError::InDoubt(LogError::retriable(format!("{}: {error}", what()))))?;
            let codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
            let refusals: Vec<_> = codes.filter_map(ResponseError::try_from_code).collect();
            // One that no new member changes decides what is to be done about all of them.
            let lasting = refusals.iter().find(|code| matches!(meaning(**code), (_, true, false)));
            let Some(first) = lasting.or(refusals.first()).copied() else {
                self.connection = Some((connection, Instant::now()));
                return Ok(());
            };
            // As long as a coordinator loads it looks at nothing.
            let loads = |code: &ResponseError| *code == ResponseError::CoordinatorLoadInProgress;
            if refusals.len() == offsets.len() && refusals.iter().all(loads) && Instant::now() + PAUSE < deadline {
                std::thread::sleep(PAUSE);
                continue;
            }
            let (code, conclusive, retriable) = meaning(first);
            let all = refusals.len() == offsets.len() && refusals.iter().all(|refusal| meaning(*refusal).1);
            let message = format!("{}: broker {}: {first}", what(), connection.server());
            let error = LogError { message, retriable: retriable || !conclusive, code };
            return Err(if all { CommitError::Refused(error) } else { CommitError::InDoubt(error) });
        }
    }

    fn coordinator(&mut self, deadline: Instant) -> Result<Connection, WireError> {
        if let Some((connection, used)) = self.connection.take()
            && used.elapsed() < FRESH
        {
            return Ok(connection);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let found = self.cluster.to_coordinator(CoordinatorKind::Group, &self.group, left);
        self.runtime.block_on(found)
    }

    fn request(&self, member: &Member<'_>, offsets: &[CommittedOffset]) -> OffsetCommitRequest {
        let mut topics = BTreeMap::<&str, Vec<OffsetCommitRequestPartition>>::new();
        for CommittedOffset { partition, offset, metadata } in offsets {
            let wanted = OffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text(metadata)));
            topics.entry(&partition.topic).or_default().push(wanted);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(partitions)
        });
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id_or_member_epoch(member.generation)
            .with_member_id(text(member.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_topics(topics.collect())
    }
}

/// Kafka's name for a refusal, whether it says that nothing was stored or will be, and whether a new member may succeed. Others may come of a
/// record that was written and not replicated in time.
fn meaning(code: ResponseError) -> (Option<&'static str>, bool, bool) {
    match code {
        ResponseError::IllegalGeneration => (Some("ILLEGAL_GENERATION"), true, true),
        ResponseError::UnknownMemberId => (Some("UNKNOWN_MEMBER_ID"), true, true),
        ResponseError::FencedInstanceId => (Some("FENCED_INSTANCE_ID"), true, true),
        ResponseError::RebalanceInProgress => (Some("REBALANCE_IN_PROGRESS"), true, true),
        ResponseError::CoordinatorLoadInProgress => (Some("COORDINATOR_LOAD_IN_PROGRESS"), true, true),
        ResponseError::OffsetMetadataTooLarge => (Some("OFFSET_METADATA_TOO_LARGE"), true, false),
        ResponseError::InvalidCommitOffsetSize => (Some("INVALID_COMMIT_OFFSET_SIZE"), true, false),
        ResponseError::GroupAuthorizationFailed => (Some("GROUP_AUTHORIZATION_FAILED"), true, false),
        ResponseError::TopicAuthorizationFailed => (Some("TOPIC_AUTHORIZATION_FAILED"), true, false),
        _ => (None, false, true),
    }
}

/// Runs of commits whose metadata and names fit into one request.
fn parts(offsets: &[CommittedOffset]) -> Vec<&[CommittedOffset]> {
    let (mut parts, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (at, commit) in offsets.iter().enumerate() {
        let size = commit.metadata.len() + commit.partition.topic.len() + OVERHEAD;
        if at > begin && bytes + size > MAX_REQUEST {
            parts.push(&offsets[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += size;
    }
    if begin < offsets.len() {
        parts.push(&offsets[begin..]);
    }
    parts
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
