//! tmp
mod latch;
mod types;
pub use types::{ConnectorSpec, State, TaskId, TaskProgress, TaskSpec, WorkerEvent};
