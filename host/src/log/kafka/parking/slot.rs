//! What passes between a parked consumer and the parking lot.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::super::super::Sleeper;
use super::super::batch_calls::QueueWaker;

/// What the lot has to say to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    /// There is something to read, or only a real client can tell what is wrong.
    Wanted,
    /// The group rebalances: give up the partitions and join.
    Rebalance,
    /// The subscribed topics are not what they were when the partitions were given out: the group has to rebalance.
    TopicsChanged,
    /// The group does not know the member any more, for this reason.
    Lost(String),
    /// The lot cannot keep the membership, for this reason, which says nothing against the member: give up the partitions and join.
    Refused(String),
    /// Another consumer has the `group.instance.id`.
    Fenced,
}

impl Signal {
    /// Whether it ends the membership, or the lot's part in it, so that nothing that comes later matters.
    fn ends(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Refused(_) | Self::Fenced)
    }
}

#[derive(Default)]
struct Inside {
    /// Which guest it was admitted as.
    admitted: Option<u64>,
    signal: Option<(u64, Signal)>,
    woken: bool,
    /// Of the client, while there is one.
    queue: Option<Arc<QueueWaker>>,
    /// Wakes whoever sleeps instead of waiting.
    sleeping: Option<Box<dyn FnOnce() + Send>>,
}

/// Shared by a consumer, those who wake it, and the lot.
#[derive(Default)]
pub(super) struct Slot {
    inside: Mutex<Inside>,
    changed: Condvar,
}

impl Slot {
    /// The client whose waiting has to be ended, or none.
    pub(super) fn set_queue(&self, queue: Option<Arc<QueueWaker>>) {
        self.lock().queue = queue;
    }

    /// Somebody has something else for the consumer's owner to look at.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.rouse();
    }

    /// Whether it was woken since the last call.
    pub(super) fn take_woken(&self) -> bool {
        std::mem::take(&mut self.lock().woken)
    }

    /// The lot keeps the membership and watches all that it was asked to. Whoever waits is not woken before [`Slot::rouse`].
    pub(super) fn admit(&self, guest: u64) {
        self.lock().admitted = Some(guest);
    }

    /// Whether this guest was admitted.
    pub(super) fn admitted(&self, guest: u64) -> bool {
        self.lock().admitted == Some(guest)
    }

    /// What is to be watched has changed.
    pub(super) fn dismiss(&self) {
        self.lock().admitted = None;
    }

    /// Something has happened to a guest. What ends the membership is not overwritten, and nothing by what only ends the waiting.
    /// Whoever waits is not woken before [`Slot::rouse`].
    pub(super) fn signal(&self, guest: u64, signal: Signal) {
        let mut inside = self.lock();
        let keep =
            inside.signal.as_ref().is_some_and(|(of, had)| *of == guest && (signal == Signal::Wanted || had.ends()));
        if !keep {
            inside.signal = Some((guest, signal));
        }
    }

    /// What has happened to this guest since the last call.
    pub(super) fn take_signal(&self, guest: u64) -> Option<Signal> {
        let (of, signal) = self.lock().signal.take()?;
        (of == guest).then_some(signal)
    }

    /// Whether there is something to take.
    pub(super) fn has_signal(&self) -> bool {
        self.lock().signal.is_some()
    }

    /// Waits until something is told, at most until `deadline`.
    pub(super) fn wait(&self, deadline: Instant) {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let waits = |inside: &mut Inside| !inside.woken && inside.signal.is_none();
        drop(self.changed.wait_timeout_while(self.lock(), timeout, waits));
    }

    /// Wakes whoever waits or sleeps, to look at what there is. May start the consumer's thread, or end the consumer where none can be
    /// started, which then leaves the lot: not under a lock of the lot's.
    pub(super) fn rouse(&self) {
        let mut inside = self.lock();
        let queue = inside.queue.clone();
        let wake = inside.sleeping.take();
        if wake.is_some() {
            // This is how it is told.
            inside.woken = false;
        }
        drop(inside);
        self.changed.notify_all();
        if let Some(wake) = wake {
            wake();
        }
        if let Some(queue) = queue {
            queue.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sleeper for Slot {
    fn sleep(&self, wake: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        let mut inside = self.lock();
        if std::mem::take(&mut inside.woken) || inside.signal.is_some() {
            return Some(wake);
        }
        inside.sleeping = Some(wake);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_of_an_earlier_guest_is_none() {
        let slot = Slot::default();
        slot.signal(1, Signal::Rebalance);
        assert_eq!(slot.take_signal(2), None);
        slot.signal(2, Signal::Lost("gone".to_owned()));
        slot.signal(2, Signal::Wanted);
        assert_eq!(slot.take_signal(2), Some(Signal::Lost("gone".to_owned())));
        slot.signal(3, Signal::Fenced);
        slot.signal(3, Signal::TopicsChanged);
        assert_eq!(slot.take_signal(3), Some(Signal::Fenced));
        slot.admit(2);
        assert!(slot.admitted(2) && !slot.admitted(3));
        slot.dismiss();
        assert!(!slot.admitted(2));
    }

    #[test]
    fn whoever_sleeps_is_woken_once_and_at_once_if_there_is_something() {
        let slot = Slot::default();
        let woken = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let wake = || {
            let woken = woken.clone();
            Box::new(move || _ = woken.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        };
        slot.wake();
        slot.sleep(wake()).expect("woken before")();
        assert!(slot.sleep(wake()).is_none());
        slot.signal(1, Signal::Wanted);
        slot.rouse();
        slot.wake();
        assert_eq!(woken.load(std::sync::atomic::Ordering::Relaxed), 2);
        slot.sleep(wake()).expect("woken meanwhile")();
        assert!(slot.sleep(wake()).is_some());
        assert_eq!(slot.take_signal(1), Some(Signal::Wanted));
        assert!(slot.sleep(wake()).is_none());
    }

    #[test]
    fn whoever_is_woken_does_not_wait() {
        let slot = Slot::default();
        slot.wake();
        slot.wait(Instant::now() + std::time::Duration::from_secs(3600));
        assert!(slot.take_woken() && !slot.take_woken());
    }
}
