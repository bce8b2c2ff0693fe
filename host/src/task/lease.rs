//! Until when a worker of a group may write.
//!
//! A worker that was paused longer than its session, or cannot reach the coordinator, has lost its tasks to other workers
//! before it knows. Its tasks therefore look once a batch whether the lease still runs; when it has run out they wait, writing
//! nothing, until the worker is told that it is a member again or stops them.

use std::sync::Arc;

/// Whether a worker may write now. Asking costs an atomic load and a look at the clock.
#[derive(Clone, Default)]
pub struct Lease(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Lease {
    /// The lease of a worker without a group: it never runs out.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// A lease that runs as long as `runs` answers so.
    pub fn new(runs: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(runs)))
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.0.as_ref().is_none_or(|runs| runs())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::task::control::TaskControl;

    #[test]
    fn a_task_waits_without_lease_and_goes_on_with_it() {
        let runs = Arc::new(AtomicBool::new(false));
        let lease = {
            let runs = runs.clone();
            Lease::new(move || runs.load(Ordering::Relaxed))
        };
        let control = Arc::new(TaskControl::new(false).with_lease(lease));
        assert!(!control.may_write());
        let waiting = {
            let control = control.clone();
            std::thread::spawn(move || control.wait_for_lease())
        };
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        runs.store(true, Ordering::Relaxed);
        assert!(waiting.join().unwrap());
        runs.store(false, Ordering::Relaxed);
        control.stop();
        assert!(!control.wait_for_lease());
        runs.store(true, Ordering::Relaxed);
        // Stopping in order may still write: the last commit.
        assert!(control.wait_for_lease());
        control.fence();
        assert!(!control.may_write());
    }
}
