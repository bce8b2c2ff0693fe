//! The worker: runs connectors and tasks, each on threads of its own.
//!
//! The herder decides what runs; the worker runs it and reports every change of state as a [`WorkerEvent`].
//! No call here waits for a plugin, except where it says so.

mod assembly;
mod clusters;
mod connector_thread;
mod environment;
mod exactly_once;
mod guarded;
mod kept_state;
mod latch;
mod offsets;
mod passwords;
mod readings;
mod sink_offsets;
mod standby;
mod stream_state;
mod task_thread;
mod types;
mod validation;
#[allow(clippy::module_inception)]
mod worker;

pub use environment::{ConnectorOffsetsOf, Environment, StartsByKind, TaskOffsets};
pub use exactly_once::{ExactlyOnce, FENCE_WITHIN, transactional_ids};
pub use offsets::{ConnectorOffsets, OffsetChange, OffsetsError, PartitionOffset, StoredOffsets};
pub use readings::{Distribution, StartCounters, Starts, TaskReadings};
pub use types::{
    ConnectorSpec, ErrorTotals, FollowSpec, StandbyProgress, State, StateProgress, TaskId, TaskProgress, TaskSpec,
    WorkerEvent,
};
pub use worker::Worker;
