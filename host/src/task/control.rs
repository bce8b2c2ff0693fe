//! What the worker and a task's threads share: orders in one direction, progress in the other.
//!
//! Stopping is cooperative (`stop`: finish what is in hand), and fenced at the deadline (`fence`: a thread that still runs
//! may neither produce nor commit, whenever it comes back).

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::error_counters::ErrorCounters;
use super::lease::Lease;
use super::meters::Meters;
use crate::config::Secrets;
use crate::log::{TopicPartition, Waker};
use crate::plugin::handle::Canceller;
use crate::worker::{StateProgress, TaskProgress};

/// How often a task whose worker's lease has run out looks whether it runs again.
const LEASE_CHECK: Duration = Duration::from_millis(50);

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// Orders to a task.
#[derive(Default)]
struct Orders {
    stop: bool,
    paused: bool,
    canceller: Option<Canceller>,
    wakers: Vec<Waker>,
}

/// Shared by a task's threads and the worker.
#[derive(Default)]
pub struct TaskControl {
    orders: Mutex<Orders>,
    ordered: Condvar,
    stopping: AtomicBool,
    fenced: AtomicBool,
    commit_requested: AtomicBool,
    lease: Lease,
    secrets: OnceLock<Secrets>,
    /// What the task has done.
    pub counters: Counters,
}

impl TaskControl {
    /// A control whose task begins paused, or not.
    pub fn new(paused: bool) -> Self {
        let control = Self::default();
        control.lock().paused = paused;
        control
    }

    /// The same, for a worker that may write only as long as its group counts it in.
    pub fn with_lease(mut self, lease: Lease) -> Self {
        self.lease = lease;
        self
    }

    /// What no message of the task may show; told once, when its config is resolved.
    pub fn set_secrets(&self, secrets: Secrets) {
        _ = self.secrets.set(secrets);
    }

    /// What no message of the task may show.
    pub fn secrets(&self) -> &Secrets {
        static NONE: LazyLock<Secrets> = LazyLock::new(Secrets::default);
        self.secrets.get().unwrap_or(&NONE)
    }

    /// What interrupts the plugin's current call; called at once if the task is already stopping.
    pub fn set_canceller(&self, canceller: Canceller) {
        let mut orders = self.lock();
        let late = orders.stop.then(|| canceller.clone());
        orders.canceller = Some(canceller);
        drop(orders);
        if let Some(cancel) = late {
            cancel();
        }
    }

    /// Orders the task to come to an end and interrupts the plugin.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let mut orders = self.lock();
        orders.stop = true;
        let canceller = orders.canceller.clone();
        drop(orders);
        self.wake();
        if let Some(cancel) = canceller {
            cancel();
        }
    }

    /// From now on the task may write nothing more.
    pub fn fence(&self) {
        self.fenced.store(true, Ordering::Release);
        self.stop();
    }

    /// Pauses or resumes.
    pub fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
        self.wake();
    }

    /// Calls `waker` whenever a thread of the task that waits for records has something else to look at.
    pub fn add_waker(&self, waker: Waker) {
        self.lock().wakers.push(waker);
    }

    /// The task waits for nothing any more.
    pub fn clear_wakers(&self) {
        self.lock().wakers.clear();
    }

    /// There is something to look at, beside records.
    pub fn wake(&self) {
        let wakers = self.lock().wakers.clone();
        self.ordered.notify_all();
        wakers.iter().for_each(|wake| wake());
    }

    /// Whether the task has to come to an end.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether the task may write nothing more.
    pub fn fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Whether the task may write now: it is not fenced, and its worker's lease runs.
    pub fn may_write(&self) -> bool {
        !self.fenced() && self.lease.runs()
    }

    /// Waits until the task may write. Answers `false` when it has to end without writing any more.
    pub fn wait_for_lease(&self) -> bool {
        while !self.may_write() {
            if self.stopping() {
                return false;
            }
            self.wait(LEASE_CHECK);
        }
        true
    }

    /// Whether the task is to be paused.
    pub fn paused(&self) -> bool {
        self.lock().paused
    }

    /// Sleeps; returns early, with `true`, when the task has to come to an end.
    pub fn wait(&self, time: Duration) -> bool {
        self.wait_while(time, |orders| !orders.stop);
        self.stopping()
    }

    /// Sleeps while the task is paused, at most for `time`.
    pub fn wait_while_paused(&self, time: Duration) {
        self.wait_while(time, |orders| orders.paused && !orders.stop);
    }

    /// Asks for a commit of offsets soon.
    pub fn request_commit(&self) {
        self.commit_requested.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether a commit was asked for since the last call.
    pub fn take_commit_request(&self) -> bool {
        self.commit_requested.swap(false, Ordering::AcqRel)
    }

    fn wait_while(&self, time: Duration, condition: impl Fn(&Orders) -> bool) {
        let deadline = Instant::now() + time;
        let mut orders = self.lock();
        while condition(&orders) {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return;
            };
            orders = self.ordered.wait_timeout(orders, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters of one task, updated once a batch.
#[derive(Default)]
pub struct Counters {
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_in: AtomicU64,
    records_failed: AtomicU64,
    records_filtered: AtomicU64,
    records_late: AtomicU64,
    last_record_ms: AtomicI64,
    last_commit_ms: AtomicI64,
    /// Plus one; 0: not known.
    lag: AtomicI64,
    parked: AtomicBool,
    /// What is being tried again, and why.
    retrying: Mutex<Option<String>>,
    /// Keyed state, where transforms keep some.
    state: Mutex<Option<std::sync::Weak<crate::state::TaskState>>>,
    /// What failed.
    pub errors: ErrorCounters,
    /// How long things take, and how large they are.
    pub meters: Meters,
}

impl Counters {
    /// Records came in.
    pub fn came_in(&self, records: usize, bytes: usize) {
        self.records_in.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_record_ms.store(now_ms(), Ordering::Relaxed);
        self.meters.batch(records);
    }

    /// Records were acknowledged or accepted.
    pub fn went_out(&self, records: usize) {
        self.records_out.fetch_add(records as u64, Ordering::Relaxed);
    }

    /// Records failed and were skipped or dead-lettered.
    pub fn failed(&self, records: usize) {
        self.records_failed.fetch_add(records as u64, Ordering::Relaxed);
    }

    /// Records were dropped by transforms.
    pub fn filtered(&self, records: usize) {
        self.records_filtered.fetch_add(records as u64, Ordering::Relaxed);
    }

    /// Records came too late for stateful transforms, whatever became of them.
    pub fn late(&self, records: u64) {
        if records > 0 {
            self.records_late.fetch_add(records, Ordering::Relaxed);
        }
    }

    /// Whose state status and metrics tell of.
    pub fn set_state(&self, state: &std::sync::Arc<crate::state::TaskState>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::sync::Arc::downgrade(state));
    }

    /// Offsets were committed, and it took so long.
    pub fn committed(&self, took: Duration) {
        self.meters.committed(took, true);
        self.last_commit_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// How many partitions a sink has, and the records behind the end of each, where known.
    pub fn set_partitions(&self, partitions: usize, lag: &[(TopicPartition, i64)]) {
        self.meters.partitions(partitions, lag.iter().map(|(_, lag)| *lag));
        let behind = if lag.is_empty() { 0 } else { lag.iter().map(|(_, lag)| lag).sum::<i64>() + 1 };
        self.lag.store(behind, Ordering::Relaxed);
    }

    /// Whether a sink has given up its client while there is nothing to read.
    pub fn set_parked(&self, parked: bool) {
        self.parked.store(parked, Ordering::Relaxed);
    }

    /// Something is being tried again, with its reason; or no longer.
    pub fn set_retrying(&self, reason: Option<&str>) {
        let mut retrying = self.retrying.lock().unwrap_or_else(PoisonError::into_inner);
        if retrying.as_deref() != reason {
            *retrying = reason.map(str::to_owned);
        }
    }

    /// A consistent enough copy for status and metrics.
    pub fn progress(&self) -> TaskProgress {
        let time = |at: &AtomicI64| Some(at.load(Ordering::Relaxed)).filter(|&ms| ms > 0);
        TaskProgress {
            records_in: self.records_in.load(Ordering::Relaxed),
            records_out: self.records_out.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            records_failed: self.records_failed.load(Ordering::Relaxed),
            records_filtered: self.records_filtered.load(Ordering::Relaxed),
            records_late: self.records_late.load(Ordering::Relaxed),
            state: {
                let state =
                    self.state.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|s| s.upgrade());
                state.map(|state| StateProgress::of(&state.status()))
            },
            last_record_ms: time(&self.last_record_ms),
            last_commit_ms: time(&self.last_commit_ms),
            lag: time(&self.lag).map(|lag| lag - 1),
            parked: self.parked.load(Ordering::Relaxed),
            retrying: self.retrying.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            errors: self.errors.totals(),
            readings: self.meters.read(),
        }
    }
}
