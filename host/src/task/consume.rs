//! The second thread of a sink task: owns the consumer, converts what it reads, commits what it is told. While the consumer
//! sleeps there is no such thread: whatever wakes the consumer starts it again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::control::TaskControl;
use super::delivery::TopicUsed;
use super::error_policy::ErrorHandler;
use super::errors::TaskError;
use super::inbound::{CommitPort, SinkItem};
use super::inbound_converter::InboundConverter;
use super::prepared::{Carried, Claiming, Outcome, Taker};
use super::queue::Queue;
use super::services::InstanceServices;
use super::transaction::fail_points;
use super::used_topics::UsedTopics;
use crate::log::{CommittedOffset, ConsumerEvent, LogConsumer, Sleeper, TopicPartition};

/// How the log is read.
#[derive(Clone)]
pub struct ConsumeSettings {
    /// Records that one poll returns at most.
    pub max_records: usize,
    /// Bytes that one poll returns at most.
    pub max_bytes: usize,
    /// How long the connector may take to give up partitions before they are taken without its consent.
    pub revoke_timeout: Duration,
    /// Told of each topic read.
    pub topic_used: TopicUsed,
}

/// The consuming side of a sink task.
pub(super) struct Consume {
    pub consumer: Box<dyn LogConsumer>,
    pub converter: InboundConverter,
    pub queue: Arc<Queue<SinkItem>>,
    pub commits: Arc<CommitPort>,
    pub control: Arc<TaskControl>,
    pub services: Arc<InstanceServices>,
    pub errors: ErrorHandler,
    pub settings: ConsumeSettings,
    /// Whether [`TaskControl::wake`] ends the consumer's waiting.
    pub wakes: bool,
    /// Of a sink that prepares its transactions: how partitions are taken over.
    pub claiming: Option<Claiming>,
    /// The commits of such a sink.
    pub orders: Taker,
}

/// How long a full queue is waited for before the partitions are paused, so that the group keeps hearing from this member.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);
/// The same, while the other thread may order a commit, which nothing wakes this one for.
const ORDER_POLL: Duration = Duration::from_millis(5);
/// How long the group is asked for tokens.
const TOKENS_WITHIN: Duration = Duration::from_secs(5);
const LAG_INTERVAL: Duration = Duration::from_secs(5);
/// The same, while nothing comes.
const IDLE_LAG_INTERVAL: Duration = Duration::from_secs(60);

impl Consume {
    /// Starts the thread of this name. What comes of it is told once, when the task has ended or the log cannot be read.
    pub fn start(self, name: String) -> std::io::Result<Receiver<Result<(), TaskError>>> {
        let (ended, outcome) = sync_channel(1);
        let topics = UsedTopics::new(self.settings.topic_used.clone());
        Consuming {
            name,
            ended,
            parts: self,
            assigned: Vec::new(),
            claimed: HashMap::new(),
            held_by_connector: Vec::new(),
            topics,
            pending: VecDeque::new(),
            full_since: None,
            paused: false,
            next_lag: Instant::now(),
            lag_interval: LAG_INTERVAL,
        }
        .spawn()?;
        Ok(outcome)
    }
}

/// Why the thread is not needed any more.
enum Pause {
    /// For good.
    Ended,
    /// Until the consumer has something to tell, or is woken.
    Asleep(Arc<dyn Sleeper>),
}

/// Lives on one thread at a time, and on none while the consumer sleeps.
struct Consuming {
    name: String,
    ended: SyncSender<Result<(), TaskError>>,
    parts: Consume,
    assigned: Vec<TopicPartition>,
    /// Of a sink that prepares its transactions: the epochs in which it has its partitions now. What the other thread has prepared in others, as
    /// when it stood still for longer than its partitions were waited for, is not committed, even if they have come back.
    claimed: HashMap<TopicPartition, i64>,
    /// Partitions that the connector itself asked to pause.
    held_by_connector: Vec<TopicPartition>,
    topics: UsedTopics,
    /// Converted records that found no room in the queue.
    pending: VecDeque<SinkItem>,
    full_since: Option<Instant>,
    /// Whether all partitions are paused in the consumer.
    paused: bool,
    next_lag: Instant,
    lag_interval: Duration,
}

impl std::ops::Deref for Consuming {
    type Target = Consume;

    fn deref(&self) -> &Consume {
        &self.parts
    }
}

impl Consuming {
    fn spawn(self) -> std::io::Result<()> {
        let name = self.name.clone();
        std::thread::Builder::new().name(name).spawn(move || self.go()).map(drop)
    }

    fn go(mut self) {
        let result = match self.run() {
            Ok(Pause::Asleep(sleeper)) => {
                let queue = self.queue.clone();
                let wake = Box::new(move || {
                    if let Err(error) = self.spawn() {
                        let error = TaskError::new(format!("cannot start a thread: {error}"));
                        queue.push_control(SinkItem::Failed(error));
                    }
                });
                if let Some(wake) = sleeper.sleep(wake) {
                    wake();
                }
                return;
            }
            Ok(Pause::Ended) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            // The other thread may be waiting for records; it ends the task with this error.
            self.queue.push_control(SinkItem::Failed(error.clone()));
        }
        // The last offsets come when the connector has flushed; a fenced task commits nothing.
        while !self.control.fenced() && !self.commits.wait_finished(POLL) {
            self.commit();
        }
        if !self.control.fenced() {
            self.commit();
        }
        self.orders.close();
        let Self { parts, ended, .. } = self;
        parts.consumer.close(Duration::from_secs(5)).unwrap_or_else(|error| tracing::warn!("{error}"));
        _ = ended.send(Ok(()));
    }

    /// Runs until the task stops, the log cannot be read, or nothing is to be done for long.
    fn run(&mut self) -> Result<Pause, TaskError> {
        while !self.control.stopping() && !self.queue.is_closed() {
            self.commit();
            self.flush_pending();
            self.obey()?;
            if !self.pending.is_empty() && !self.paused {
                continue;
            }
            if self.wakes
                && self.pending.is_empty()
                && !self.commits.is_requested()
                && !self.orders.is_placed()
                && let Some(sleeper) = self.parts.consumer.sleeper()
            {
                self.tell_lag();
                return Ok(Pause::Asleep(sleeper));
            }
            let (patience, max_records, max_bytes) =
                (self.patience(), self.settings.max_records, self.settings.max_bytes);
            let events = self.parts.consumer.poll(max_records, max_bytes, patience)?;
            if !events.is_empty() {
                self.lag_interval = LAG_INTERVAL;
                self.next_lag = self.next_lag.min(Instant::now() + LAG_INTERVAL);
            }
            for event in events {
                self.take(event)?;
            }
            if Instant::now() >= self.next_lag {
                self.next_lag = Instant::now() + self.lag_interval;
                self.lag_interval = (self.lag_interval * 2).min(IDLE_LAG_INTERVAL);
                self.tell_lag();
            }
        }
        Ok(Pause::Ended)
    }

    fn tell_lag(&mut self) {
        let lag = self.parts.consumer.lag();
        self.control.counters.set_partitions(self.assigned.len(), &lag);
    }

    /// How long to wait for records: for long where nothing else is to be looked at by itself.
    fn patience(&self) -> Duration {
        if !self.wakes || !self.pending.is_empty() || self.commits.is_requested() || self.orders.is_placed() {
            return POLL;
        }
        self.next_lag.saturating_duration_since(Instant::now()).max(POLL)
    }

    /// Moves converted records into the queue, waiting a little for room.
    fn flush_pending(&mut self) {
        while let Some(item) = self.pending.pop_front() {
            let wait = if self.paused { Duration::ZERO } else { POLL };
            if let Err(item) = self.queue.push(item, wait) {
                self.pending.push_front(item);
                self.full_since.get_or_insert_with(Instant::now);
                return;
            }
        }
        self.full_since = None;
    }

    /// Brings the consumer's pauses in line with the target state, the queue and the connector's wishes.
    fn obey(&mut self) -> Result<(), TaskError> {
        let stuck = self.full_since.is_some_and(|since| since.elapsed() > PATIENCE);
        let pause = self.control.paused() || stuck;
        if pause != self.paused {
            if pause {
                self.parts.consumer.pause(&self.assigned)?;
            } else {
                let wanted = self.assigned.iter().filter(|partition| !self.held_by_connector.contains(partition));
                self.parts.consumer.resume(&wanted.cloned().collect::<Vec<_>>())?;
            }
            self.paused = pause;
        }
        for (hold, partitions) in self.services.pauses.take(&self.assigned) {
            self.held_by_connector.retain(|held| !partitions.contains(held));
            if hold {
                self.parts.consumer.pause(&partitions)?;
                self.held_by_connector.extend(partitions);
            } else if !self.paused {
                self.parts.consumer.resume(&partitions)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, event: ConsumerEvent) -> Result<(), TaskError> {
        match event {
            ConsumerEvent::Batch(fetched) => {
                let topic = &fetched.topic_partition.topic;
                self.topics.used(topic);
                self.control.counters.came_in(fetched.records.len(), fetched.records.bytes());
                if let Some(inbound) = self.parts.converter.convert(*fetched, &self.parts.errors)? {
                    self.pending.push_back(SinkItem::Records(Box::new(inbound)));
                    self.flush_pending();
                }
            }
            ConsumerEvent::Assigned(partitions) => self.open(partitions)?,
            ConsumerEvent::Revoked(partitions) => self.close(partitions, false)?,
            ConsumerEvent::Lost(partitions) => self.close(partitions, true)?,
            ConsumerEvent::End(..) => {}
        }
        Ok(())
    }

    fn open(&mut self, partitions: Vec<TopicPartition>) -> Result<(), TaskError> {
        tracing::info!("assigned {}", names(&partitions));
        let (mut claims, mut begin) = (None, Vec::new());
        if let Some(claiming) = self.parts.claiming.clone() {
            let claimed = claiming.claim(&mut *self.parts.consumer, &partitions, &self.parts.control)?;
            let Some(claimed) = claimed else { return Ok(()) };
            begin = partitions.iter().cloned().zip(claimed.iter().map(|(_, offset)| Some(*offset))).collect();
            self.claimed.extend(partitions.iter().cloned().zip(claimed.iter().map(|(claim, _)| claim.epoch)));
            claims = Some(claimed);
        } else {
            self.refuse_tokens(&partitions)?;
        }
        let (reply, answer) = sync_channel(1);
        self.queue.push_control(SinkItem::Open { partitions: partitions.clone(), claims, reply });
        let Some(seeks) = self.wait(&answer, None) else { return Ok(()) };
        let start = |partition: TopicPartition| {
            let seek = seeks.iter().find(|seek| seek.topic == partition.topic && seek.partition == partition.partition);
            (partition, seek.and_then(|seek| seek.offset))
        };
        if self.claiming.is_none() {
            begin = partitions.iter().cloned().map(start).collect();
        }
        self.parts.consumer.assign(&begin)?;
        if self.paused {
            self.parts.consumer.pause(&partitions)?;
        }
        self.assigned.extend(partitions);
        Ok(())
    }

    /// A sink that does not prepare its transactions would replace the tokens of one that did, which had this name before.
    fn refuse_tokens(&mut self, partitions: &[TopicPartition]) -> Result<(), TaskError> {
        let found = match self.parts.consumer.committed_with(partitions, TOKENS_WITHIN) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!("whether the group carries tokens of prepared transactions is not known: {error}");
                return Ok(());
            }
        };
        let token = |commit: &CommittedOffset| Carried::parse(&commit.metadata).and_then(|carried| carried.token);
        let Some((at, token)) = found.iter().find_map(|commit| Some((&commit.partition, token(commit)?))) else {
            return Ok(());
        };
        Err(TaskError::new(format!(
            "the group's offset of {}-{} carries the prepared transaction {token}, and this connector prepares none: its store may not have committed \
             it. Stop the connector and reset or alter its offsets with the config that has prepared it, or, where it is committed, with Kafka's own \
             tools, or use another name",
            at.topic, at.partition
        )))
    }

    fn close(&mut self, partitions: Vec<TopicPartition>, lost: bool) -> Result<(), TaskError> {
        tracing::info!("{} {}", if lost { "lost" } else { "giving up" }, names(&partitions));
        if lost {
            self.claimed.retain(|partition, _| !partitions.contains(partition));
        }
        // What was not put yet is read again by the partitions' next owner.
        let keep =
            |item: &SinkItem| !matches!(item, SinkItem::Records(inbound) if partitions.contains(&inbound.partition));
        self.pending.retain(keep);
        self.queue.retain(keep);
        let (reply, answer) = sync_channel(1);
        self.queue.push_control(SinkItem::Close { partitions: partitions.clone(), lost, reply });
        let offsets = self.wait(&answer, Some(self.settings.revoke_timeout)).unwrap_or_default();
        if !lost {
            // Offsets asked for before the connector gave up its partitions are still theirs to commit.
            self.commit();
        }
        self.claimed.retain(|partition, _| !partitions.contains(partition));
        if !offsets.is_empty() && self.control.may_write() {
            let begun = Instant::now();
            match self.parts.consumer.commit(&offsets) {
                Ok(()) => self.control.counters.committed(begun.elapsed()),
                Err(error) => {
                    self.control.counters.meters.committed(begun.elapsed(), false);
                    tracing::warn!(
                        "the last offsets of {} were not committed; their records come again: {error}",
                        names(&partitions)
                    );
                }
            }
        }
        self.parts.consumer.unassign(&partitions)?;
        self.assigned.retain(|partition| !partitions.contains(partition));
        self.held_by_connector.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    /// Waits for the connector's answer; `None` when the task ends or the time is up.
    fn wait<T>(&mut self, answer: &Receiver<T>, timeout: Option<Duration>) -> Option<T> {
        let begun = Instant::now();
        let poll = if self.claiming.is_some() { ORDER_POLL } else { POLL };
        loop {
            // The connector's thread may be in the middle of a commit, and waits for its outcome.
            self.obey_order();
            match answer.recv_timeout(poll) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.control.stopping() || self.queue.is_closed() => return None,
                Err(RecvTimeoutError::Timeout) if timeout.is_some_and(|timeout| begun.elapsed() > timeout) => {
                    tracing::warn!(
                        "the connector did not give up its partitions within {:?}; they are taken now",
                        begun.elapsed()
                    );
                    return None;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Makes the commit that the other thread waits for.
    fn obey_order(&mut self) {
        if !self.control.may_write() {
            return;
        }
        let Some(mut order) = self.orders.take() else { return };
        if !order.is_of(&self.claimed) {
            return order.end(Outcome::NotSent);
        }
        fail_points::pass("before", "group-commit");
        let begun = Instant::now();
        let outcome = Outcome::from(self.parts.consumer.commit_with(order.begin()));
        fail_points::pass("after", "group-commit");
        match &outcome {
            Outcome::Committed => self.control.counters.committed(begun.elapsed()),
            Outcome::Refused(error) | Outcome::InDoubt(error) => {
                self.control.counters.meters.committed(begun.elapsed(), false);
                tracing::warn!("{error}");
            }
            Outcome::NotSent => {}
        }
        order.end(outcome);
    }

    /// Commits what the other thread asked for. A failure is logged and the offsets are offered again later.
    fn commit(&mut self) {
        self.obey_order();
        if !self.control.may_write() {
            return;
        }
        let Some((mut offsets, epoch)) = self.commits.take_requested() else { return };
        offsets.retain(|(partition, _)| self.assigned.contains(partition));
        if offsets.is_empty() {
            return;
        }
        let begun = Instant::now();
        match self.parts.consumer.commit(&offsets) {
            Ok(()) => {
                self.control.counters.committed(begun.elapsed());
                self.commits.done(epoch);
                self.control.wake();
            }
            Err(error) => {
                self.control.counters.meters.committed(begun.elapsed(), false);
                tracing::warn!("offsets were not committed and will be at the next interval: {error}");
                self.commits.failed(offsets);
            }
        }
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(|p| format!("{}-{}", p.topic, p.partition)).collect::<Vec<_>>().join(", ")
}
