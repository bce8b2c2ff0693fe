//! What was received and waits for the task: bounded by bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tributary_sdk::Record;

/// A request with its records.
pub(super) struct Received {
    pub records: Vec<Record>,
    pub bytes: usize,
    /// Told when all of them are safely in the log; dropped where that is not known: the sender has to send again.
    pub durable: oneshot::Sender<()>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Received>,
    /// Of requests that wait for their answers, taken ones included.
    bytes: usize,
    closed: bool,
}

impl State {
    /// Drops the requests whose senders wait no longer: they were answered that nothing is known of their records, or went away.
    fn drop_dead(&mut self) {
        let Self { waiting, bytes, .. } = self;
        waiting.retain(|received| {
            let waits = !received.durable.is_closed();
            *bytes -= if waits { 0 } else { received.bytes };
            waits
        });
    }
}

/// Between the listener's threads and the task's.
pub(super) struct Inbox {
    most_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Inbox {
    pub fn new(most_bytes: usize) -> Self {
        Self { most_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request; gives it back when there is no room, or nobody takes any more.
    pub fn push(&self, received: Received) -> Result<(), Received> {
        let full = |state: &State| state.bytes > 0 && state.bytes + received.bytes > self.most_bytes;
        let mut state = self.lock();
        if full(&state) {
            state.drop_dead();
        }
        if state.closed || full(&state) {
            return Err(received);
        }
        state.bytes += received.bytes;
        state.waiting.push_back(received);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// What is there, up to so many records and bytes, waiting for the first at most `timeout`.
    pub fn take(&self, records: usize, bytes: usize, timeout: Duration) -> Vec<Received> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            // What has got its answer by now will be sent again: taken as well, it would come twice.
            state.drop_dead();
            if !state.waiting.is_empty() || state.closed {
                break;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut taken = Vec::new();
        let (mut some_records, mut some_bytes) = (0, 0);
        while let Some(first) = state.waiting.front() {
            some_records += first.records.len();
            some_bytes += first.bytes;
            if !taken.is_empty() && (some_records > records || some_bytes > bytes) {
                break;
            }
            taken.extend(state.waiting.pop_front());
        }
        taken
    }

    /// Requests of so many bytes have their answers.
    pub fn settled(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Takes nothing more, and ends waiting.
    pub fn close(&self) -> Vec<Received> {
        let mut state = self.lock();
        state.closed = true;
        let rest = state.waiting.drain(..).collect();
        drop(state);
        self.changed.notify_all();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(bytes: usize) -> (Received, oneshot::Receiver<()>) {
        let (durable, told) = oneshot::channel();
        (Received { records: vec![Record::text("x")], bytes, durable }, told)
    }

    #[test]
    fn what_nobody_waits_for_is_neither_kept_nor_taken() {
        let inbox = Inbox::new(100);
        let (first, gone) = received(60);
        let (second, waits) = received(30);
        assert!(inbox.push(first).is_ok() && inbox.push(second).is_ok());
        let (third, _waits) = received(40);
        let Err(third) = inbox.push(third) else { panic!("there is no room") };
        drop(gone);
        assert!(inbox.push(third).is_ok(), "there is room again");
        drop(waits);
        let taken = inbox.take(10, 1000, Duration::from_secs(60));
        assert_eq!(taken.iter().map(|received| received.bytes).collect::<Vec<_>>(), [40]);
        inbox.settled(40);
        assert_eq!(inbox.lock().bytes, 0);
        assert!(inbox.take(10, 1000, Duration::ZERO).is_empty());
    }
}
