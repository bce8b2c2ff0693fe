//! What a follower is to do: said by the herder at any time, and looked at by the follower's thread between two steps.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::Waker;
use crate::worker::{FollowSpec, StandbyProgress};

/// Shared by the two.
pub struct Wish {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    spec: Option<Arc<FollowSpec>>,
    /// Somebody wants something, and nobody has looked since.
    woken: bool,
    /// Ends the waiting for records.
    waker: Option<Waker>,
    progress: StandbyProgress,
}

impl Wish {
    /// To be followed.
    pub fn new(spec: FollowSpec) -> Self {
        let progress = StandbyProgress { tasks: spec.tasks.len() as u64, ..StandbyProgress::default() };
        let inner = Inner { spec: Some(Arc::new(spec)), woken: false, waker: None, progress };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// Something else from now on; `None`: the thread ends.
    pub fn set(&self, spec: Option<FollowSpec>) {
        {
            let mut inner = self.lock();
            inner.progress.tasks = spec.as_ref().map_or(0, |spec| spec.tasks.len() as u64);
            inner.spec = spec.map(Arc::new);
        }
        self.wake();
    }

    /// What is to be followed now.
    pub fn spec(&self) -> Option<Arc<FollowSpec>> {
        self.lock().spec.clone()
    }

    /// Ends the thread's waiting, now or the next time.
    pub fn wake(&self) {
        let waker = {
            let mut inner = self.lock();
            inner.woken = true;
            inner.waker.clone()
        };
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker();
        }
    }

    /// What [`wake`](Self::wake) calls besides.
    pub fn set_waker(&self, waker: Option<Waker>) {
        self.lock().waker = waker;
    }

    /// Waits until woken, at most so long.
    pub fn wait(&self, time: Duration) {
        let inner = self.lock();
        let waited = self.changed.wait_timeout_while(inner, time, |inner| !inner.woken);
        waited.unwrap_or_else(PoisonError::into_inner).0.woken = false;
    }

    /// Changes what is shown.
    pub fn show(&self, change: impl FnOnce(&mut StandbyProgress)) {
        change(&mut self.lock().progress);
    }

    /// What is shown.
    pub fn progress(&self) -> StandbyProgress {
        self.lock().progress.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
