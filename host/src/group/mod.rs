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
//!
//! Promises: a connector or task is given to a member only after its former owner has reported it stopped, or was removed
//! from the group; a member that was removed has a lease that ran out before. So nothing runs twice for longer than a
//! thread takes to look at its [`Lease`].
//!
//! Fails: while no coordinator can be reached, everything runs on until the lease ends, and is then stopped
//! ([`GroupCallbacks::lost`]); the member keeps trying and is given work again when it is back.

mod lease;
mod port;
mod types;

pub use lease::Lease;
pub use port::{Group, GroupCallbacks, GroupState};
pub use types::{Assignment, ClusterSnapshot, ConnectorShape, GroupAssignment};
