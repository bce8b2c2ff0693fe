//! What the distributed herder works with besides the [group](crate::group::Group) and the
//! [config topic](crate::storage::ConfigLog): the other workers, and threads.
//!
//! No call of [`Jobs`] waits for anything, so that the herder's decisions run on one thread, and in tests on none. What blocks
//! (the config topic, [`Peers`], stopping) is only called from a job.

use std::sync::Arc;

use tributary_sdk::Config;

use crate::storage::SessionKey;

/// Requests to other workers.
pub trait Peers: Send + Sync {
    /// Hands task configs to the leader. Waits.
    fn put_tasks(&self, leader: &str, connector: &str, tasks: &[Config], key: &SessionKey) -> Result<(), String>;
    /// Asks the leader to fence former tasks of an exactly-once source. Waits.
    fn fence_tasks(&self, leader: &str, connector: &str, key: &SessionKey) -> Result<(), String>;
}

/// Fences the producers of so many tasks of a connector, from 0 on. Waits.
pub type FenceTasks = Arc<dyn Fn(&str, u32) -> Result<(), String> + Send + Sync>;

/// Work that waits, and so runs elsewhere.
pub trait Jobs: Send + Sync {
    /// Runs on a thread of its own; `false` if there is none to be had.
    fn run(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> bool;
    /// Runs after everything that was queued before.
    fn queue(&self, work: Box<dyn FnOnce() + Send>);
}
