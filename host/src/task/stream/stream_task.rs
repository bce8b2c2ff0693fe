//! The loop of a stream task: one thread, one transaction after the other.

mod commit;
mod failed;
mod partitions;
mod pauses;
mod records;
mod results;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Trouble;
use super::group_offsets::GroupOffsets;
use super::outbox::Outbox;
use super::repartition::Repartition;
use super::sink_target::SinkTarget;
use super::stages::Stages;
use crate::log::{ClientSettings, ConsumerEvent, Log, LogConsumer, LogError, LogRecords, TopicPartition};
use crate::state::{Layer, Shard, StateError, TaskState};
use crate::task::backoff::Backoff;
use crate::task::control::TaskControl;
use crate::task::dead_letters::Letterhead;
use crate::task::delivery::{Part, TopicUsed};
use crate::task::error_policy::{ErrorHandler, ErrorPolicy};
use crate::task::errors::TaskError;
use crate::task::inbound_converter::InboundConverter;
use crate::task::outbound_converter::OutboundConverter;
use crate::task::source_task::Report;
use crate::task::transaction::{Make, Transactor};
use crate::task::used_topics::UsedTopics;
use crate::worker::State;

/// How long a poll waits for records.
const POLL: Duration = Duration::from_millis(50);
/// How often time is told to transforms, and the lag read.
const TICK: Duration = Duration::from_secs(1);
const LAG: Duration = Duration::from_secs(5);
/// How often records of repartition topics are deleted that the next stage has.
const PURGE: Duration = Duration::from_secs(30);
/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(30);
/// The same, where it is asked again and the task waits: so long it cannot be stopped.
const SHORT: Duration = Duration::from_secs(5);
/// Records and bytes of an open transaction: what it writes is held in memory.
const MAX_RECORDS: usize = 500_000;
const MAX_BYTES: usize = 64 << 20;
/// Entries of the state that are worth being sent while the transaction goes on: at its end there is less to wait for. An entry that
/// changes again is written again. Few in builds that check their assertions, so that every test comes by here.
const EARLY: usize = if cfg!(debug_assertions) { 64 } else { 16_384 };
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
    /// Whether it is an error (`none`).
    pub strict: bool,
    /// Where records go that still have the topic they come from.
    pub topic: Option<Arc<str>>,
    /// Topics of late records. They are written to the log, also by sink tasks.
    pub late_topics: Vec<String>,
    /// How often the group's offsets of the outbox follow.
    pub flush_interval: Duration,
    /// How long a transaction of the connector's tasks can be open (`transaction.timeout.ms`).
    pub transaction_timeout: Duration,
    /// How long stopping may wait for the last commit.
    pub flush_timeout: Duration,
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
    /// The cluster that is written to, and has everything of the task's own.
    pub log: Arc<dyn Log>,
    /// The cluster that has the input.
    pub source: Arc<dyn Log>,
    /// Whether they are two.
    pub across: bool,
    /// Where records come from.
    pub consumer: Box<dyn LogConsumer>,
    /// `transactional.id`.
    pub id: String,
    /// Makes producers with the id.
    pub producer: Make,
    /// Where records go that are not written to the log.
    pub sink: Option<SinkTarget>,
    /// What happens to records that fail.
    pub errors: ErrorPolicy,
    /// Where failed records are kept, if anywhere: in the task's own transactions.
    pub dead_letters: Option<Letterhead>,
    /// Orders and progress.
    pub control: Arc<TaskControl>,
    /// Told of RUNNING and PAUSED.
    pub report: Report,
    /// How it runs.
    pub settings: StreamSettings,
    /// With stateful transforms.
    pub state: Option<StreamState>,
    /// Where the chain is cut.
    pub stages: Stages,
}

impl StreamTask {
    /// Runs until stopped or failed. Blocks; called on the task's own thread.
    pub fn run(self) -> Result<(), TaskError> {
        let control = self.control.clone();
        let errors = ErrorHandler { policy: self.errors, task: self.name.as_str().into(), control: control.clone() };
        let positions = GroupOffsets::new(self.consumer);
        let flush_timeout = self.settings.flush_timeout;
        let outbox = self.stages.outbox().map(|topic| Outbox::new(topic.clone(), self.settings.flush_interval));
        let mut running = Running {
            inbound: self.inbound,
            outbound: self.outbound,
            log: self.log,
            source: self.source,
            across: self.across,
            transactor: Transactor::new(self.id, self.producer, None, control.clone(), positions),
            sink: self.sink,
            errors,
            dead_letters: self.dead_letters,
            topics: UsedTopics::new(self.settings.topic_used.clone()),
            settings: self.settings,
            state: self.state,
            stages: self.stages,
            repartition: Repartition::default(),
            outbox,
            purged: Vec::new(),
            control,
            events: VecDeque::new(),
            assigned: Vec::new(),
            held_by_connector: Vec::new(),
            started: BTreeSet::new(),
            first_read: BTreeMap::new(),
            layer: None,
            waiting: Vec::new(),
            owed: Vec::new(),
            records: 0,
            bytes: 0,
            opened: Instant::now(),
            deadline: None,
            paused: false,
            pushed_back: false,
            torn: false,
            fruitless: 0,
        };
        let control = running.control.clone();
        let started = running.sink.as_mut().map_or(Ok(()), |sink| sink.start(&control));
        let mut result = started.and_then(|()| running.run(&self.report));
        // A part of a batch may be in the state already: the transaction must not be committed then.
        if result.is_ok() && running.control.may_write() && !running.torn {
            running.deadline = Some(Instant::now() + flush_timeout);
            result = match running.commit_all() {
                Err(Trouble::Fatal(error)) => Err(error),
                // What was not committed is read again.
                Err(Trouble::Again(reason) | Trouble::Away(reason)) => {
                    tracing::warn!("the last transaction was not committed, its records come again: {reason}");
                    Ok(())
                }
                Ok(()) | Err(Trouble::Stopped) => Ok(()),
            };
        }
        let ended = running.end();
        result.and(ended)
    }
}

struct Running {
    inbound: InboundConverter,
    outbound: OutboundConverter,
    log: Arc<dyn Log>,
    source: Arc<dyn Log>,
    across: bool,
    transactor: Transactor<GroupOffsets>,
    sink: Option<SinkTarget>,
    errors: ErrorHandler,
    dead_letters: Option<Letterhead>,
    settings: StreamSettings,
    state: Option<StreamState>,
    stages: Stages,
    repartition: Repartition,
    /// The sink's half, where there is an outbox.
    outbox: Option<Outbox>,
    /// Up to where the connector's own topics were emptied.
    purged: Vec<(TopicPartition, i64)>,
    control: Arc<TaskControl>,
    topics: UsedTopics,
    /// Polled and not taken yet.
    events: VecDeque<ConsumerEvent>,
    assigned: Vec<TopicPartition>,
    /// Partitions that the connector itself asked to pause.
    held_by_connector: Vec<TopicPartition>,
    /// Those of them that are being read.
    started: BTreeSet<TopicPartition>,
    /// Where partitions that had no committed offset were first read from.
    first_read: BTreeMap<TopicPartition, i64>,
    /// What the transaction has written of the state so far; while it is being committed, all of it.
    layer: Option<Layer>,
    /// What goes with the transaction of a sink: it is opened only when the connector has flushed.
    waiting: Vec<Part>,
    /// Dead letters of what the sink was given from the outbox: it is not given that again, so they stay until they are committed.
    owed: Vec<Part>,
    /// Records that the open transaction is made from, and bytes that it writes.
    records: usize,
    bytes: usize,
    opened: Instant,
    /// Until when the last commit has time.
    deadline: Option<Instant>,
    paused: bool,
    /// The earlier stages are not read: what they write has to wait for the connector.
    pushed_back: bool,
    /// The task has stopped in the middle of a batch.
    torn: bool,
    fruitless: u32,
}

type Done = Result<(), Trouble>;

impl Running {
    fn run(&mut self, report: &Report) -> Result<(), TaskError> {
        let mut reported = None;
        let (mut next_tick, mut next_lag) = (Instant::now() + TICK, Instant::now());
        let mut next_purge = Instant::now() + PURGE;
        let mut backoff = Backoff::default();
        // Fences earlier producers of the id.
        let mut begun = Some(self.drive());
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
            let (anew, done) = match begun.take() {
                Some(done) => (true, done),
                None => (false, self.turn(paused, ticks)),
            };
            match done {
                Ok(()) if anew => {
                    backoff.reset();
                    self.control.counters.set_retrying(None);
                }
                Ok(()) => {}
                Err(Trouble::Stopped) => {
                    self.torn = true;
                    return Ok(());
                }
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Away(reason)) => {
                    tracing::warn!(
                        "the task begins anew in {:?}, from the committed offsets: {reason}",
                        backoff.next()
                    );
                    self.control.counters.set_retrying(Some(&reason));
                    if self.control.wait(backoff.advance()) {
                        self.torn = true;
                        return Ok(());
                    }
                    begun = Some(self.begin_anew());
                }
                Err(Trouble::Again(reason)) => {
                    self.fruitless += 1;
                    self.control.counters.set_retrying(Some(&reason));
                    if self.fruitless > FRUITLESS && self.cluster_is_away() {
                        // It is not the transactions' fault.
                        self.fruitless = FRUITLESS;
                    }
                    if self.fruitless > FRUITLESS {
                        return Err(TaskError::new(format!(
                            "{FRUITLESS} transactions in a row came to nothing; the last: {reason}"
                        )));
                    }
                    tracing::warn!(
                        "the transaction came to nothing and is done again from the committed offsets: {reason}"
                    );
                    if self.control.wait(Duration::from_millis(100) * self.fruitless) {
                        self.torn = true;
                        return Ok(());
                    }
                    begun = Some(self.begin_anew());
                }
            }
            if self.stages.has_own_topics() && Instant::now() >= next_purge {
                next_purge = Instant::now() + PURGE;
                self.purge();
            }
            if Instant::now() >= next_lag {
                next_lag = Instant::now() + LAG;
                let lag = self.consumer().lag();
                self.control.counters.set_partitions(self.assigned.len(), &lag);
            }
        }
        Ok(())
    }

    /// Whether the group's coordinator does not answer.
    fn cluster_is_away(&mut self) -> bool {
        let partitions = self.assigned.clone();
        match partitions.is_empty() {
            true => self.log.cluster_id(SHORT).is_err_and(|error| error.retriable),
            false => self.consumer().committed(&partitions, SHORT).is_err_and(|error| error.retriable),
        }
    }

    fn consumer(&mut self) -> &mut dyn LogConsumer {
        &mut *self.transactor.positions.consumer
    }

    fn turn(&mut self, paused: bool, ticks: bool) -> Done {
        if paused != self.paused {
            self.commit_all()?;
            let partitions = self.assigned.clone();
            let change = match paused {
                true => self.consumer().pause(&partitions),
                false => {
                    let wanted = partitions.into_iter().filter(|partition| !self.is_held(partition));
                    let wanted = wanted.collect::<Vec<_>>();
                    self.consumer().resume(&wanted)
                }
            };
            change.map_err(TaskError::from)?;
            self.paused = paused;
        }
        self.obey_connector()?;
        if self.events.is_empty() {
            let (records, bytes) = (self.settings.max_records, self.settings.max_bytes);
            let polled = self.consumer().poll(records, bytes, POLL);
            self.events.extend(polled.map_err(TaskError::from)?);
        }
        while let Some(event) = self.events.pop_front() {
            match event {
                ConsumerEvent::Batch(fetched) => self.take(*fetched)?,
                ConsumerEvent::Assigned(partitions) => self.start(partitions)?,
                ConsumerEvent::Revoked(partitions) => {
                    let committed = self.commit_all();
                    let clean = self.transactor.positions.is_clean();
                    let closed = self.close_sink(&partitions);
                    // Whatever became of it: the group waits.
                    self.give_up(&partitions)?;
                    closed?;
                    committed?;
                    if !clean {
                        return Err(Trouble::Again(
                            "partitions were given up before the connector had written all of their records".to_owned(),
                        ));
                    }
                }
                ConsumerEvent::Lost(partitions) => {
                    let closed = self.close_sink(&partitions);
                    self.give_up(&partitions)?;
                    closed?;
                    if let (Some(sink), Some(true)) = (&self.sink, self.outbox.as_ref().map(Outbox::is_closed)) {
                        sink.services.state.discard();
                    }
                    return Err(Trouble::Again("partitions were taken away while a transaction was open".to_owned()));
                }
                ConsumerEvent::End(..) => {}
            }
            if self.is_due() {
                self.commit()?;
            }
        }
        if ticks {
            let held = self.held();
            for shard in self.shards() {
                let (stage, _) = self.stages.of_shard(shard);
                let reading = !held.iter().any(|held| self.stages.shard(held) == Some(shard));
                let applied = self.inbound.chain.advance(stage, shard, reading).map_err(chain_error)?;
                self.emit(applied, shard)?;
            }
            self.tell()?;
        }
        if self.control.take_commit_request() {
            self.commit_all()?;
        } else if self.is_due() {
            self.commit()?;
        }
        // What is aborted meanwhile is sent again.
        self.drive()
    }

    /// Whether the open transaction is to end.
    fn is_due(&self) -> bool {
        self.opened.elapsed() >= self.settings.interval
            || self.records >= MAX_RECORDS
            || (self.bytes >= MAX_BYTES && !self.pushed_back)
            || self.state.as_ref().is_some_and(|state| state.state.is_full())
    }

    /// Partitions that have state here.
    fn shards(&self) -> Vec<Shard> {
        self.state.as_ref().map(|state| state.state.shards()).unwrap_or_default()
    }

    fn end(mut self) -> Result<(), TaskError> {
        if self.control.fenced() {
            // Whoever comes next ends what is open.
            return Ok(());
        }
        self.transactor.close();
        for shard in self.shards() {
            self.close_shard(shard);
        }
        let closed = self.close_sink(&self.assigned.clone());
        let stopped = closed.and(self.sink.as_mut().map_or(Ok(()), SinkTarget::stop));
        let consumer = self.transactor.positions.consumer;
        consumer.close(Duration::from_secs(5)).unwrap_or_else(|error| tracing::warn!("{error}"));
        stopped
    }
}

fn part(topic: &Arc<str>, records: LogRecords) -> Part {
    Part { topic: topic.clone(), source_partition: None, records, offsets: None }
}

fn client_error(error: LogError) -> Trouble {
    match error.retriable {
        true => Trouble::Away(error.message),
        false => Trouble::Fatal(error.into()),
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
