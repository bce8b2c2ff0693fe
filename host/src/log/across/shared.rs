//! What passes between the membership's thread and the task's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::super::{ConsumerEvent, LogError, TopicPartition, Waker};

/// As whom the partitions were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member: String,
    pub(super) generation: i32,
}

struct Inside {
    /// Not taken yet.
    events: VecDeque<ConsumerEvent>,
    failed: Option<LogError>,
    /// While the coordinator counts the member in, as far as it is known.
    identity: Option<Identity>,
    /// Given, and not given up yet.
    held: BTreeSet<TopicPartition>,
    /// How often partitions were given, and which of these times the task was told of last.
    given: u64,
    told: u64,
    /// The task was told to give up what it holds, and has not yet.
    asked: bool,
    /// Under which topic of the target the group keeps the offsets of a topic, of those given last.
    kept: BTreeMap<Arc<str>, Arc<str>>,
    /// When the task polled last.
    polled: Instant,
    /// Next offsets that are committed in the target, and not shown in the source yet.
    progress: BTreeMap<TopicPartition, i64>,
}

/// See the module.
pub(super) struct Shared {
    inside: Mutex<Inside>,
    /// Partitions were given up.
    changed: Notify,
    /// The member is to leave.
    closing: watch::Sender<bool>,
    /// The task is to look up from its poll.
    woken: AtomicBool,
    waker: Option<Waker>,
}

impl Shared {
    /// Of a task whose poll `waker` ends.
    pub(super) fn new(waker: Option<Waker>) -> Self {
        let inside = Inside {
            events: VecDeque::new(),
            failed: None,
            identity: None,
            held: BTreeSet::new(),
            given: 0,
            told: 0,
            asked: false,
            kept: BTreeMap::new(),
            polled: Instant::now(),
            progress: BTreeMap::new(),
        };
        Self {
            inside: Mutex::new(inside),
            changed: Notify::new(),
            closing: watch::Sender::new(false),
            woken: AtomicBool::new(false),
            waker,
        }
    }

    /// Ends the task's poll.
    pub(super) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if let Some(waker) = &self.waker {
            waker();
        }
    }

    /// Whether the poll was ended since the last call.
    pub(super) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    // The membership's side.

    /// The member was given these; `kept`: the stand-ins of their topics.
    pub(super) fn assigned(
        &self,
        identity: Identity,
        partitions: Vec<TopicPartition>,
        kept: BTreeMap<Arc<str>, Arc<str>>,
    ) {
        let mut inside = self.lock();
        // Whatever is left there was of partitions that are given up by now.
        inside.events.clear();
        inside.identity = Some(identity);
        inside.held = partitions.iter().cloned().collect();
        inside.given += 1;
        inside.asked = false;
        inside.kept = kept;
        if !partitions.is_empty() {
            inside.events.push_back(ConsumerEvent::Assigned(partitions));
        }
        drop(inside);
        self.wake();
    }

    /// The group rebalances: the task has to give up what it holds. It may commit until then.
    pub(super) fn revoke(&self) {
        self.take_back(ConsumerEvent::Revoked);
    }

    /// The coordinator does not count the member in any more.
    pub(super) fn lose(&self) {
        self.lock().identity = None;
        self.take_back(ConsumerEvent::Lost);
    }

    fn take_back(&self, event: fn(Vec<TopicPartition>) -> ConsumerEvent) {
        let mut inside = self.lock();
        // What the task was not told of yet it need not give up, and what is worse comes in the place of what it was told before.
        let untold = inside.events.iter().any(|event| matches!(event, ConsumerEvent::Assigned(_)));
        inside.events.clear();
        if untold {
            inside.held.clear();
        }
        // It gives them up already, and is not to do so twice: by the second time it may hold others.
        if inside.asked {
            return;
        }
        let held: Vec<_> = inside.held.iter().cloned().collect();
        if !held.is_empty() {
            inside.events.push_back(event(held));
        }
        drop(inside);
        self.wake();
    }

    /// The member is not one for now: it joins again.
    pub(super) fn forget(&self) {
        self.lock().identity = None;
    }

    /// Whether the task holds nothing any more.
    pub(super) fn has_given_up(&self) -> bool {
        self.lock().held.is_empty()
    }

    /// Nothing more can come of it.
    pub(super) fn fail(&self, error: LogError) {
        let mut inside = self.lock();
        inside.identity = None;
        inside.failed = Some(error);
        drop(inside);
        self.wake();
    }

    /// How long ago the task polled.
    pub(super) fn since_poll(&self) -> Duration {
        self.lock().polled.elapsed()
    }

    /// Until partitions are given up, or for so long.
    pub(super) async fn changed(&self, timeout: Duration) {
        _ = tokio::time::timeout(timeout, self.changed.notified()).await;
    }

    /// Whether the member is to leave.
    pub(super) fn closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Returns when the member is to leave.
    pub(super) async fn closed(&self) {
        // The sender lives as long as this does.
        _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// What is to be shown.
    pub(super) fn take_progress(&self) -> BTreeMap<TopicPartition, i64> {
        std::mem::take(&mut self.lock().progress)
    }

    /// It was not shown: again, where nothing newer has come.
    pub(super) fn put_back(&self, progress: BTreeMap<TopicPartition, i64>) {
        let mut inside = self.lock();
        for (partition, next) in progress {
            inside.progress.entry(partition).or_insert(next);
        }
    }

    // The task's side.

    /// What has happened, in order.
    pub(super) fn poll(&self) -> Result<Vec<ConsumerEvent>, LogError> {
        let mut inside = self.lock();
        inside.polled = Instant::now();
        match inside.failed.clone() {
            Some(error) => Err(error),
            None => {
                let events: Vec<_> = inside.events.drain(..).collect();
                for event in &events {
                    match event {
                        ConsumerEvent::Assigned(_) => inside.told = inside.given,
                        ConsumerEvent::Revoked(_) | ConsumerEvent::Lost(_) => inside.asked = true,
                        ConsumerEvent::Batch(_) | ConsumerEvent::End(..) => {}
                    }
                }
                Ok(events)
            }
        }
    }

    /// Whether there is something to take.
    pub(super) fn has_events(&self) -> bool {
        let inside = self.lock();
        !inside.events.is_empty() || inside.failed.is_some()
    }

    /// The task has given up partitions of those that it was told of last.
    pub(super) fn given_up(&self, partitions: &[TopicPartition]) {
        let mut inside = self.lock();
        if inside.told == inside.given {
            inside.held.retain(|held| !partitions.contains(held));
            inside.asked &= !inside.held.is_empty();
        }
        drop(inside);
        self.changed.notify_one();
    }

    /// What stands for a topic, if it is one of those given last.
    pub(super) fn kept(&self, topic: &str) -> Option<Arc<str>> {
        self.lock().kept.get(topic).cloned()
    }

    /// As whom offsets are committed.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.lock().identity.clone()
    }

    /// These are committed.
    pub(super) fn progress(&self, offsets: impl IntoIterator<Item = (TopicPartition, i64)>) {
        self.lock().progress.extend(offsets);
    }

    /// The member leaves.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn given(shared: &Shared, partitions: &[i32]) {
        let identity = Identity { member: "m".to_owned(), generation: 1 };
        shared.assigned(identity, partitions.iter().map(|partition| at(*partition)).collect(), BTreeMap::new());
    }

    fn told(shared: &Shared) -> Vec<String> {
        let name = |event| match event {
            ConsumerEvent::Assigned(partitions) => format!("assigned {}", partitions.len()),
            ConsumerEvent::Revoked(partitions) => format!("revoked {}", partitions.len()),
            ConsumerEvent::Lost(partitions) => format!("lost {}", partitions.len()),
            _ => String::new(),
        };
        shared.poll().unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn what_was_not_told_is_not_taken_back() {
        let shared = Shared::new(None);
        given(&shared, &[0, 1]);
        shared.revoke();
        assert!(shared.has_given_up() && told(&shared).is_empty());
        given(&shared, &[]);
        assert!(!shared.has_events(), "nothing was given");
    }

    #[test]
    fn partitions_are_held_until_they_are_given_up() {
        let shared = Shared::new(None);
        given(&shared, &[0, 1]);
        assert_eq!(told(&shared), ["assigned 2"]);
        shared.revoke();
        assert!(shared.identity().is_some(), "what is open may be committed");
        shared.lose();
        assert_eq!((told(&shared), shared.identity()), (vec!["lost 2".to_owned()], None));
        shared.given_up(&[at(0)]);
        assert!(!shared.has_given_up());
        shared.given_up(&[at(1)]);
        assert!(shared.has_given_up());
    }

    /// What comes while the task gives up partitions does not reach it when it has others.
    #[test]
    fn partitions_are_given_up_once() {
        let shared = Shared::new(None);
        given(&shared, &[0, 1]);
        assert_eq!(told(&shared), ["assigned 2"]);
        shared.revoke();
        assert_eq!(told(&shared), ["revoked 2"]);
        // Its commit takes longer than the group waits.
        shared.lose();
        assert!(shared.identity().is_none() && !shared.has_given_up() && !shared.has_events());
        shared.given_up(&[at(0), at(1)]);
        assert!(shared.has_given_up());
        given(&shared, &[0, 1]);
        shared.given_up(&[at(0), at(1)]);
        assert!(!shared.has_given_up(), "it was not told of these");
        assert_eq!(told(&shared), ["assigned 2"]);
        // And the next time they are taken back as ever.
        shared.revoke();
        assert!(!shared.has_given_up());
        assert_eq!(told(&shared), ["revoked 2"]);
        shared.given_up(&[at(0), at(1)]);
        assert!(shared.has_given_up());
    }

    #[test]
    fn newer_progress_stays() {
        let shared = Shared::new(None);
        shared.progress([(at(0), 5), (at(1), 7)]);
        let taken = shared.take_progress();
        shared.progress([(at(0), 9)]);
        shared.put_back(taken);
        assert_eq!(shared.take_progress(), BTreeMap::from([(at(0), 9), (at(1), 7)]));
    }
}
