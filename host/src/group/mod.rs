//! The worker's membership in its group, through Kafka's own group coordinator.
//!
//! Workers with the same `group.id` on the same cluster are members of one group of protocol type `connect`. One of them,
//! chosen by the coordinator, leads: it assigns connectors and tasks. The assignment is incremental and cooperative:
//! what stays where it is goes on running through a rebalance, what moves is stopped first (one round) and started
//! elsewhere afterwards (the next).
//!
//! | File | Noun |
//! |---|---|
//! | `types` | what members own and are told |
//! | `port` | between membership and herder: [`GroupCallbacks`] and [`Group`] |
//! | `lease` | how long this worker may write |
//! | `settings` | the keys of the worker's properties |
//! | `member` | the member: runs the state machine, on a thread of its own |
//! | `requests` | what the member asks the coordinator, as Kafka's messages |
//! | `restarts` | how long the last restart took |
//! | `membership` | the member, as a state machine without I/O |
//! | `assignor`, `balance`, `absences`, `standbys` | the leader's part: who runs what, what is kept for whom, and who follows whose state |
//! | `rebalances` | how often and how long, for metrics |
//! | `simulation` | tests: seeded schedules of everything that can go wrong |
//! | `wire` | a small Kafka client |
//! | `protocol` | Connect's bytes for what members and leader tell each other |
//!
//! Promises: a connector or task is given to a member only after its former owner has reported it stopped, or was removed
//! from the group; a member that was removed has a lease that ran out before. So nothing runs twice for longer than a
//! thread takes to look at its [`Lease`].
//!
//! Fails: while no coordinator can be reached, everything runs on until the lease ends, and is then stopped
//! ([`GroupCallbacks::lost`]); the member keeps trying and is given work again when it is back.

mod absences;
mod assignor;
#[cfg(test)]
mod assignor_tests;
mod balance;
mod lease;
mod member;
mod membership;
mod port;
mod protocol;
mod rebalances;
mod requests;
mod restarts;
mod settings;
#[cfg(test)]
mod simulation;
mod standbys;
mod types;
pub mod wire;

pub use lease::Lease;
pub use member::GroupMember;
pub use port::{Group, GroupCallbacks, GroupState};
pub use rebalances::Rebalances;
pub use settings::GroupSettings;
pub use types::{Assignment, ClusterSnapshot, ConnectorShape, GroupAssignment};
