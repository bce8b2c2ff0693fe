//! Taking partitions over: what the group says of them is read and committed again with a larger epoch.

use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::prepared::Claim;

use super::Carried;
use crate::log::{CommitError, CommittedOffset, Log, LogConsumer, LogError, TopicPartition};
use crate::task::backoff::Backoff;
use crate::task::control::{TaskControl, now_ms};
use crate::task::errors::TaskError;
use crate::task::transaction::fail_points;

/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(10);

/// Where a partition without an offset is begun: `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At its first record.
    Earliest,
    /// Behind its last one.
    Latest,
    /// Nowhere: it is an error.
    None,
}

impl StartAt {
    /// Of a consumer's settings.
    pub fn of(reset: Option<&str>) -> Self {
        match reset.map(str::trim) {
            Some("latest" | "largest" | "end") => Self::Latest,
            Some("none" | "error") => Self::None,
            _ => Self::Earliest,
        }
    }
}

/// What claims are made with.
#[derive(Clone)]
pub struct Claiming {
    /// Tells where partitions begin and end.
    pub log: Arc<dyn Log>,
    /// Where one without an offset is begun.
    pub start: StartAt,
}

impl Claiming {
    /// Claims partitions that were assigned, waiting for a cluster that is away. Answers with the claims and where each is to be begun; `None`
    /// when the task has to stop first.
    pub fn claim(
        &self,
        consumer: &mut dyn LogConsumer,
        partitions: &[TopicPartition],
        control: &TaskControl,
    ) -> Result<Option<Vec<(Claim, i64)>>, TaskError> {
        let mut backoff = Backoff::default();
        loop {
            if !control.wait_for_lease() {
                return Ok(None);
            }
            let error = match self.attempt(consumer, partitions) {
                Ok(claims) => {
                    control.counters.set_retrying(None);
                    return Ok(Some(claims));
                }
                Err(Failed::Passing(error)) => error,
                Err(Failed::Ended(error)) => return Err(error),
            };
            control.counters.set_retrying(Some(&error.message));
            tracing::warn!("taking partitions over is tried again in {:?}: {error}", backoff.next());
            if control.wait(backoff.advance()) {
                return Ok(None);
            }
        }
    }

    fn attempt(
        &self,
        consumer: &mut dyn LogConsumer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(Claim, i64)>, Failed> {
        let found = consumer.committed_with(partitions, ASK)?;
        let mut claims = Vec::with_capacity(partitions.len());
        let mut commits = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let (offset, metadata) = match found.iter().find(|commit| commit.partition == *partition) {
                Some(CommittedOffset { offset, metadata, .. }) => (*offset, metadata.clone()),
                None => (self.beginning(partition)?, "".into()),
            };
            let epoch = Carried::next_epoch(&metadata, now_ms());
            let carried = Carried { epoch, token: Carried::parse(&metadata).and_then(|carried| carried.token) };
            commits.push(CommittedOffset { partition: partition.clone(), offset, metadata: carried.metadata() });
            claims.push((Claim { at: partition.into(), epoch, token: carried.token }, offset));
        }
        fail_points::pass("before", "claim");
        let claimed = consumer.commit_with(&commits);
        fail_points::pass("after", "claim");
        match claimed {
            Ok(()) => Ok(claims),
            // Nothing was sent, or nothing was looked at.
            Err(CommitError::Refused(error)) if error.retriable && error.code.is_none_or(|code| !is_over(code)) => {
                Err(Failed::Passing(error))
            }
            Err(CommitError::Refused(error) | CommitError::InDoubt(error)) => Err(Failed::Ended(ended(error))),
        }
    }

    fn beginning(&self, partition: &TopicPartition) -> Result<i64, Failed> {
        let TopicPartition { topic, partition: number } = partition;
        if self.start == StartAt::None {
            return Err(Failed::Ended(TaskError::new(format!(
                "the group has no offset of {topic}-{number}, and auto.offset.reset is none: set it to earliest or latest, or alter the offsets"
            ))));
        }
        let (first, next) = self.log.admin().watermarks(partition, ASK)?;
        Ok(if self.start == StartAt::Latest { next } else { first })
    }
}

/// Why partitions were not claimed.
enum Failed {
    /// It may be tried again.
    Passing(LogError),
    /// Not by this member.
    Ended(TaskError),
}

impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        if error.retriable { Self::Passing(error) } else { Self::Ended(error.into()) }
    }
}

/// Whether a refusal says that this membership is over.
fn is_over(code: &str) -> bool {
    ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID", "REBALANCE_IN_PROGRESS"].contains(&code)
}

/// The end of a membership: the task begins anew, where another member may commit.
fn ended(error: LogError) -> TaskError {
    let anew = error.retriable;
    TaskError { anew, ..TaskError::from(error) }
}
