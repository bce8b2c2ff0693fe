//! Between the membership and the herder.

use std::time::Duration;

use super::{Assignment, ClusterSnapshot, GroupAssignment, Lease, Rebalances};

/// What the membership asks of the herder. Calls come one at a time, from one thread, in the order in which things
/// happened; while one runs the member goes on telling the coordinator that it lives.
pub trait GroupCallbacks: Send + Sync {
    /// What is to run, as this worker knows it. Asked before each join (for its offset), and when this member leads.
    fn snapshot(&self) -> ClusterSnapshot;

    /// Reads the config topic to its end, at least to `config_offset`: another member knows more than the last snapshot.
    /// May block up to `timeout`; when it could not be done the group tries again a little later.
    fn refresh(&self, config_offset: i64, timeout: Duration);

    /// The outcome of a rebalance. Should return soon: it only tells what to start.
    fn assigned(&self, assignment: GroupAssignment);

    /// Stops these, offsets committed. Returns when nothing of them runs any more, or when what still runs is fenced off:
    /// after it returns they are started on another worker.
    fn revoke(&self, revoked: &Assignment);

    /// This worker is not in the group any more (removed by the coordinator, or it could not be reached until the lease
    /// ended). The lease is over already; everything has to be stopped, and nothing may be written: it runs elsewhere.
    /// `assigned` follows when the worker is back in the group.
    fn lost(&self, reason: &str);
}

/// The membership as the herder and the REST API see it.
pub trait Group: Send + Sync {
    /// Has the group rebalance, as when the set of connectors or tasks has changed. It is enough that the leader asks.
    /// Returns at once; requests during a rebalance make one more.
    fn request_rejoin(&self, reason: &str);

    /// Leaves the group, which gives this member's part to others at once. Everything must be stopped before. Waits until
    /// the coordinator knows, at most `timeout`; without an answer the member is gone when its session ends.
    fn leave(&self, timeout: Duration);

    /// Until when this worker may write. The same lease for the worker's whole life.
    fn lease(&self) -> Lease;

    /// The membership just now.
    fn state(&self) -> GroupState;

    /// On the leader: the REST URL of the worker that owns a connector (`None`) or one of its tasks, if one does.
    fn owner_url(&self, connector: &str, task: Option<u32>) -> Option<String>;
}

/// The membership at a moment, for REST and `/health`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Given by the coordinator; `None` before the first join and after the membership was lost.
    pub member_id: Option<String>,
    /// The last generation of which this member has its assignment; -1 before.
    pub generation: i32,
    /// Whether a rebalance is under way, as far as this member knows.
    pub rebalancing: bool,
    /// The leader's REST URL, by the last assignment.
    pub leader_url: Option<String>,
    /// Whether this member leads, by the last assignment.
    pub leader: bool,
    /// The protocol that the group has agreed on, `sessioned` or `compatible`; empty before the first join.
    pub protocol: String,
    /// How often and how long it was rebalanced.
    pub rebalances: Rebalances,
    /// `host:port` of the coordinator, when connected to it.
    pub coordinator: Option<String>,
    /// Why the member is not in the group, in words for a person; `None` when all is well.
    pub problem: Option<String>,
    /// Members of the group by worker URL; known to the leader only.
    pub workers: Vec<String>,
}
