//! What members own and are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::worker::TaskId;

/// Connectors and tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Assignment {
    pub connectors: BTreeSet<String>,
    pub tasks: BTreeSet<TaskId>,
}

impl Assignment {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.connectors.is_empty() && self.tasks.is_empty()
    }

    /// Connectors and tasks together.
    pub fn len(&self) -> usize {
        self.connectors.len() + self.tasks.len()
    }

    /// Adds what the other one has.
    pub fn add(&mut self, other: &Self) {
        self.connectors.extend(other.connectors.iter().cloned());
        self.tasks.extend(other.tasks.iter().cloned());
    }

    /// Takes out what the other one has.
    pub fn remove(&mut self, other: &Self) {
        self.connectors.retain(|connector| !other.connectors.contains(connector));
        self.tasks.retain(|task| !other.tasks.contains(task));
    }
}

impl std::fmt::Display for Assignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} connectors, {} tasks", self.connectors.len(), self.tasks.len())
    }
}

/// A connector (`None`) or one of its tasks.
pub(super) type Resource = (String, Option<u32>);

/// Everything in an assignment.
pub(super) fn resources(assignment: &Assignment) -> impl Iterator<Item = Resource> + '_ {
    let connectors = assignment.connectors.iter().map(|name| (name.clone(), None));
    connectors.chain(assignment.tasks.iter().map(|task| (task.connector.clone(), Some(task.task))))
}

impl<'a> FromIterator<&'a Resource> for Assignment {
    fn from_iter<I: IntoIterator<Item = &'a Resource>>(resources: I) -> Self {
        let mut assignment = Self::default();
        for (connector, task) in resources {
            match task {
                None => assignment.connectors.insert(connector.clone()),
                Some(task) => assignment.tasks.insert(TaskId { connector: connector.clone(), task: *task }),
            };
        }
        assignment
    }
}

/// What is to run in the group, as of an offset of the config topic.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterSnapshot {
    /// The next offset of the config topic: everything before it is in here.
    pub config_offset: i64,
    /// Every connector that is to have an owner, the paused and the stopped ones too.
    pub connectors: BTreeMap<String, ConnectorShape>,
}

/// What the assignment has to know of a connector.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorShape {
    /// How many tasks it has; 0 while it is stopped, or has no task configs yet.
    pub tasks: u32,
    /// How much one of its tasks loads a worker, compared to others: `tributary.weight` of its config, or what was
    /// measured. 1 where nothing is known. Values that are not positive and finite count as 1.
    pub weight: f64,
    /// Labels that a worker must have to run it: `tributary.worker.labels` of its config, `name` or `name=value` each.
    /// Empty: any worker does.
    pub labels: Vec<String>,
    /// On how many other workers the state of each of its tasks is to be followed: `state.standby.replicas` of its config; 0
    /// where its transforms keep none.
    pub standbys: u32,
}

impl Default for ConnectorShape {
    fn default() -> Self {
        Self { tasks: 0, weight: 1.0, labels: Vec::new(), standbys: 0 }
    }
}

/// The outcome of a rebalance for this member.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupAssignment {
    /// The group's generation; it grows with each rebalance.
    pub generation: i32,
    /// This member's id, given by the coordinator.
    pub member_id: String,
    /// Whether this member leads the group.
    pub leader: bool,
    /// The leader's member id.
    pub leader_id: String,
    /// The leader's REST URL.
    pub leader_url: String,
    /// The config topic's offset that the leader assigned by. A member that has read less must read up to it before it
    /// starts anything of this assignment.
    pub config_offset: i64,
    /// All that this member owns from now on.
    pub owned: Assignment,
    /// The part of `owned` that is new.
    pub added: Assignment,
    /// What this member owned and is to stop: not in `owned` any more. A [`GroupCallbacks::revoke`](super::GroupCallbacks::revoke)
    /// with it follows at once.
    pub revoking: Assignment,
    /// Tasks of other workers whose state this member follows from now on, and no others.
    pub standbys: BTreeSet<TaskId>,
    /// How long the leader waits for a lost worker to come back, until it gives that worker's part to others; zero: nobody is waited for.
    pub delay: Duration,
    /// Connectors and tasks for which the leader found no worker with the labels that they want; known to the leader only.
    pub unplaced: Assignment,
}
