//! The second thread of a source task: produces, collects acknowledgements, commits offsets.

//!
//! A send that the log refused is divided until the records that are to blame stand alone, since the client fails a batch of
//! records as a whole; what may pass is sent again (`errors.retry.*`); the rest is judged by `errors.tolerance`.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::{Array, StringArray};
use tributary_sdk::source::SourcePosition;

use super::asked::Asked;
use super::control::TaskControl;
use super::dead_letters::DeadLetters;
use super::error_policy::{ErrorHandler, Origin};
use super::errors::{FailedRecord, TaskError};
use super::letter_headers::{AS_PRODUCED, Context};
use super::offset_tracker::OffsetTracker;
use super::polled::source_context;
use super::queue::{Popped, Queue, Weight};
use super::rows;
use super::services::InstanceServices;
use super::source_state::Sealed;
use super::topic_creator::TopicCreator;
use super::transaction::Ending;
use super::used_topics::UsedTopics;
use crate::log::{Completion, LogError, LogProducer, LogRecords};
use crate::plugin::handle::Acknowledger;

/// A polled batch after transforms and converters: what is to be produced before its position may be stored.
pub struct Outbound {
    /// Grows from batch to batch.
    pub token: u64,
    /// The poll that it comes from; several batches may share one.
    pub epoch: u64,
    /// The source partition, JSON.
    pub source_partition: Option<Arc<str>>,
    /// Where the source may resume once all of it is safe, JSON.
    pub resume_point: Option<Box<str>>,
    /// Records by topic, in order; none when everything was filtered.
    pub parts: Vec<Part>,
    /// Records that failed on the way here and are tolerated, where they are kept.
    pub letters: Option<Box<Letters>>,
    /// Whether the source can resume after the last record of it.
    pub resumable: bool,
    /// A transaction ends after it.
    pub ends: Option<Ending>,
    /// What that transaction writes of the transforms' state.
    pub state: Option<Box<Sealed>>,
    /// Told when that transaction is settled, and all before it.
    pub settled: Option<SyncSender<()>>,
}

/// Records of one topic.
#[derive(Clone)]
pub struct Part {
    /// The topic.
    pub topic: Arc<str>,
    /// The source partition, JSON.
    pub source_partition: Option<Arc<str>>,
    /// Serialized.
    pub records: LogRecords,
    /// The source's offsets of the records, where it gave any.
    pub offsets: Option<StringArray>,
}

/// Records that failed before they could be produced.
pub struct Letters {
    /// As they were polled.
    pub records: LogRecords,
    /// Why, one for each record.
    pub failed: Vec<FailedRecord>,
    /// Where they come from.
    pub contexts: Vec<Context>,
}

impl Outbound {
    /// No records: only the end of a transaction.
    pub fn end(epoch: u64, ending: Ending) -> Self {
        Self {
            token: 0,
            epoch,
            source_partition: None,
            resume_point: None,
            parts: Vec::new(),
            letters: None,
            resumable: true,
            ends: Some(ending),
            state: None,
            settled: None,
        }
    }

    fn all(&self) -> impl Iterator<Item = &LogRecords> {
        self.parts.iter().map(|part| &part.records).chain(self.letters.iter().map(|letters| &letters.records))
    }
}

impl Weight for Outbound {
    fn records(&self) -> usize {
        self.all().map(LogRecords::len).sum()
    }

    fn bytes(&self) -> usize {
        self.all().map(LogRecords::bytes).sum()
    }
}

/// Told of each topic that a task uses, once.
pub type TopicUsed = Arc<dyn Fn(&str) + Send + Sync>;

/// How delivery commits.
#[derive(Clone)]
pub struct DeliverySettings {
    /// `offset.flush.interval.ms`.
    pub commit_interval: Duration,
    /// How long stopping may wait for acknowledgements.
    pub flush_timeout: Duration,
    /// Told of each topic written to.
    pub topic_used: TopicUsed,
    /// Makes topics before they are written to; `None`: nobody does, or the cluster itself.
    pub topics: Option<Arc<TopicCreator>>,
}

/// The delivery side of a source task.
pub(super) struct Delivery {
    pub queue: Arc<Queue<Outbound>>,
    pub producer: Box<dyn LogProducer>,
    pub control: Arc<TaskControl>,
    pub services: Arc<InstanceServices>,
    pub errors: ErrorHandler,
    pub dead_letters: Option<DeadLetters>,
    pub settings: DeliverySettings,
    /// Stored positions that the plugin has not been told of.
    pub committed: Arc<Mutex<Vec<SourcePosition>>>,
    /// Tells the plugin at once of what is acknowledged.
    pub acknowledger: Option<Acknowledger>,
}

/// How long to look for completions or for the next batch before looking at the other.
const TICK: Duration = Duration::from_millis(5);
/// The same when the plugin has asked for a commit: somebody waits for an answer.
const EAGER: Duration = Duration::from_millis(1);
/// Acknowledgements that have not come by then are no longer looked for so often.
const SOON: Duration = Duration::from_millis(100);
/// How long a commit waits for dead letters to be acknowledged; without them there is none.
const DEAD_LETTERS_WAIT: Duration = Duration::from_secs(3);
/// How long to sleep when nothing is in flight and nothing is due.
const IDLE: Duration = Duration::from_secs(1);

impl Delivery {
    /// Runs until the queue is closed and empty. Closes the queue itself when it fails.
    pub fn run(self) -> Result<(), TaskError> {
        let queue = self.queue.clone();
        let Self { mut producer, control, services, errors, dead_letters, settings, committed, acknowledger, .. } =
            self;
        if acknowledger.is_some() {
            // Somebody may wait for an answer: this thread looks at once.
            let nudged = queue.clone();
            producer.set_waker(Arc::new(move || nudged.nudge()));
        }
        let mut state = Delivering {
            producer,
            control: &control,
            services: &services,
            errors: &errors,
            dead_letters,
            settings: &settings,
            committed: &committed,
            tracker: if acknowledger.is_some() { OffsetTracker::telling() } else { OffsetTracker::default() },
            acknowledger,
            acknowledges: false,
            in_flight: HashMap::new(),
            sends: HashMap::new(),
            last_send: 0,
            refused: VecDeque::new(),
            topics: UsedTopics::new(settings.topic_used.clone()),
            newest_epoch: 0,
            next_commit: Instant::now() + settings.commit_interval,
            moved: Instant::now(),
            asked: Asked::default(),
        };
        let result = state.run(&queue);
        queue.close();
        if result.is_err() {
            // The plugin may be waiting for its system and would never learn of it.
            control.stop();
        }
        state.commit();
        if let Err(error) = state.producer.close(Duration::from_secs(1)) {
            tracing::warn!("{error}");
        }
        if let Some(dead_letters) = state.dead_letters {
            dead_letters.close();
        }
        result
    }
}

/// A batch that is being delivered.
struct Open {
    epoch: u64,
    /// Sends that are not done, and one while more may follow.
    unfinished: usize,
}

/// One send: a part of a batch.
struct Sent {
    token: u64,
    part: Part,
}

/// Rows, and why the log refused them.
type Refused = Vec<(usize, LogError)>;

struct Delivering<'a> {
    producer: Box<dyn LogProducer>,
    control: &'a TaskControl,
    services: &'a InstanceServices,
    errors: &'a ErrorHandler,
    dead_letters: Option<DeadLetters>,
    settings: &'a DeliverySettings,
    committed: &'a Mutex<Vec<SourcePosition>>,
    tracker: OffsetTracker,
    acknowledger: Option<Acknowledger>,
    /// The plugin has shown that it wants to be told of acknowledgements.
    acknowledges: bool,
    /// The batches that are being delivered, by token.
    in_flight: HashMap<u64, Open>,
    /// What the producer has, by the number of the send.
    sends: HashMap<u64, Sent>,
    last_send: u64,
    /// Sends of which rows were refused, not yet dealt with.
    refused: VecDeque<(Sent, Refused)>,
    topics: UsedTopics,
    /// The newest poll of which a batch has come.
    newest_epoch: u64,
    next_commit: Instant,
    /// When a batch was last handed over or acknowledged.
    moved: Instant,
    /// Whether the plugin has asked for a commit.
    asked: Asked,
}

impl Delivering<'_> {
    fn run(&mut self, queue: &Queue<Outbound>) -> Result<(), TaskError> {
        loop {
            if !self.control.wait_for_lease() {
                return Ok(());
            }
            match queue.pop(self.patience()) {
                Popped::Item(outbound) => self.produce(outbound)?,
                Popped::TimedOut => {}
                Popped::Closed => break,
            }
            self.collect(Duration::ZERO)?;
            self.settle()?;
            self.acknowledge()?;
            if self.control.take_commit_request() && !self.acknowledges {
                self.asked.ask(queue.items());
            }
            if self.until_commit().is_zero() || self.may_answer() {
                match self.commit() {
                    true => self.asked.committed(self.oldest()),
                    false => self.asked.failed(Instant::now()),
                }
            }
        }
        self.drain()?;
        self.acknowledge()?;
        if self.in_flight.is_empty() {
            // Nothing more will come of the last poll.
            self.newest_epoch += 1;
        }
        Ok(())
    }

    /// How long to wait for the next batch.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        let waited_for = self.acknowledges && now.saturating_duration_since(self.moved) < SOON;
        match (self.in_flight.is_empty(), waited_for || self.asked.is_eager(now)) {
            (true, _) => self.until_commit().min(IDLE),
            (false, false) => TICK,
            (false, true) => EAGER,
        }
    }

    /// Whether the plugin has asked for a commit that has come to be possible: what it waits for may be in flight still.
    fn may_answer(&self) -> bool {
        let now = Instant::now();
        // What is told without a commit needs none, also where it was asked for before that was known.
        !self.acknowledges
            && self.asked.is_eager(now)
            && self.asked.is_due(self.tracker.has_committable(), self.oldest(), now)
    }

    /// Tells the plugin what is acknowledged, dead letters included.
    fn acknowledge(&mut self) -> Result<(), TaskError> {
        let Some(acknowledger) = self.acknowledger.as_ref().filter(|_| self.tracker.has_acknowledged()) else {
            return Ok(());
        };
        if let Some(dead_letters) = &mut self.dead_letters
            && !dead_letters.has_come_through()?
        {
            // Told later: records need not wait for letters.
            return Ok(());
        }
        self.acknowledges = acknowledger(&self.tracker.take_acknowledged());
        if !self.acknowledges {
            self.acknowledger = None;
            self.tracker.tell_no_more();
        }
        Ok(())
    }

    /// The oldest batch that is being delivered.
    fn oldest(&self) -> Option<u64> {
        self.in_flight.keys().min().copied()
    }

    fn produce(&mut self, outbound: Outbound) -> Result<(), TaskError> {
        let token = outbound.token;
        self.asked.popped(token);
        if let Some(partition) = &outbound.source_partition {
            self.tracker.submit(token, partition, outbound.resume_point.as_deref());
        }
        self.newest_epoch = outbound.epoch;
        self.moved = Instant::now();
        self.in_flight.insert(token, Open { epoch: outbound.epoch, unfinished: 1 });
        for part in outbound.parts {
            if self.topics.is_new(&part.topic)
                && let Some(creator) = &self.settings.topics
                && !creator.ensure(&part.topic, self.control)?
            {
                return Ok(());
            }
            self.topics.used(&part.topic);
            self.last_send += 1;
            let number = self.last_send;
            self.in_flight.entry(token).and_modify(|open| open.unfinished += 1);
            self.sends.insert(number, Sent { token, part: part.clone() });
            if !self.hand_over(number, &part.topic, &part.records)? {
                return Ok(());
            }
        }
        if let (Some(letters), Some(dead_letters)) = (outbound.letters, &mut self.dead_letters) {
            let Letters { records, failed, contexts } = *letters;
            let failed = failed.iter().collect::<Vec<_>>();
            if !dead_letters.send(records, &failed, |row| contexts[row].clone())? {
                return Ok(());
            }
        }
        self.finished_one(token);
        Ok(())
    }

    /// Gives all rows of a send to the producer. Answers `false` when the task may write nothing more.
    fn hand_over(&mut self, number: u64, topic: &str, records: &LogRecords) -> Result<bool, TaskError> {
        let mut sent = 0;
        while sent < records.len() {
            if !self.control.wait_for_lease() {
                return Ok(false);
            }
            sent += self.producer.send(topic, records, sent, number, Duration::from_millis(100))?;
            self.collect(Duration::ZERO)?;
        }
        self.producer.finish(number);
        Ok(true)
    }

    /// Takes completions, waiting up to `timeout` for the first. What was refused is put aside.
    fn collect(&mut self, timeout: Duration) -> Result<(), TaskError> {
        for completion in self.producer.poll(timeout)? {
            self.completed(completion);
        }
        Ok(())
    }

    fn completed(&mut self, Completion { token: number, failed, .. }: Completion) {
        let Some(sent) = self.sends.remove(&number) else { return };
        self.control.counters.went_out(sent.part.records.len() - failed.len());
        if failed.is_empty() {
            self.finished_one(sent.token);
        } else {
            self.refused.push_back((sent, failed));
        }
    }

    /// A send of the batch is done, or no further one follows.
    fn finished_one(&mut self, token: u64) {
        self.moved = Instant::now();
        let Some(open) = self.in_flight.get_mut(&token) else { return };
        open.unfinished -= 1;
        if open.unfinished == 0 {
            self.in_flight.remove(&token);
            self.tracker.complete(token);
        }
    }

    /// Deals with what was refused.
    fn settle(&mut self) -> Result<(), TaskError> {
        while let Some((sent, refused)) = self.refused.pop_front() {
            if self.resolve(&sent.part, refused)? {
                self.finished_one(sent.token);
            }
        }
        Ok(())
    }

    /// Sends refused rows again as far as that may help, and disposes of the rest. Answers `false` when the task has to stop first.
    fn resolve(&mut self, part: &Part, refused: Refused) -> Result<bool, TaskError> {
        let (large, mut rest) = divide(refused);
        // Also if there is only one: its batch may have had records of other sends, too.
        if !large.is_empty() {
            match self.send_apart(part, large.into_iter().map(|(row, _)| row).collect())? {
                Some(refused) => rest.extend(refused),
                None => return Ok(false),
            }
        }
        let mut retries = None;
        let mut lost = Vec::new();
        loop {
            let (again, for_good): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, error)| error.retriable);
            lost.extend(for_good);
            let Some((_, first)) = again.first() else { break };
            let retries = retries.get_or_insert_with(|| self.errors.policy.retries());
            let what = format!("producing {} records to {}", again.len(), part.topic);
            if !self.errors.pause(retries, &what, &first.message) {
                if self.control.stopping() {
                    return Ok(false);
                }
                lost.extend(again);
                break;
            }
            let rows = again.into_iter().map(|(row, _)| row).collect::<Vec<_>>();
            match self.send_rows(part, &rows)? {
                Some(refused) => rest = refused,
                None => return Ok(false),
            }
        }
        if retries.is_some() {
            self.control.counters.set_retrying(None);
        }
        self.dispose(part, lost)
    }

    /// Sends rows that were too large together again in ever smaller runs, each alone in the client, so that only those remain
    /// that are too large by themselves. `None` when the task has to stop first.
    fn send_apart(&mut self, part: &Part, rows: Vec<usize>) -> Result<Option<Refused>, TaskError> {
        let mut runs = vec![rows];
        let mut refused = Vec::new();
        while let Some(run) = runs.pop() {
            let Some(answer) = self.send_rows(part, &run)? else { return Ok(None) };
            let (large, other) = divide(answer);
            refused.extend(other);
            if run.len() == 1 {
                refused.extend(large);
            } else if !large.is_empty() {
                let mut first = large.into_iter().map(|(row, _)| row).collect::<Vec<_>>();
                let second = first.split_off(first.len().div_ceil(2));
                runs.extend([second, first].into_iter().filter(|run| !run.is_empty()));
            }
        }
        Ok(Some(refused))
    }

    /// Sends these rows alone, with nothing else in the client, and waits for the answer: the rows that were refused. `None` when
    /// the task has to stop first.
    fn send_rows(&mut self, part: &Part, rows: &[usize]) -> Result<Option<Refused>, TaskError> {
        if !self.wait_until(|this| this.producer.in_flight() == 0)? {
            return Ok(None);
        }
        let records = rows::take_records(&part.records, rows).map_err(|error| TaskError::new(error.to_string()))?;
        self.last_send += 1;
        let number = self.last_send;
        // No batch has the token 0: what is refused of it is dealt with here and nowhere else.
        self.sends.insert(number, Sent { token: 0, part: Part { records: records.clone(), ..part.clone() } });
        if !self.hand_over(number, &part.topic, &records)?
            || !self.wait_until(|this| !this.sends.contains_key(&number))?
        {
            return Ok(None);
        }
        let of_part = |(row, error): (usize, LogError)| (rows[row], error);
        let place = self.refused.iter().position(|(sent, _)| sent.token == 0);
        let refused = place.and_then(|place| self.refused.remove(place)).map_or_else(Vec::new, |(_, refused)| refused);
        Ok(Some(refused.into_iter().map(of_part).collect()))
    }

    /// Collects until the condition holds. Answers `false` when the task has to end first; one that is stopping has the flush time-out.
    fn wait_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<bool, TaskError> {
        let mut deadline = None;
        while !done(self) {
            if self.control.fenced() {
                return Ok(false);
            }
            if self.control.stopping() {
                let deadline = deadline.get_or_insert_with(|| Instant::now() + self.settings.flush_timeout);
                if Instant::now() >= *deadline {
                    return Ok(false);
                }
            }
            self.collect(Duration::from_millis(20))?;
        }
        Ok(true)
    }

    /// Judges rows that the log refused for good, and keeps those that are tolerated as dead letters where a topic is configured.
    /// Answers `false` when the task has to stop first.
    fn dispose(&mut self, part: &Part, mut refused: Refused) -> Result<bool, TaskError> {
        if refused.is_empty() {
            return Ok(true);
        }
        refused.sort_by_key(|(row, _)| *row);
        let failed = refused.iter().map(|(row, error)| FailedRecord::produce(*row, error)).collect::<Vec<_>>();
        self.errors.judge(&failed, part)?;
        let Some(dead_letters) = &mut self.dead_letters else { return Ok(true) };
        let rows = failed.iter().map(|record| record.row).collect::<Vec<_>>();
        let records = rows::take_records(&part.records, &rows).map_err(|error| TaskError::new(error.to_string()))?;
        dead_letters.send(records, &failed.iter().collect::<Vec<_>>(), |row| {
            source_context(&part.topic, part.source_partition.as_deref(), part.offsets.as_ref(), rows[row], AS_PRODUCED)
        })
    }

    /// Waits for what is in flight, at most for the flush time-out.
    fn drain(&mut self) -> Result<(), TaskError> {
        let deadline = Instant::now() + self.settings.flush_timeout;
        while !self.in_flight.is_empty() && !self.control.fenced() {
            if Instant::now() >= deadline {
                tracing::warn!(
                    "{} batches were not acknowledged within {:?} of stopping; they will be read again at the next start",
                    self.in_flight.len(),
                    self.settings.flush_timeout
                );
                break;
            }
            self.collect(Duration::from_millis(20))?;
            self.settle()?;
        }
        Ok(())
    }

    /// Stores what became committable, and answers whether all of it is. A failure is logged and tried again at the next interval: nothing
    /// is lost by waiting.
    fn commit(&mut self) -> bool {
        self.next_commit = Instant::now() + self.settings.commit_interval;
        if !self.control.may_write() {
            return false;
        }
        match self.dead_letters.as_mut().map(|dead_letters| dead_letters.flush(DEAD_LETTERS_WAIT)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => return false,
            Some(Err(error)) => {
                tracing::warn!("no offset is stored any more: {}", error.message);
                return false;
            }
        }
        // Further batches of the newest poll may still come, so its state is not complete yet.
        let oldest_open = self.in_flight.values().map(|open| open.epoch).min().unwrap_or(self.newest_epoch);
        let positions = self.tracker.take_committable();
        if !positions.is_empty() {
            let begun = Instant::now();
            if let Err(error) = self.services.offsets.put(&self.services.connector, &positions) {
                self.control.counters.meters.committed(begun.elapsed(), false);
                tracing::error!("offsets were not stored and will be at the next interval: {error}");
                self.tracker.put_back(positions);
                return false;
            }
            self.control.counters.committed(begun.elapsed());
            self.committed.lock().unwrap_or_else(PoisonError::into_inner).extend(positions);
        }
        let stored = self.services.state.commit(oldest_open.saturating_sub(1));
        if let Err(error) = &stored {
            tracing::error!("state was not stored and will be at the next interval: {error}");
        }
        stored.is_ok()
    }

    fn until_commit(&self) -> Duration {
        self.next_commit.saturating_duration_since(Instant::now())
    }
}

/// Rows of batches that were too large, and the others.
fn divide(refused: Refused) -> (Refused, Refused) {
    refused.into_iter().partition(|(_, error)| error.code == Some("MSG_SIZE_TOO_LARGE"))
}

impl Origin for Part {
    fn place(&self, row: usize) -> String {
        let bytes = self.records.slice(row, 1).bytes();
        format!("row {row} of a batch for topic {} ({bytes} bytes)", self.topic)
    }

    fn details(&self, row: usize) -> String {
        let shown = |cell: Option<&arrow_array::BinaryArray>| match cell.filter(|cell| cell.is_valid(row)) {
            Some(cell) => String::from_utf8_lossy(cell.value(row)).into_owned(),
            None => "null".to_owned(),
        };
        let (key, value) = (shown(self.records.keys.as_ref()), shown(Some(&self.records.values)));
        format!("source record is = ProducerRecord{{topic='{}', key={key}, value={value}}}", self.topic)
    }
}
