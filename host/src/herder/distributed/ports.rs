//! What the distributed herder works with besides the [group](crate::group::Group) and the
//! [config topic](crate::storage::ConfigLog): the other workers, and threads.
//!
//! No call of [`Jobs`] waits for anything, so that the herder's decisions run on one thread, and in tests on none. What blocks
//! (the config topic, [`Peers`], stopping) is only called from a job.

use tributary_sdk::Config;

use crate::storage::SessionKey;

/// Requests to other workers.
pub trait Peers: Send + Sync {
    /// Hands task configs to the leader. Waits.
    fn put_tasks(&self, leader: &str, connector: &str, tasks: &[Config], key: &SessionKey) -> Result<(), String>;
}

/// Work that waits, and so runs elsewhere.
pub trait Jobs: Send + Sync {
    /// Runs on a thread of its own; `false` if there is none to be had.
    fn run(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> bool;
    /// Runs after everything that was queued before.
    fn queue(&self, work: Box<dyn FnOnce() + Send>);
}
