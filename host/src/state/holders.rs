//! Who has which state files open in this process: a follower gives way to tasks.
//!
//! A standby (see [`super::followed`]) has files open that a task of the same connector may need at any moment. The task says so before
//! it opens one; the follower, which is woken, saves what it has and closes the file. It opens it again when the task has closed it.
//! Whoever deletes a connector's files has all of them closed first, and the follower begins anew.
//!
//! How it fails: waiting is bounded. A follower that does not give way in time has its files no more: one that has not opened a file yet, since
//! it waits for the cluster, does not open it, and one that has finds that it has another owner by then, and cannot save any more (`file`).
//! What it did not save the task reads from the changelog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Shard;
use super::file::Wanted;

/// How long a follower may take to close a file.
const GIVES_WAY_WITHIN: Duration = Duration::from_secs(10);

/// Ends the waiting of a follower.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// By connector.
#[derive(Default)]
pub struct Holders {
    connectors: Mutex<BTreeMap<String, Held>>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    /// Tasks that live, whether they have a file open or not.
    tasks: usize,
    /// Files that tasks have open, or are about to. One that was left behind may have a file that the next one has, too.
    taken: BTreeMap<Shard, usize>,
    /// Files that followers have open, or are about to: which follower.
    followed: BTreeMap<Shard, u64>,
    /// How many followers there were.
    followers: u64,
    /// Those that delete the connector's files just now.
    purging: usize,
    /// How often that was done.
    epoch: u64,
    wake: Option<Wake>,
    /// Merges stop for whoever waits.
    wanted: Arc<Wanted>,
}

/// A task's hold on its shards, until it is dropped.
pub struct TaskHold {
    holders: Arc<Holders>,
    connector: String,
    shards: Mutex<BTreeSet<Shard>>,
}

/// A follower's hold on its shards, until it is dropped.
pub struct FollowerHold {
    holders: Arc<Holders>,
    connector: String,
    number: u64,
    shards: BTreeSet<Shard>,
    wanted: Arc<Wanted>,
    wake: Option<Wake>,
}

/// No follower has a file of the connector open, until this is dropped.
pub struct PurgeHold<'h> {
    holders: &'h Holders,
    connector: String,
}

impl Holders {
    /// A task of the connector begins.
    pub fn task(self: &Arc<Self>, connector: &str) -> TaskHold {
        self.with(connector, |held| held.tasks += 1);
        TaskHold { holders: self.clone(), connector: connector.to_owned(), shards: Mutex::default() }
    }

    /// A follower of the connector begins.
    pub fn follower(self: &Arc<Self>, connector: &str) -> FollowerHold {
        let (number, wanted) = self.with(connector, |held| {
            held.followers += 1;
            (held.followers, held.wanted.clone())
        });
        FollowerHold {
            holders: self.clone(),
            connector: connector.to_owned(),
            number,
            shards: BTreeSet::new(),
            wanted,
            wake: None,
        }
    }

    /// The connector's files are about to be deleted.
    pub fn purge(&self, connector: &str) -> PurgeHold<'_> {
        self.with(connector, |held| held.purging += 1);
        if !self.wait(connector, |held| held.followed.is_empty()) {
            tracing::warn!(
                connector,
                "a follower of its state does not close its files; they are deleted all the same"
            );
            self.with(connector, |held| held.followed.clear());
        }
        PurgeHold { holders: self, connector: connector.to_owned() }
    }

    /// Whether a task of the connector lives.
    pub fn has_task(&self, connector: &str) -> bool {
        self.with(connector, |held| held.tasks > 0)
    }

    /// Whether the connector's files are being deleted.
    pub fn is_purging(&self, connector: &str) -> bool {
        self.with(connector, |held| held.purging > 0)
    }

    /// Grows when the connector's files are deleted.
    pub fn epoch(&self, connector: &str) -> u64 {
        self.with(connector, |held| held.epoch)
    }

    /// Waits for a follower, which is woken. `false`: in vain.
    fn wait(&self, connector: &str, done: impl Fn(&Held) -> bool) -> bool {
        let (wake, wanted) = self.with(connector, |held| (held.wake.clone(), held.wanted.clone()));
        let _waits = wanted.to_close();
        let deadline = Instant::now() + GIVES_WAY_WITHIN;
        let mut woken = false;
        let mut connectors = self.lock();
        while !connectors.get(connector).is_none_or(&done) {
            if !std::mem::replace(&mut woken, true)
                && let Some(wake) = &wake
            {
                drop(connectors);
                wake();
                connectors = self.lock();
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            connectors = self.changed.wait_timeout(connectors, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn give_back(&self, connector: &str, shards: impl IntoIterator<Item = Shard>, ends: bool) {
        let wake = self.with(connector, |held| {
            for shard in shards {
                let left = held.taken.get(&shard).map_or(0, |count| count.saturating_sub(1));
                if left == 0 {
                    held.taken.remove(&shard);
                } else {
                    held.taken.insert(shard, left);
                }
            }
            held.tasks = held.tasks.saturating_sub(usize::from(ends));
            held.wake.clone()
        });
        // The follower may have it again.
        if let Some(wake) = wake {
            wake();
        }
    }

    fn with<R>(&self, connector: &str, work: impl FnOnce(&mut Held) -> R) -> R {
        work(self.lock().entry(connector.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.connectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Holders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holders").finish_non_exhaustive()
    }
}

impl TaskHold {
    /// These shards are about to be taken: their follower closes all of them while the first is waited for.
    pub fn announce(&self, shards: impl IntoIterator<Item = Shard>) {
        if let Some(wake) = self.mark(shards) {
            wake();
        }
    }

    /// From now on no follower opens them; answers what wakes the one that has some of them open.
    fn mark(&self, shards: impl IntoIterator<Item = Shard>) -> Option<Wake> {
        let mut own = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh: Vec<Shard> = shards.into_iter().filter(|shard| own.insert(*shard)).collect();
        self.holders.with(&self.connector, |held| {
            let followed = fresh.iter().any(|shard| held.followed.contains_key(shard));
            fresh.into_iter().for_each(|shard| *held.taken.entry(shard).or_default() += 1);
            held.wake.clone().filter(|_| followed)
        })
    }

    /// Waits until no follower has the shard's file open; from now on none opens it.
    pub fn take(&self, shard: Shard) {
        // It is woken when it can see that somebody waits.
        _ = self.mark([shard]);
        if !self.holders.wait(&self.connector, |held| !held.followed.contains_key(&shard)) {
            tracing::warn!(
                connector = self.connector,
                shard,
                "a follower of the state does not close its file; it is taken over"
            );
            // Nor is it waited for again.
            self.holders.with(&self.connector, |held| {
                let Held { followed, taken, .. } = held;
                followed.retain(|shard, _| !taken.contains_key(shard));
            });
        }
    }

    /// The task has closed it.
    pub fn give_back(&self, shard: Shard) {
        if self.shards.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard) {
            self.holders.give_back(&self.connector, [shard], false);
        }
    }
}

impl Drop for TaskHold {
    fn drop(&mut self) {
        let shards = std::mem::take(&mut *self.shards.lock().unwrap_or_else(PoisonError::into_inner));
        self.holders.give_back(&self.connector, shards, true);
    }
}

impl FollowerHold {
    /// What ends the follower's waiting, from now on.
    pub fn set_wake(&mut self, wake: Wake) {
        self.holders.with(&self.connector, |held| held.wake = Some(wake.clone()));
        self.wake = Some(wake);
    }

    /// Whoever waits for a file: merges stop for them.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Grows when the connector's files are deleted.
    pub fn epoch(&self) -> u64 {
        self.holders.epoch(&self.connector)
    }

    /// Whether the shard's file may be opened, which it is then; not if a task has it, another follower of this process still has it, or
    /// the files were deleted since `epoch`.
    pub fn open(&mut self, shard: Shard, epoch: u64) -> bool {
        let may = self.holders.with(&self.connector, |held| {
            let free = held.epoch == epoch && held.purging == 0 && !held.taken.contains_key(&shard);
            let may = free && !held.followed.contains_key(&shard);
            may.then(|| held.followed.insert(shard, self.number)).is_some()
        });
        may && self.shards.insert(shard)
    }

    /// Whether it is still to open the file that [`open`](Self::open) gave it: not if somebody has asked for it since, or did not wait any longer.
    pub fn still(&self, shard: Shard, epoch: u64) -> bool {
        self.holders.with(&self.connector, |held| {
            let free = held.epoch == epoch && held.purging == 0 && !held.taken.contains_key(&shard);
            free && held.followed.get(&shard) == Some(&self.number)
        })
    }

    /// Whether the shard's file could be opened.
    pub fn is_free(&self, shard: Shard) -> bool {
        self.holders.with(&self.connector, |held| {
            held.purging == 0 && !held.taken.contains_key(&shard) && !held.followed.contains_key(&shard)
        })
    }

    /// Open files that somebody waits for.
    pub fn asked_for(&self) -> Vec<Shard> {
        self.holders.with(&self.connector, |held| {
            let asked = |shard: &&Shard| held.purging > 0 || held.taken.contains_key(*shard);
            self.shards.iter().filter(asked).copied().collect()
        })
    }

    /// The file is closed.
    pub fn closed(&mut self, shard: Shard) {
        if self.shards.remove(&shard) {
            self.holders.with(&self.connector, |held| {
                // The next follower may have it, where this one was not waited for.
                held.followed.retain(|followed, number| *followed != shard || *number != self.number);
            });
            self.holders.changed.notify_all();
        }
    }
}

impl Drop for FollowerHold {
    fn drop(&mut self) {
        self.holders.with(&self.connector, |held| {
            held.followed.retain(|_, number| *number != self.number);
            // The next follower may have begun.
            held.wake.take_if(|wake| self.wake.as_ref().is_some_and(|own| Arc::ptr_eq(own, wake)));
        });
        self.holders.changed.notify_all();
    }
}

impl Drop for PurgeHold<'_> {
    fn drop(&mut self) {
        self.holders.with(&self.connector, |held| {
            held.purging = held.purging.saturating_sub(1);
            held.epoch += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_follower_is_woken_and_gives_way_to_a_task_until_it_has_ended() {
        let holders = Arc::new(Holders::default());
        let mut follower = holders.follower("c");
        assert!(follower.open(1, 0) && follower.open(2, 0) && !follower.open(2, 0));
        let (woken, wakes) = channel();
        follower.set_wake(Arc::new(move || _ = woken.send(())));
        let taken = thread::spawn({
            let holders = holders.clone();
            move || {
                let task = holders.task("c");
                task.take(2);
                task
            }
        });
        wakes.recv().unwrap();
        assert_eq!(follower.asked_for(), [2]);
        assert!(follower.wanted().any() && !taken.is_finished());
        follower.closed(2);
        let task = taken.join().unwrap();
        assert!(!follower.wanted().any() && !follower.is_free(2) && !follower.open(2, 0));
        // Another connector is nobody's business.
        assert!(holders.follower("d").open(2, 0));
        drop(task);
        wakes.recv().unwrap();
        assert!(follower.is_free(2) && follower.open(2, 0) && !holders.has_task("c"));
    }

    #[test]
    fn a_follower_that_was_not_waited_for_opens_nothing_and_closes_nothing_of_the_next_one() {
        let holders = Arc::new(Holders::default());
        let (mut hangs, task) = (holders.follower("c"), holders.task("c"));
        assert!(hangs.open(1, 0) && hangs.open(2, 0) && hangs.open(3, 0) && hangs.still(1, 0));
        task.announce([1, 2]);
        assert!(!hangs.still(1, 0) && hangs.asked_for() == [1, 2]);
        let begun = Instant::now();
        (task.take(1), task.take(2));
        // Once for both.
        assert!((GIVES_WAY_WITHIN..GIVES_WAY_WITHIN * 2).contains(&begun.elapsed()));
        drop(task);
        assert!(!hangs.still(1, 0) && hangs.still(3, 0));
        let mut next = holders.follower("c");
        assert!(next.open(1, 0) && !next.open(3, 0));
        hangs.closed(1);
        drop(hangs);
        assert!(next.still(1, 0) && next.is_free(3) && !next.is_free(1));
    }

    #[test]
    fn a_task_that_was_left_behind_does_not_give_back_what_the_next_one_has() {
        let holders = Arc::new(Holders::default());
        let (former, task) = (holders.task("c"), holders.task("c"));
        former.take(1);
        task.take(1);
        drop(former);
        assert!(!holders.follower("c").open(1, 0));
        task.give_back(1);
        assert!(holders.follower("c").open(1, 0) && holders.has_task("c"));
    }

    #[test]
    fn files_that_are_deleted_are_closed_first_and_not_opened_by_what_was_known_before() {
        let holders = Arc::new(Holders::default());
        let mut follower = holders.follower("c");
        assert!(follower.open(1, 0));
        thread::scope(|scope| {
            let purged = scope.spawn(|| drop(holders.purge("c")));
            while follower.asked_for().is_empty() {
                thread::yield_now();
            }
            assert!(!follower.open(3, 0));
            follower.closed(1);
            purged.join().unwrap();
        });
        assert!(!follower.open(1, 0) && follower.epoch() == 1 && follower.open(1, 1));
    }
}
