//! The queue between a task's two threads, bounded by records and by bytes.
//!
//! An item larger than a bound is let through when the queue is empty, so that a huge batch passes alone instead of never.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What an item counts for.
pub trait Weight {
    /// Number of records.
    fn records(&self) -> usize;
    /// Number of bytes.
    fn bytes(&self) -> usize;
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Records at most.
    pub records: usize,
    /// Bytes at most.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { records: 32_768, bytes: 8 << 20 }
    }
}

/// What [`Queue::pop`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Popped<T> {
    /// The oldest item.
    Item(T),
    /// Nothing came in time.
    TimedOut,
    /// Nothing is left and nothing will come.
    Closed,
}

#[derive(Debug)]
struct State<T> {
    /// Control items, which overtake the data but not each other.
    control: VecDeque<T>,
    items: VecDeque<T>,
    records: usize,
    bytes: usize,
    closed: bool,
    nudged: bool,
}

/// The queue. One side pushes, the other pops; either may close it.
#[derive(Debug)]
pub struct Queue<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T: Weight> Queue<T> {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        let state = State {
            control: VecDeque::new(),
            items: VecDeque::new(),
            records: 0,
            bytes: 0,
            closed: false,
            nudged: false,
        };
        Self { bounds, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds an item, waiting for room at most `timeout`. Gives it back when there was none in time, or the queue is closed.
    pub fn push(&self, item: T, timeout: Duration) -> Result<(), T> {
        let fits = |state: &State<T>| {
            state.items.is_empty()
                || (state.records + item.records() <= self.bounds.records
                    && state.bytes + item.bytes() <= self.bounds.bytes)
        };
        let mut state = self.wait(self.lock(), timeout, |state| state.closed || fits(state));
        if state.closed || !fits(&state) {
            return Err(item);
        }
        state.records += item.records();
        state.bytes += item.bytes();
        state.items.push_back(item);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Adds a control item, which weighs nothing: it overtakes the data, but no other control item.
    pub fn push_control(&self, item: T) {
        self.lock().control.push_back(item);
        self.changed.notify_all();
    }

    /// Ends the waiting of a `pop`, now or the next one: there is something else to look at.
    pub fn nudge(&self) {
        self.lock().nudged = true;
        self.changed.notify_all();
    }

    /// Takes the oldest control item, or else the oldest item, waiting for one at most `timeout`.
    pub fn pop(&self, timeout: Duration) -> Popped<T> {
        let empty = |state: &State<T>| state.control.is_empty() && state.items.is_empty();
        let ready = |state: &State<T>| state.closed || state.nudged || !empty(state);
        let mut state = self.wait(self.lock(), timeout, ready);
        state.nudged = false;
        if let Some(item) = state.control.pop_front() {
            return Popped::Item(item);
        }
        let Some(item) = state.items.pop_front() else {
            return if state.closed { Popped::Closed } else { Popped::TimedOut };
        };
        state.records -= item.records();
        state.bytes -= item.bytes();
        drop(state);
        self.changed.notify_all();
        Popped::Item(item)
    }

    /// Removes the items that `keep` refuses, control items apart.
    pub fn retain(&self, keep: impl FnMut(&T) -> bool) {
        let mut state = self.lock();
        state.items.retain(keep);
        state.records = state.items.iter().map(Weight::records).sum();
        state.bytes = state.items.iter().map(Weight::bytes).sum();
        drop(state);
        self.changed.notify_all();
    }

    /// Refuses further items; those inside can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether it refuses further items.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Items inside, without control items.
    pub fn items(&self) -> usize {
        self.lock().items.len()
    }

    /// Bytes inside.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State<T>>,
        timeout: Duration,
        ready: impl Fn(&State<T>) -> bool,
    ) -> MutexGuard<'a, State<T>> {
        if ready(&state) {
            return state;
        }
        let deadline = Instant::now() + timeout;
        while !ready(&state) {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Item(usize, usize);

    impl Weight for Item {
        fn records(&self) -> usize {
            self.0
        }
        fn bytes(&self) -> usize {
            self.1
        }
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn bounds_records_and_bytes_but_lets_one_large_item_through() {
        let queue = Queue::new(Bounds { records: 10, bytes: 100 });
        queue.push(Item(1, 1000), NOW).unwrap();
        assert_eq!(queue.push(Item(1, 1), NOW), Err(Item(1, 1)));
        assert_eq!(queue.pop(NOW), Popped::Item(Item(1, 1000)));
        queue.push(Item(9, 1), NOW).unwrap();
        assert_eq!(queue.push(Item(2, 1), NOW), Err(Item(2, 1)));
        queue.push(Item(1, 99), NOW).unwrap();
        assert_eq!(queue.push(Item(0, 1), NOW), Err(Item(0, 1)));
        assert_eq!(queue.bytes(), 100);
    }

    #[test]
    fn a_closed_queue_gives_what_is_left() {
        let queue = Queue::new(Bounds::default());
        queue.push(Item(1, 1), NOW).unwrap();
        queue.close();
        assert_eq!(queue.push(Item(2, 2), NOW), Err(Item(2, 2)));
        assert_eq!(queue.pop(NOW), Popped::Item(Item(1, 1)));
        assert_eq!(queue.pop(NOW), Popped::Closed);
    }

    #[test]
    fn control_items_overtake_the_data_but_not_each_other() {
        let queue = Queue::new(Bounds::default());
        queue.push(Item(1, 1), NOW).unwrap();
        queue.push_control(Item(0, 0));
        queue.push(Item(2, 2), NOW).unwrap();
        queue.push_control(Item(0, 1));
        let popped: Vec<_> = (0..4).map(|_| queue.pop(NOW)).collect();
        assert_eq!(popped, [Item(0, 0), Item(0, 1), Item(1, 1), Item(2, 2)].map(Popped::Item));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_nudge_ends_the_waiting_once() {
        let queue = Queue::<Item>::new(Bounds::default());
        queue.nudge();
        assert_eq!(queue.pop(Duration::from_secs(3600)), Popped::TimedOut);
        std::thread::scope(|scope| {
            let pop = scope.spawn(|| queue.pop(Duration::from_secs(3600)));
            queue.nudge();
            assert_eq!(pop.join().unwrap(), Popped::TimedOut);
        });
        queue.push(Item(1, 1), NOW).unwrap();
        assert_eq!(queue.pop(NOW), Popped::Item(Item(1, 1)));
    }

    #[test]
    fn a_waiting_push_goes_on_when_room_is_made() {
        let queue = Queue::new(Bounds { records: 1, bytes: 1 });
        queue.push(Item(1, 1), NOW).unwrap();
        std::thread::scope(|scope| {
            let push = scope.spawn(|| queue.push(Item(1, 1), Duration::from_secs(20)));
            assert_eq!(queue.pop(Duration::from_secs(20)), Popped::Item(Item(1, 1)));
            push.join().unwrap().unwrap();
        });
        queue.retain(|_| false);
        assert_eq!((queue.bytes(), queue.pop(NOW)), (0, Popped::TimedOut));
    }
}
