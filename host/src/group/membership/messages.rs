//! What the state machine is told, and what it wants done.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::leaving::RestartTime;
use crate::group::protocol::MemberMetadata;
use crate::group::{Assignment, ClusterSnapshot, GroupAssignment};

/// Who this member is, and its times.
#[derive(Debug, Clone)]
pub(in crate::group) struct MemberSettings {
    pub(in crate::group) group: String,
    pub(in crate::group) url: String,
    pub(in crate::group) labels: Vec<String>,
    pub(in crate::group) session: Duration,
    pub(in crate::group) heartbeat: Duration,
    /// `scheduled.rebalance.max.delay.ms`, if set.
    pub(in crate::group) delay: Option<Duration>,
    pub(in crate::group) restart: RestartTime,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::group) enum Refusal {
    /// The coordinator said so.
    Code(ResponseError),
    /// No answer: connection lost, or timed out.
    Away(String),
}

/// The answer to a join.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::group) struct JoinAnswer {
    pub(in crate::group) generation: i32,
    pub(in crate::group) member_id: String,
    pub(in crate::group) leader: String,
    pub(in crate::group) protocol: String,
    /// For the leader only: member ids and metadata.
    pub(in crate::group) members: Vec<(String, Bytes)>,
}

/// What happened.
#[derive(Debug, Clone)]
pub(in crate::group) enum Input {
    /// There is a connection to the coordinator.
    CoordinatorFound,
    /// It broke.
    CoordinatorLost(String),
    /// `Action::Join` was answered; with the member id where the coordinator gave one along with a refusal.
    Joined { call: u64, answer: Result<JoinAnswer, (Refusal, String)> },
    /// `Action::Sync` was answered.
    Synced { call: u64, answer: Result<Bytes, Refusal> },
    /// `Action::Heartbeat` was answered.
    Heartbeat { call: u64, answer: Result<(), Refusal> },
    /// `Action::Ask` was answered.
    Snapshot(ClusterSnapshot),
    /// `Action::Revoke` is done.
    Revoked,
    /// The herder wants a rebalance.
    Rejoin(String),
    /// The worker ends.
    Leave,
    /// Time has passed.
    Tick,
}

/// What is to be done. `Join` and `Sync` replace a request of either that is under way.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::group) enum Action {
    FindCoordinator,
    Join {
        call: u64,
        member_id: String,
        metadata: MemberMetadata,
        reason: String,
    },
    Sync {
        call: u64,
        generation: i32,
        member_id: String,
        protocol: String,
        assignments: Vec<(String, Bytes)>,
    },
    Heartbeat {
        call: u64,
        generation: i32,
        member_id: String,
    },
    /// Leave the group; nothing follows.
    Leave {
        member_id: String,
    },
    /// Ask the herder for its snapshot, after reading the config topic to this offset.
    Ask {
        refresh: Option<i64>,
    },
    Assigned(Box<GroupAssignment>),
    Revoke(Assignment),
    Lost(String),
    /// Extend the lease by a session from this moment on.
    Extend {
        sent: u64,
    },
    EndLease,
}
