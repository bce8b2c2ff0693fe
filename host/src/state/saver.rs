//! The thread that saves committed layers to SQLite, some way behind the commits.
//!
//! Waiting a little pays: an entry that is written in many layers, or is gone soon, is written once or never. What waits is bounded by
//! time and bytes; [`Saver::save`] blocks when SQLite cannot keep up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::file::{Save, Wanted, Writer, latest};
use super::layer::{Positions, ShardChanges};
use super::{Shard, StateError};
use crate::task::control::now_ms;

/// Layers are saved at the latest so long after the first of them.
const DELAY: Duration = Duration::from_secs(2);

enum Job {
    Open(Shard, Writer, Arc<AtomicU64>),
    Save {
        changes: Vec<Arc<ShardChanges>>,
        positions: Positions,
    },
    /// The shard's file has everything that the changelog has.
    Restored(Shard),
    Close(Shard, SyncSender<()>),
    Sync(SyncSender<()>),
    /// Somebody needs the memory.
    Hurry,
    /// As if the process died here.
    #[cfg(test)]
    Crash,
}

/// Shared by the thread and whoever waits for it.
#[derive(Default)]
struct Progress {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Whoever waits for what the thread does only between merges.
    wanted: Wanted,
}

#[derive(Default)]
struct Waiting {
    bytes: usize,
    error: Option<StateError>,
}

/// The thread's handle. Dropping it saves what was committed.
pub struct Saver {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
    max_bytes: usize,
}

impl Saver {
    /// Starts the thread. Up to `max_bytes` of changes wait.
    pub fn start(name: &str, max_bytes: usize) -> Result<Self, StateError> {
        let (jobs, queue) = channel();
        let progress = Arc::new(Progress::default());
        let thread = std::thread::Builder::new()
            .name(format!("state-{name}"))
            .spawn({
                let progress = progress.clone();
                move || {
                    Saving { progress, writers: BTreeMap::new(), pending: Pending::default(), eager: max_bytes / 4 }
                        .run(&queue)
                }
            })
            .map_err(|error| StateError::new(format!("cannot start the thread that saves state: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), progress, max_bytes })
    }

    /// Hands over a shard's file; answers with the number of its last layer that is saved, from now on.
    pub fn open(&self, shard: Shard, writer: Writer) -> Arc<AtomicU64> {
        let saved = Arc::new(AtomicU64::new(0));
        self.send(Job::Open(shard, writer, saved.clone()));
        saved
    }

    /// Everything of the changelog is handed over. Until this is told, the file keeps its age.
    pub fn restored(&self, shard: Shard) {
        self.send(Job::Restored(shard));
    }

    /// Saves a committed layer, later. Waits for room. The error is of an earlier one.
    pub fn save(&self, changes: Vec<Arc<ShardChanges>>, positions: Positions) -> Result<(), StateError> {
        let bytes: usize = changes.iter().map(|changes| changes.bytes()).sum();
        {
            let mut waiting = self.lock();
            let _room = (waiting.bytes > self.max_bytes).then(|| self.progress.wanted.to_save());
            while waiting.bytes > self.max_bytes && waiting.error.is_none() {
                waiting = self.progress.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(error) = &waiting.error {
                return Err(error.clone());
            }
            waiting.bytes += bytes;
        }
        self.send(Job::Save { changes, positions });
        Ok(())
    }

    /// Saves soon.
    pub fn hurry(&self) {
        self.send(Job::Hurry);
    }

    /// Returns when everything handed over is saved.
    pub fn sync(&self) -> Result<(), StateError> {
        let (done, answer) = sync_channel(1);
        let _waits = self.progress.wanted.to_save();
        self.send(Job::Sync(done));
        let answered = answer.recv();
        match (&self.lock().error, answered) {
            (Some(error), _) => Err(error.clone()),
            (None, Err(_)) => Err(StateError::new("the thread that saves state has ended")),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Saves and closes a shard's file.
    pub fn close(&self, shard: Shard) {
        let (done, answer) = sync_channel(1);
        let _waits = self.progress.wanted.to_close();
        self.send(Job::Close(shard, done));
        let _ = answer.recv();
    }

    /// The thread ends without saving what waits.
    #[cfg(test)]
    pub fn crash(&self) {
        self.send(Job::Crash);
    }

    fn send(&self, job: Job) {
        // The thread ends only with this handle; if it panicked, `sync` and `save` tell.
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            self.progress.fail(StateError::new("the thread that saves state has ended"));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.progress.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        let _waits = self.progress.wanted.to_close();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Progress {
    fn fail(&self, error: StateError) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.error.get_or_insert(error);
        self.changed.notify_all();
    }
}

/// Committed and not saved.
#[derive(Default)]
struct Pending {
    shards: BTreeMap<Shard, (Vec<Arc<ShardChanges>>, Option<i64>)>,
    bytes: usize,
    since: Option<Instant>,
}

struct Open {
    writer: Writer,
    /// Number of the last layer that is saved.
    saved: Arc<AtomicU64>,
    /// Whether the file is being brought up to the changelog's end.
    restoring: bool,
    /// Whether segments may have come together that are to be merged.
    untidy: bool,
}

struct Saving {
    progress: Arc<Progress>,
    writers: BTreeMap<Shard, Open>,
    pending: Pending,
    /// Bytes that are worth a save.
    eager: usize,
}

impl Saving {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let wait =
                self.pending.since.map_or(Duration::from_secs(3600), |since| DELAY.saturating_sub(since.elapsed()));
            let untidy = !wait.is_zero() && self.writers.values().any(|open| open.untidy);
            // Whoever waits has to come first, and its order may be on the way still.
            let pause = if self.progress.wanted.any() { Duration::from_millis(1) } else { Duration::ZERO };
            let wait = if untidy { wait.min(pause) } else { wait };
            match queue.recv_timeout(wait) {
                Ok(Job::Open(shard, writer, saved)) => {
                    _ = self.writers.insert(shard, Open { writer, saved, restoring: true, untidy: false });
                }
                Ok(Job::Restored(shard)) => self.restored(shard),
                Ok(Job::Save { changes, positions }) => self.add(changes, positions),
                Ok(Job::Close(shard, done)) => {
                    self.flush();
                    if let Some(open) = self.writers.remove(&shard) {
                        open.writer.close();
                    }
                    let _ = done.send(());
                }
                Ok(Job::Sync(done)) => {
                    self.flush();
                    let _ = done.send(());
                }
                Ok(Job::Hurry) => self.flush(),
                #[cfg(test)]
                Ok(Job::Crash) => return,
                // Nobody wants anything.
                Err(RecvTimeoutError::Timeout) if untidy => self.tidy(),
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.pending.bytes > self.eager {
                self.flush();
            }
        }
        self.flush();
        std::mem::take(&mut self.writers).into_values().for_each(|open| open.writer.close());
    }

    fn restored(&mut self, shard: Shard) {
        if let Some(open) = self.writers.get_mut(&shard) {
            open.restoring = false;
            // Also if there was nothing to save: its age begins anew.
            self.pending.shards.entry(shard).or_default();
            self.pending.since.get_or_insert_with(Instant::now);
        }
    }

    fn add(&mut self, changes: Vec<Arc<ShardChanges>>, positions: Positions) {
        let pending = &mut self.pending;
        pending.since.get_or_insert_with(Instant::now);
        for (shard, next) in positions.changelog {
            pending.shards.entry(shard).or_default().1 = Some(next);
        }
        for changes in changes {
            pending.bytes += changes.bytes();
            pending.shards.entry(changes.shard).or_default().0.push(changes);
        }
    }

    /// Merges segments of one shard.
    fn tidy(&mut self) {
        let Some((shard, open)) = self.writers.iter_mut().find(|(_, open)| open.untidy) else { return };
        // There may be more to merge.
        open.untidy = open.writer.tidy(&self.progress.wanted).unwrap_or_else(|error| {
            // It costs nothing but time, and the next save tells of it.
            tracing::debug!(shard, "{error}");
            false
        });
    }

    fn flush(&mut self) {
        let Pending { shards, bytes, since } = std::mem::take(&mut self.pending);
        if since.is_none() {
            return;
        }
        for (shard, (changes, next_offset)) in shards {
            let Some(Open { writer, saved, restoring, untidy }) = self.writers.get_mut(&shard) else { continue };
            let rows = latest(changes.iter().map(|changes| (&changes.keys, &changes.values)));
            match writer.save(&Save { rows: &rows, next_offset, now_ms: (!*restoring).then(now_ms) }) {
                Ok(()) => {
                    if let Some(last) = changes.last() {
                        saved.store(last.number, Ordering::Release);
                    }
                    *untidy = true;
                }
                Err(error) => {
                    // Nothing later may be saved without this: the file has to be a state that was.
                    self.writers.remove(&shard);
                    tracing::warn!(shard, "{error}");
                    self.progress.fail(error);
                }
            }
        }
        let mut waiting = self.progress.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        self.progress.changed.notify_all();
    }
}
