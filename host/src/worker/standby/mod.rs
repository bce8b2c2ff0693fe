//! Standbys: the state of tasks that run on other workers, followed by this one.
//!
//! A connector with `state.standby.replicas` has its tasks' changelogs read by other workers, too, into the same files that the tasks would
//! have there ([`FollowedShard`](crate::state::FollowedShard)). Which tasks, the group's leader says; a task that then comes to this
//! worker has little left to restore.
//!
//! | File | Noun |
//! |---|---|
//! | `mod` | [`Standbys`]: the followers of a worker, one a connector |
//! | `wish` | what a follower is to do, and what ends its waiting |
//! | `follower` | its thread: looks for what to follow, and begins anew after errors |
//! | `session` | what it has open: one reader for all partitions, and the files |
//! | `shards` | which shards of the state the tasks have |
//! | `shared` | the records of shards that share a partition of the changelog |
//!
//! Of a source all shards are followed, whichever of its tasks are: nobody knows in front which source partition is whose, and their changelog
//! partitions are shared. They are read from the beginning when a session begins; what a file has is passed over.
//!
//! Promises: only committed records are applied; a task of this worker has a file as soon as it asks for it; memory is bounded by what waits
//! to be saved, of all of a connector's shards together.
//!
//! How it fails: nothing of it fails a connector. Errors are logged, are in the metrics, and are tried again with growing pauses.

mod follower;
mod session;
mod shards;
mod shared;
mod wish;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::follower::Follower;
use self::wish::Wish;
use super::environment::Environment;
use super::latch::Latch;
use super::{FollowSpec, StandbyProgress};

/// The followers of a worker.
#[derive(Default)]
pub struct Standbys {
    running: Mutex<HashMap<String, Running>>,
    /// Those that were told to end and may not have yet.
    ending: Mutex<Vec<Arc<Latch>>>,
}

struct Running {
    wish: Arc<Wish>,
    ended: Arc<Latch>,
}

impl Standbys {
    /// Follows these tasks of a connector from now on, and no others. Does not wait.
    pub fn follow(&self, environment: &Arc<Environment>, connector: &str, spec: Option<FollowSpec>) {
        let mut running = lock(&self.running);
        let Some(spec) = spec else {
            if let Some(follower) = running.remove(connector) {
                follower.wish.set(None);
                let mut ending = lock(&self.ending);
                ending.retain(|ended| !ended.wait(Duration::ZERO));
                ending.push(follower.ended);
            }
            return;
        };
        // One that has ended by itself has panicked.
        if let Some(follower) = running.get(connector).filter(|follower| !follower.ended.wait(Duration::ZERO)) {
            return follower.wish.set(Some(spec));
        }
        let (wish, ended) = (Arc::new(Wish::new(spec)), Arc::new(Latch::default()));
        let follower = Follower::new(environment.clone(), connector, wish.clone());
        let opens = ended.clone();
        let spawned = std::thread::Builder::new().name(format!("standby-{connector}")).spawn(move || {
            let _span = tracing::info_span!("standby", connector = follower.connector()).entered();
            if catch_unwind(AssertUnwindSafe(|| follower.run())).is_err() {
                tracing::error!("a follower of state panicked; this is a bug of the worker");
            }
            opens.open();
        });
        match spawned {
            Ok(_) => _ = running.insert(connector.to_owned(), Running { wish, ended }),
            Err(error) => {
                tracing::error!("cannot start a thread that follows the state of connector {connector}: {error}")
            }
        }
    }

    /// How a connector is followed, if it is.
    pub fn progress(&self, connector: &str) -> Option<StandbyProgress> {
        lock(&self.running).get(connector).map(|follower| follower.wish.progress())
    }

    /// Ends all, with what they have read saved, as far as that is done by `deadline`.
    pub fn shutdown(&self, deadline: Instant) {
        let running = std::mem::take(&mut *lock(&self.running));
        running.values().for_each(|follower| follower.wish.set(None));
        let ending = std::mem::take(&mut *lock(&self.ending));
        for ended in running.into_values().map(|follower| follower.ended).chain(ending) {
            // What it has not saved is read again.
            _ = ended.wait_until(deadline);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
