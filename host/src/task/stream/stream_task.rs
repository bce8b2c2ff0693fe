//! The loop of a stream task: one thread, one transaction after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::Batch;

use super::writer::{MakeProducer, Trouble, Writer};
use crate::log::{ClientSettings, ConsumerEvent, FetchedBatch, Log, LogConsumer, TopicPartition};
use crate::state::{LogChangelog, Positions, Shard, StateError, TaskState};
use crate::task::control::TaskControl;
use crate::task::dead_letters::DeadLetters;
use crate::task::delivery::TopicUsed;
use crate::task::error_policy::{ErrorHandler, ErrorPolicy};
use crate::task::errors::TaskError;
use crate::task::inbound::Inbound;
use crate::task::inbound_converter::InboundConverter;
use crate::task::outbound_converter::{OutboundConverter, Sequence};
use crate::task::rows;
use crate::task::source_task::Report;
use crate::task::used_topics::UsedTopics;
use crate::transform::Applied;
use crate::worker::State;

/// How long a poll waits for records.
const POLL: Duration = Duration::from_millis(50);
/// How often time is told to transforms, and the lag read.
const TICK: Duration = Duration::from_secs(1);
const LAG: Duration = Duration::from_secs(5);
/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(30);
/// How long the changelog may give nothing while there is more to come: as long as a transaction may be open.
const CHANGELOG: Duration = Duration::from_secs(120);
/// Records of an open transaction.
const MAX_RECORDS: usize = 500_000;
/// How many transactions in a row may come to nothing.
const FRUITLESS: u32 = 10;

/// How the task runs.
pub struct StreamSettings {
    /// How long a transaction is open.
    pub interval: Duration,
    /// Records and bytes that one poll returns at most.
    pub max_records: usize,
    /// See above.
    pub max_bytes: usize,
    /// Whether a partition without committed offset is read from its end (`auto.offset.reset=latest`) instead of its beginning.
    pub from_end: bool,
    /// Where records go that still have the topic they come from.
    pub topic: Option<Arc<str>>,
    /// Told of each topic read or written.
    pub topic_used: TopicUsed,
}

/// What a task with stateful transforms has besides.
pub struct StreamState {
    /// The stores.
    pub state: Arc<TaskState>,
    /// The changelog topic.
    pub changelog: String,
    /// Client settings to read it.
    pub reader: ClientSettings,
}

/// Everything that a stream task is made of.
pub struct StreamTask {
    /// `<connector>-<task>`.
    pub name: String,
    /// Converters of the input, and transforms.
    pub inbound: InboundConverter,
    /// Converters of the output.
    pub outbound: OutboundConverter,
    /// The cluster.
    pub log: Arc<dyn Log>,
    /// Where records come from.
    pub consumer: Box<dyn LogConsumer>,
    /// Where they go.
    pub producer: MakeProducer,
    /// What happens to records that fail.
    pub errors: ErrorPolicy,
    /// Where failed records are kept, if anywhere.
    pub dead_letters: Option<DeadLetters>,
    /// Orders and progress.
    pub control: Arc<TaskControl>,
    /// Told of RUNNING and PAUSED.
    pub report: Report,
    /// How it runs.
    pub settings: StreamSettings,
    /// With stateful transforms.
    pub state: Option<StreamState>,
}

impl StreamTask {
    /// Runs until stopped or failed. Blocks; called on the task's own thread.
    pub fn run(self) -> Result<(), TaskError> {
        let control = self.control.clone();
        let errors = ErrorHandler { policy: self.errors, task: self.name.as_str().into(), control: control.clone() };
        let mut running = Running {
            inbound: self.inbound,
            outbound: self.outbound,
            log: self.log,
            consumer: self.consumer,
            writer: Writer::new(self.producer, control.clone()),
            errors,
            dead_letters: self.dead_letters,
            topics: UsedTopics::new(self.settings.topic_used.clone()),
            settings: self.settings,
            state: self.state,
            control,
            events: VecDeque::new(),
            assigned: Vec::new(),
            started: BTreeSet::new(),
            positions: BTreeMap::new(),
            records: 0,
            opened: Instant::now(),
            paused: false,
            fruitless: 0,
        };
        let mut result = running.run(&self.report);
        if result.is_ok() && running.control.may_write() && !running.lost_its_way() {
            result = match running.commit() {
                Err(Trouble::Fatal(error)) => Err(error),
                // What was not committed is read again.
                Err(Trouble::Again(reason)) => {
                    tracing::warn!("the last transaction was not committed, its records come again: {reason}");
                    Ok(())
                }
                Ok(()) | Err(Trouble::Stopped) => Ok(()),
            };
        }
        running.end();
        result
    }
}

struct Running {
    inbound: InboundConverter,
    outbound: OutboundConverter,
    log: Arc<dyn Log>,
    consumer: Box<dyn LogConsumer>,
    writer: Writer,
    errors: ErrorHandler,
    dead_letters: Option<DeadLetters>,
    settings: StreamSettings,
    state: Option<StreamState>,
    control: Arc<TaskControl>,
    topics: UsedTopics,
    /// Polled and not taken yet.
    events: VecDeque<ConsumerEvent>,
    assigned: Vec<TopicPartition>,
    /// Those of them that are being read.
    started: BTreeSet<TopicPartition>,
    /// Next-to-read offsets of the open transaction.
    positions: BTreeMap<TopicPartition, i64>,
    /// Records that the open transaction is made from.
    records: usize,
    opened: Instant,
    paused: bool,
    fruitless: u32,
}

type Done = Result<(), Trouble>;

impl Running {
    fn run(&mut self, report: &Report) -> Result<(), TaskError> {
        let mut reported = None;
        let (mut next_tick, mut next_lag) = (Instant::now() + TICK, Instant::now());
        let mut begun = Some(self.writer.renew());
        while !self.control.stopping() {
            let paused = self.control.paused();
            let state = if paused { State::Paused } else { State::Running };
            if reported.replace(state) != Some(state) {
                report(state);
            }
            let ticks = Instant::now() >= next_tick;
            if ticks {
                next_tick = Instant::now() + TICK;
            }
            let done = match begun.take() {
                Some(done) => done,
                None => self.turn(paused, ticks),
            };
            match done {
                Ok(()) => {}
                Err(Trouble::Stopped) => return Ok(()),
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Again(reason)) => {
                    self.fruitless += 1;
                    if self.fruitless > FRUITLESS {
                        return Err(TaskError::new(format!(
                            "{FRUITLESS} transactions in a row came to nothing; the last: {reason}"
                        )));
                    }
                    tracing::warn!(
                        "the transaction came to nothing and is done again from the committed offsets: {reason}"
                    );
                    if self.control.wait(Duration::from_millis(100) * self.fruitless) {
                        return Ok(());
                    }
                    begun = Some(self.begin_anew());
                }
            }
            if Instant::now() >= next_lag {
                next_lag = Instant::now() + LAG;
                let lag = self.consumer.lag();
                self.control.counters.meters.partitions(self.assigned.len(), lag.iter().map(|(_, lag)| *lag));
                self.control.counters.set_lag((!lag.is_empty()).then(|| lag.iter().map(|(_, lag)| lag).sum()));
            }
        }
        Ok(())
    }

    fn turn(&mut self, paused: bool, ticks: bool) -> Done {
        if paused != self.paused {
            self.commit()?;
            let change = match paused {
                true => self.consumer.pause(&self.assigned),
                false => self.consumer.resume(&self.assigned),
            };
            change.map_err(TaskError::from)?;
            self.paused = paused;
        }
        if self.events.is_empty() {
            let Self { consumer, settings, .. } = self;
            let polled = consumer.poll(settings.max_records, settings.max_bytes, POLL);
            self.events.extend(polled.map_err(TaskError::from)?);
        }
        while let Some(event) = self.events.pop_front() {
            match event {
                ConsumerEvent::Batch(fetched) => self.take(*fetched)?,
                ConsumerEvent::Assigned(partitions) => self.start(partitions)?,
                ConsumerEvent::Revoked(partitions) => {
                    let committed = self.commit();
                    // Whatever became of it: the group waits.
                    self.give_up(&partitions)?;
                    committed?;
                }
                ConsumerEvent::Lost(partitions) => {
                    self.give_up(&partitions)?;
                    return Err(Trouble::Again("partitions were taken away while a transaction was open".to_owned()));
                }
                ConsumerEvent::End(..) => {}
            }
        }
        if ticks {
            for shard in self.shards() {
                let applied = self.inbound.chain.advance(shard, !paused).map_err(chain_error)?;
                self.emit(applied)?;
            }
        }
        let due = self.opened.elapsed() >= self.settings.interval || self.records >= MAX_RECORDS;
        let full = self.state.as_ref().is_some_and(|state| state.state.is_full());
        if due || full || self.control.take_commit_request() {
            self.commit()?;
        }
        Ok(())
    }

    /// Partitions that have state here.
    fn shards(&self) -> Vec<Shard> {
        self.state.as_ref().map(|state| state.state.shards()).unwrap_or_default()
    }

    /// Reads partitions from their committed offsets on, with their state.
    fn start(&mut self, partitions: Vec<TopicPartition>) -> Done {
        // They are this task's from now on, also if it has to begin anew.
        self.assigned.extend(partitions.iter().filter(|new| !self.assigned.contains(new)).cloned().collect::<Vec<_>>());
        let committed = self.open(&partitions)?;
        self.consumer.assign(&committed).map_err(TaskError::from)?;
        self.started.extend(partitions.iter().cloned());
        if self.paused {
            self.consumer.pause(&partitions).map_err(TaskError::from)?;
        }
        Ok(())
    }

    /// The committed offsets of partitions, whose state is restored.
    fn open(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Option<i64>)>, Trouble> {
        // Waits for the transactions of whoever had the partitions before.
        let committed = self.consumer.committed(partitions, ASK).map_err(|error| match error.retriable {
            true => Trouble::Again(error.message),
            false => Trouble::Fatal(error.into()),
        })?;
        let Some(StreamState { state, changelog, reader }) = &self.state else { return Ok(committed) };
        let open = state.shards();
        let shards: BTreeSet<Shard> = partitions.iter().map(|partition| partition.partition).collect();
        for shard in shards.into_iter().filter(|shard| !open.contains(shard)) {
            let stopping = || self.control.stopping();
            let mut changelog = LogChangelog::new(&*self.log, reader.clone(), changelog, shard, CHANGELOG, &stopping);
            let begun = Instant::now();
            let restored = match state.restore(shard, &mut changelog) {
                Err(_) if self.control.stopping() => return Err(Trouble::Stopped),
                restored => restored.map_err(state_error)?,
            };
            tracing::info!(
                shard,
                records = restored.records,
                whole = restored.full,
                "the state is restored, in {:?}",
                begun.elapsed()
            );
        }
        Ok(committed)
    }

    fn give_up(&mut self, partitions: &[TopicPartition]) -> Done {
        self.assigned.retain(|partition| !partitions.contains(partition));
        self.started.retain(|partition| !partitions.contains(partition));
        for shard in self.shards() {
            if !self.assigned.iter().any(|partition| partition.partition == shard) {
                self.close_shard(shard);
            }
        }
        self.consumer.unassign(partitions).map_err(|error| TaskError::from(error).into())
    }

    fn close_shard(&mut self, shard: Shard) {
        self.inbound.chain.forget(shard);
        if let Some(state) = &self.state {
            state.state.close(shard);
        }
    }

    /// Forgets the open transaction, whatever became of it, and goes on from what is committed.
    fn begin_anew(&mut self) -> Done {
        self.writer.abort();
        self.positions.clear();
        self.records = 0;
        for shard in self.shards() {
            self.close_shard(shard);
        }
        self.events.retain(|event| !matches!(event, ConsumerEvent::Batch(_)));
        // Only after this is it certain what is committed.
        self.writer.renew()?;
        let partitions = self.assigned.clone();
        if partitions.is_empty() {
            return Ok(());
        }
        for (partition, committed) in self.open(&partitions)? {
            let offset = match committed {
                Some(offset) => offset,
                None => {
                    let (first, next) = self.log.admin().watermarks(&partition, ASK).map_err(TaskError::from)?;
                    if self.settings.from_end { next } else { first }
                }
            };
            if self.started.contains(&partition) {
                self.consumer.seek(&partition, offset).map_err(|error| match error.retriable {
                    true => Trouble::Again(error.message),
                    false => Trouble::Fatal(error.into()),
                })?;
            } else {
                self.consumer.assign(&[(partition.clone(), Some(offset))]).map_err(TaskError::from)?;
                self.started.insert(partition);
            }
        }
        Ok(())
    }

    fn take(&mut self, fetched: FetchedBatch) -> Done {
        if !self.assigned.contains(&fetched.topic_partition) {
            // Read before the partition was given up.
            return Ok(());
        }
        self.begin()?;
        self.topics.used(&fetched.topic_partition.topic);
        self.records += fetched.records.len();
        self.control.counters.came_in(fetched.records.len(), fetched.records.bytes());
        // A part of it may be in the state already: the transaction must not be committed then.
        let Some(inbound) = self.inbound.convert(fetched, &self.errors)? else { return Err(self.stop_here()) };
        self.dispose(&inbound)?;
        let topic = inbound.partition.topic.clone();
        for batch in inbound.batches {
            self.write(batch, Some(&topic))?;
        }
        self.positions.insert(inbound.partition, inbound.next_offset);
        Ok(())
    }

    fn begin(&mut self) -> Done {
        if !self.writer.is_open() {
            self.opened = Instant::now();
        }
        self.writer.begin()
    }

    /// The task has to stop in the middle of a batch.
    fn stop_here(&mut self) -> Trouble {
        self.writer.abort();
        self.positions.clear();
        Trouble::Stopped
    }

    /// Whether something was staged for a transaction that is not open any more.
    fn lost_its_way(&self) -> bool {
        !self.writer.is_open()
    }

    fn dispose(&mut self, inbound: &Inbound) -> Done {
        let failed = &inbound.failures;
        if failed.is_empty() {
            return Ok(());
        }
        self.errors.judge(failed, inbound)?;
        let Some(dead_letters) = &mut self.dead_letters else { return Ok(()) };
        let picked = failed.iter().map(|record| record.row).collect::<Vec<_>>();
        let records =
            rows::take_records(&inbound.fetched.records, &picked).map_err(|error| TaskError::new(error.to_string()))?;
        match dead_letters.send(records, &failed.iter().collect::<Vec<_>>(), |row| inbound.context(picked[row]))? {
            true => Ok(()),
            false => Err(self.stop_here()),
        }
    }

    /// Writes what stateful transforms emit without a record.
    fn emit(&mut self, applied: Applied) -> Done {
        if let Some(failure) = applied.failures.first() {
            let (alias, message) = (&failure.alias, &failure.message);
            let message = format!("a result of the stateful transforms failed in the transform {alias}: {message}");
            if !self.errors.policy.tolerate {
                return Err(TaskError::new(message).into());
            }
            tracing::warn!("{} results were skipped: {message}", applied.failures.len());
            self.control.counters.failed(applied.failures.len());
        }
        self.control.counters.filtered(applied.dropped);
        for batch in applied.batches {
            self.begin()?;
            self.write(batch, None)?;
        }
        Ok(())
    }

    /// Converts and sends. Nothing is written to the topic that it comes from.
    fn write(&mut self, mut batch: Batch, from: Option<&Arc<str>>) -> Done {
        let is_input =
            |topic: &Arc<str>| from == Some(topic) || self.assigned.iter().any(|partition| partition.topic == *topic);
        if is_input(&batch.topic) {
            let topic = self.settings.topic.clone().ok_or_else(|| {
                TaskError::new(format!(
                    "a record of {} would be written to the topic that it comes from: set topic, or let a transform give it another one",
                    batch.topic
                ))
            })?;
            batch.topic = topic;
        }
        let sequence = Sequence { token: 0, epoch: 0 };
        let Some(outbound) = self.outbound.convert(batch, sequence, &self.errors)? else {
            return Err(self.stop_here());
        };
        for part in outbound.parts {
            self.topics.used(&part.topic);
            self.writer.send(&part.topic, &part.records)?;
            self.control.counters.went_out(part.records.len());
        }
        Ok(())
    }

    /// Commits outputs, state and offsets together.
    fn commit(&mut self) -> Done {
        let committed = self.try_commit();
        if committed.is_err() {
            // Its layer is gone: nothing of it may be committed later.
            self.writer.abort();
            self.positions.clear();
        }
        committed
    }

    fn try_commit(&mut self) -> Done {
        for shard in self.shards() {
            let applied = self.inbound.chain.before_commit(shard).map_err(chain_error)?;
            self.emit(applied)?;
        }
        let layer = self.state.as_ref().map(|state| state.state.seal()).transpose().map_err(state_error)?;
        if layer.as_ref().is_some_and(|layer| !layer.is_empty()) {
            self.begin()?;
        }
        if !self.writer.is_open() {
            self.opened = Instant::now();
            return match (&self.state, layer) {
                // It is empty; layers are committed in their order.
                (Some(state), Some(layer)) => state.state.committed(layer, Positions::default()).map_err(state_error),
                _ => Ok(()),
            };
        }
        let begun = Instant::now();
        let mut tokens = BTreeMap::new();
        if let (Some(state), Some(layer)) = (&self.state, &layer) {
            for changes in &layer.changes {
                tokens.insert(changes.shard, self.writer.send(&state.changelog, &changes.records())?);
            }
        }
        if let Some(dead_letters) = &mut self.dead_letters
            && !dead_letters.flush(Duration::from_secs(30))?
        {
            return Err(Trouble::Again("dead letters were not acknowledged within 30 seconds".to_owned()));
        }
        let inputs: Vec<(TopicPartition, i64)> =
            self.positions.iter().map(|(partition, offset)| (partition.clone(), *offset)).collect();
        let group = self.consumer.group_metadata().map_err(TaskError::from)?;
        self.writer.commit(&inputs, &group)?;
        self.control.counters.committed(begun.elapsed());
        (self.records, self.fruitless, self.opened) = (0, 0, Instant::now());
        self.positions.clear();
        if let (Some(StreamState { state, changelog, .. }), Some(layer)) = (&self.state, layer) {
            let mut ends = BTreeMap::new();
            for (shard, token) in tokens {
                let next = match self.writer.last_offset(token) {
                    Some(offset) => offset + 1,
                    // Nobody else writes to this partition.
                    None => {
                        let partition = TopicPartition { topic: changelog.as_str().into(), partition: shard };
                        self.log.admin().watermarks(&partition, ASK).map_err(TaskError::from)?.1
                    }
                };
                ends.insert(shard, next);
            }
            state.committed(layer, Positions { inputs, changelog: ends }).map_err(state_error)?;
        }
        Ok(())
    }

    fn end(mut self) {
        if self.control.fenced() {
            // Whoever comes next ends what is open.
            return;
        }
        self.writer.abort();
        for shard in self.shards() {
            self.close_shard(shard);
        }
        self.writer.close();
        self.consumer.close(Duration::from_secs(5)).unwrap_or_else(|error| tracing::warn!("{error}"));
        if let Some(dead_letters) = self.dead_letters {
            dead_letters.close();
        }
    }
}

fn chain_error(error: tributary_sdk::Error) -> Trouble {
    Trouble::Fatal(TaskError::of_call("a transform", error))
}

fn state_error(error: StateError) -> Trouble {
    match error.retriable {
        true => Trouble::Again(error.message),
        false => Trouble::Fatal(TaskError::new(error.message)),
    }
}
