//! What was received, until it is safe: first waiting for the task, then taken by one of its polls. Bounded by bytes.
//!
//! Promises: a sender is told that its records are durable only when the poll that took them is safe. Polls take what has come
//! together while the ones before them were being written, as a log commits together what waits for its disk; a request waits for
//! that at most [`PATIENCE`], so that a log far away is kept busy, too.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tributary_sdk::Record;

/// Polls that may be on their way to the log while others wait to come together: one that is written, one that is ready.
const AHEAD: usize = 2;
/// How long a request may wait for others.
const PATIENCE: Duration = Duration::from_millis(5);

/// A request with its records.
pub(super) struct Received {
    pub records: Vec<Record>,
    pub bytes: usize,
    /// Told when all of them are safely in the log; dropped where that is not known: the sender has to send again.
    pub durable: oneshot::Sender<()>,
}

/// The requests of one poll.
struct Poll {
    number: u64,
    since: Instant,
    bytes: usize,
    answers: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Instant, Received)>,
    taken: VecDeque<Poll>,
    /// The number of the last poll that took something.
    polls: u64,
    /// Of requests that wait for their answers, taken ones included.
    bytes: usize,
    closed: bool,
}

impl State {
    /// Drops the requests whose senders wait no longer: they were answered that nothing is known of their records, or went away.
    fn drop_dead(&mut self) {
        let Self { waiting, bytes, .. } = self;
        waiting.retain(|(_, received)| {
            let waits = !received.durable.is_closed();
            *bytes -= if waits { 0 } else { received.bytes };
            waits
        });
    }

    /// How long what waits is to wait for more; `None`: nothing waits.
    fn patience(&self) -> Option<Duration> {
        let (since, _) = self.waiting.front()?;
        let over = self.closed || self.taken.len() < AHEAD;
        Some(if over { Duration::ZERO } else { PATIENCE.saturating_sub(since.elapsed()) })
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
        state.waiting.push_back((Instant::now(), received));
        // Further ones find the task awake, or waiting for time to pass.
        let wakes = state.waiting.len() == 1;
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// A poll: its number and what is there, up to so many records and bytes, waiting at most `timeout`.
    pub fn take(&self, records: usize, bytes: usize, timeout: Duration) -> Option<(u64, Vec<Vec<Record>>)> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            // What has got its answer by now will be sent again: taken as well, it would come twice.
            state.drop_dead();
            let patience = state.patience();
            if patience == Some(Duration::ZERO) || state.closed {
                break;
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            let wait = patience.map_or(left, |patience| patience.min(left));
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut taken = Vec::new();
        let mut poll = Poll { number: state.polls + 1, since: Instant::now(), bytes: 0, answers: Vec::new() };
        let mut some_records = 0;
        while let Some((_, first)) = state.waiting.front() {
            some_records += first.records.len();
            if !taken.is_empty() && (some_records > records || poll.bytes + first.bytes > bytes) {
                break;
            }
            let (_, first) = state.waiting.pop_front()?;
            poll.bytes += first.bytes;
            poll.answers.push(first.durable);
            taken.push(first.records);
        }
        if taken.is_empty() {
            return None;
        }
        state.polls = poll.number;
        state.taken.push_back(poll);
        Some((state.polls, taken))
    }

    /// The polls up to this one are safe: their senders are told.
    pub fn safe(&self, until: u64) {
        let mut answers = Vec::new();
        let mut state = self.lock();
        while let Some(done) = state.taken.pop_front_if(|poll| poll.number <= until) {
            state.bytes = state.bytes.saturating_sub(done.bytes);
            answers.extend(done.answers);
        }
        drop(state);
        self.changed.notify_one();
        for answer in answers {
            // The sender may have gone.
            let _ = answer.send(());
        }
    }

    /// Since when the oldest poll that is not known to be safe was taken.
    pub fn oldest(&self) -> Option<Instant> {
        self.lock().taken.front().map(|poll| poll.since)
    }

    /// Takes nothing more, ends waiting, and tells those that wait to be taken that they have to send again.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let rest = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        drop(rest);
    }

    /// What is not known to be safe by now may or may not be: its senders have to send again.
    pub fn give_up(&self) {
        let rest = std::mem::take(&mut self.lock().taken);
        drop(rest);
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
        let (poll, taken) = inbox.take(10, 1000, Duration::from_secs(60)).unwrap();
        assert_eq!((poll, taken.len(), inbox.lock().bytes), (1, 1, 40));
        inbox.safe(1);
        assert_eq!(inbox.lock().bytes, 0);
        assert!(inbox.take(10, 1000, Duration::ZERO).is_none());
    }

    #[test]
    fn senders_are_told_when_their_poll_is_safe_and_not_before() {
        let inbox = Inbox::new(1000);
        let mut told: Vec<_> = (0..3)
            .map(|number| {
                let (received, told) = received(10);
                assert!(inbox.push(received).is_ok());
                assert_eq!(inbox.take(1, 1000, Duration::from_secs(60)).unwrap().0, number + 1);
                told
            })
            .collect();
        inbox.safe(2);
        assert!(told[0].try_recv().is_ok() && told[1].try_recv().is_ok());
        assert_eq!(told[2].try_recv(), Err(oneshot::error::TryRecvError::Empty));
        inbox.give_up();
        assert_eq!(told[2].try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn requests_come_together_while_polls_are_on_their_way() {
        let inbox = Inbox::new(1000);
        let mut told = Vec::new();
        let mut push = || {
            let (received, waits) = received(10);
            assert!(inbox.push(received).is_ok());
            told.push(waits);
        };
        for number in 1..=AHEAD as u64 {
            push();
            assert_eq!(inbox.take(10, 1000, Duration::ZERO).unwrap().0, number, "taken at once");
        }
        push();
        assert!(inbox.take(10, 1000, Duration::ZERO).is_none(), "others may come");
        push();
        inbox.safe(1);
        assert_eq!(inbox.take(10, 1000, Duration::ZERO).unwrap().1.len(), 2, "together");
        push();
        // Nothing is safe any more: the log takes its time.
        assert_eq!(inbox.take(10, 1000, Duration::from_secs(60)).unwrap().1.len(), 1, "but not for ever");
    }
}
