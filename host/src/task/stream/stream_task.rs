//! The loop of a stream task: one thread, one transaction after the other.

mod partitions;
mod results;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::Batch;
use tributary_sdk::sink::RecordFailure;

use super::Trouble;
use super::group_offsets::GroupOffsets;
use super::outbox::Outbox;
use super::repartition::Repartition;
use super::sink_target::SinkTarget;
use super::stages::Stages;
use crate::log::{ClientSettings, ConsumerEvent, FetchedBatch, Log, LogConsumer, LogError, LogRecords, TopicPartition};
use crate::state::{Layer, Positions, Shard, ShardChanges, StateError, TaskState};
use crate::task::control::{TaskControl, now_ms};
use crate::task::dead_letters::Letterhead;
use crate::task::delivery::{Part, TopicUsed};
use crate::task::error_policy::{ErrorHandler, ErrorPolicy};
use crate::task::errors::{FailedRecord, Stage, TaskError};
use crate::task::inbound::Inbound;
use crate::task::inbound_converter::InboundConverter;
use crate::task::letter_headers::{AS_PRODUCED, Context};
use crate::task::outbound_converter::{OutboundConverter, Sequence};
use crate::task::polled::{Polled, source_context};
use crate::task::rows;
use crate::task::source_task::Report;
use crate::task::transaction::{Advance, End, Ending, Make, Piece, Refusal, Slice, Transactor, entry_refused};
use crate::task::used_topics::UsedTopics;
use crate::transform::Applied;
use crate::transform::stateful::passed::Passed;
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
    /// The cluster.
    pub log: Arc<dyn Log>,
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
                Err(Trouble::Again(reason)) => {
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
            let done = match begun.take() {
                Some(done) => done,
                None => self.turn(paused, ticks),
            };
            match done {
                Ok(()) => {}
                Err(Trouble::Stopped) => {
                    self.torn = true;
                    return Ok(());
                }
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

    /// What the next stage, or the sink, has for good need not be kept in the topic in front of it.
    fn purge(&mut self) {
        let committed = self.transactor.positions.committed();
        let passed = committed.filter(|(partition, _)| self.stages.is_own_topic(&partition.topic));
        // A sink may have gone back behind what is committed.
        let given = |(partition, next): (TopicPartition, i64)| {
            let place = self.outbox.as_ref().and_then(|outbox| outbox.place(&partition));
            (partition, place.map_or(next, |place| place.min(next)))
        };
        let passed = passed.map(given).filter(|at| !self.purged.contains(at)).collect::<Vec<_>>();
        match self.log.admin().delete_records(&passed, ASK) {
            Ok(()) => {
                self.purged.retain(|(old, _)| !passed.iter().any(|(new, _)| new == old));
                self.purged.extend(passed);
            }
            Err(error) => tracing::warn!("the connector's own topics keep what they need not: {error}"),
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

    /// Pauses and resumes what the connector asks for.
    fn obey_connector(&mut self) -> Done {
        let Some(sink) = &self.sink else { return Ok(()) };
        let requests = match &self.outbox {
            None => sink.services.pauses.take(&self.assigned),
            Some(outbox) => {
                let own = self.assigned.iter().filter(|partition| self.stages.is_outbox(&partition.topic));
                let requests = sink.services.pauses.take(&own.map(|own| outbox.labelled(own)).collect::<Vec<_>>());
                let unlabelled = |partitions: Vec<TopicPartition>| {
                    partitions.iter().map(|at| outbox.unlabelled(at.partition)).collect()
                };
                requests.into_iter().map(|(hold, partitions)| (hold, unlabelled(partitions))).collect()
            }
        };
        for (hold, partitions) in requests {
            self.held_by_connector.retain(|held| !partitions.contains(held));
            let change = if hold {
                self.held_by_connector.extend(partitions.iter().cloned());
                self.consumer().pause(&partitions)
            } else if !self.paused {
                let wanted = partitions.into_iter().filter(|partition| !self.is_held(partition)).collect::<Vec<_>>();
                self.consumer().resume(&wanted)
            } else {
                Ok(())
            };
            change.map_err(TaskError::from)?;
        }
        Ok(())
    }

    /// Whether a partition is not read although the task is not paused.
    fn is_held(&self, partition: &TopicPartition) -> bool {
        self.held_by_connector.contains(partition) || (self.pushed_back && self.is_earlier(partition))
    }

    /// Partitions that are not read now: their silence means nothing.
    fn held(&self) -> Vec<TopicPartition> {
        self.assigned.iter().filter(|partition| self.paused || self.is_held(partition)).cloned().collect()
    }

    /// Whether a partition is read by a stage whose records go on to a repartition topic.
    fn is_earlier(&self, partition: &TopicPartition) -> bool {
        self.stages.stage(&partition.topic) < self.stages.last()
    }

    /// While the connector keeps records back, nothing is committed, and what the earlier stages write waits in memory: they read no further
    /// than there is room for.
    fn push_back(&mut self, wanted: bool) -> Done {
        if std::mem::replace(&mut self.pushed_back, wanted) == wanted {
            return Ok(());
        }
        let earlier = self.started.iter().filter(|partition| self.is_earlier(partition));
        if wanted {
            tracing::warn!(
                "the connector keeps records back, and {} bytes for repartition topics wait for its commit: what is in front of these is not \
                 read until then. A connector that waits for more records never gets them: it has to write what it has after some time",
                self.bytes
            );
            let earlier = earlier.cloned().collect::<Vec<_>>();
            self.consumer().pause(&earlier).map_err(TaskError::from)?;
        } else if !self.paused {
            let free = earlier.filter(|partition| !self.is_held(partition));
            let free = free.cloned().collect::<Vec<_>>();
            self.consumer().resume(&free).map_err(TaskError::from)?;
        }
        Ok(())
    }

    /// Partitions that have state here.
    fn shards(&self) -> Vec<Shard> {
        self.state.as_ref().map(|state| state.state.shards()).unwrap_or_default()
    }

    fn take(&mut self, fetched: FetchedBatch) -> Done {
        if !self.assigned.contains(&fetched.topic_partition) {
            // Read before the partition was given up.
            return Ok(());
        }
        if self.stages.is_outbox(&fetched.topic_partition.topic) {
            return self.take_results(fetched);
        }
        if self.transactor.positions.is_clean() {
            self.opened = Instant::now();
        }
        self.records += fetched.records.len();
        let stage = self.stages.stage(&fetched.topic_partition.topic);
        if stage > 0 {
            return self.take_passed(stage, fetched);
        }
        self.repartition.hear(&self.stages, &fetched.topic_partition, now_ms());
        self.topics.used(&fetched.topic_partition.topic);
        self.control.counters.came_in(fetched.records.len(), fetched.records.bytes());
        let converted = self.inbound.convert(fetched, &self.errors)?;
        let mut inbound = converted.ok_or(Trouble::Stopped)?;
        self.dispose(&inbound.failures, &inbound, &inbound.fetched.records)?;
        let partition = inbound.partition.clone();
        for batch in std::mem::take(&mut inbound.batches) {
            self.write(stage, &partition, batch, Some(&inbound))?;
        }
        self.transactor.positions.advance(partition, inbound.next_offset);
        self.seal_early()?;
        self.drive()
    }

    /// Records of a repartition topic go through the stage behind it.
    fn take_passed(&mut self, stage: usize, fetched: FetchedBatch) -> Done {
        let partition = fetched.topic_partition.clone();
        let Some(shard) = self.stages.shard(&partition) else {
            return Err(TaskError::new(
                "a stage behind a repartition topic keeps no state; this is a bug of the worker",
            )
            .into());
        };
        let cut = &self.stages.cuts()[stage - 1];
        let next = fetched.offsets.values().last().map_or(0, |last| last + 1);
        for passed in self.repartition.read(cut, shard, &fetched)? {
            match passed {
                Passed::Records { upstream, batches } => {
                    self.repartition.hear(&self.stages, &partition, now_ms());
                    for batch in batches {
                        let polled = Polled(batch.clone());
                        let applied = match self.inbound.chain.apply_in(stage, batch, Some(&upstream)) {
                            Err(tributary_sdk::Error::Retriable(_)) if self.control.stopping() => {
                                return Err(Trouble::Stopped);
                            }
                            applied => applied.map_err(chain_error)?,
                        };
                        self.control.counters.filtered(applied.dropped);
                        self.control.counters.late(applied.late);
                        let failed = applied.failures.into_iter().map(|failure| {
                            FailedRecord::data(failure.row, Stage::Transformation, &failure.class, failure.message)
                        });
                        self.dispose_made(&failed.collect::<Vec<_>>(), &polled)?;
                        for batch in applied.batches {
                            self.write(stage, &partition, batch, None)?;
                        }
                    }
                }
                Passed::News(news) => {
                    let applied = self.inbound.chain.hear(stage, shard, &news).map_err(chain_error)?;
                    self.emit(applied, shard)?;
                }
            }
        }
        self.transactor.positions.advance(partition, next);
        self.seal_early()?;
        self.drive()
    }

    /// A batch goes to the next stage, by the keys of its records.
    fn pass(&mut self, stage: usize, partition: &TopicPartition, batch: &Batch, from: Option<&Inbound>) -> Done {
        let places = self.inbound.chain.places(stage, batch);
        let cut = &self.stages.cuts()[stage];
        let origin = self.stages.origin(stage, partition);
        let crossing = self.repartition.cross(cut, (stage, origin), batch, &places, now_ms())?;
        self.control.counters.filtered(crossing.dropped);
        let class = cut.cut.class.clone();
        self.refuse(batch, from, crossing.refused, &class)?;
        self.add(crossing.part);
        Ok(())
    }

    /// Rows of a batch, by their numbers, that do not go on.
    fn refuse(&mut self, batch: &Batch, from: Option<&Inbound>, rows: Vec<(usize, String)>, class: &str) -> Done {
        if rows.is_empty() {
            return Ok(());
        }
        let made = !matches!(batch.offsets, tributary_sdk::Offsets::Sink(_));
        let failed = |row, message| FailedRecord::data(row, Stage::Transformation, class, message);
        match from.filter(|_| !made) {
            Some(inbound) => {
                let row = |(row, message)| failed(inbound.row_of(batch, row), message);
                let failed = rows.into_iter().map(row).collect::<Vec<_>>();
                self.dispose(&failed, inbound, &inbound.fetched.records)
            }
            None => {
                let failed = rows.into_iter().map(|(row, message)| failed(row, message));
                self.dispose_made(&failed.collect::<Vec<_>>(), &Polled(batch.clone()))
            }
        }
    }

    /// What is new of the partitions that are read goes to the shards of the next stages.
    fn tell(&mut self) -> Done {
        // The group checks with their positions that they are this member's: all of which something is told have one.
        let new = self.started.iter().filter(|partition| self.is_earlier(partition));
        let new = new.filter(|partition| !self.transactor.positions.has(partition)).cloned().collect::<Vec<_>>();
        for partition in new {
            let first = match self.first_read(&partition) {
                // Nothing is told until it is known.
                Err(Trouble::Again(reason)) => {
                    tracing::warn!(
                        "what is known of partitions in front of repartition topics is told later: {reason}"
                    );
                    return Ok(());
                }
                first => first?,
            };
            if self.transactor.positions.is_clean() {
                self.opened = Instant::now();
            }
            self.transactor.positions.advance(partition, first);
        }
        let held = self.held();
        for part in self.repartition.news(&self.stages, now_ms(), &held) {
            if self.transactor.positions.is_clean() {
                self.opened = Instant::now();
            }
            self.add(part);
        }
        Ok(())
    }

    /// The same for records that are not those of the input any more: what is kept of them is what they are.
    fn dispose_made(&mut self, failed: &[FailedRecord], polled: &Polled) -> Done {
        if failed.is_empty() {
            return Ok(());
        }
        self.errors.judge(failed, polled)?;
        if let Some(head) = &self.dead_letters {
            let letters = made_letters(head, failed, polled)?;
            self.add(letters);
        }
        Ok(())
    }

    /// Judges records that failed, and makes dead letters of those that are tolerated.
    fn dispose(&mut self, failed: &[FailedRecord], origin: &Inbound, records: &LogRecords) -> Done {
        if failed.is_empty() {
            return Ok(());
        }
        self.errors.judge(failed, origin)?;
        let Some(head) = &self.dead_letters else { return Ok(()) };
        let letters = letters(head, failed, records, |row| origin.context(row))?;
        self.add(letters);
        Ok(())
    }

    /// Writes what stateful transforms emit without a record, of a shard.
    fn emit(&mut self, applied: Applied, shard: Shard) -> Done {
        self.control.counters.filtered(applied.dropped);
        self.control.counters.late(applied.late);
        if let Some(failure) = applied.failures.first() {
            let (alias, message) = (&failure.alias, &failure.message);
            let message = format!("a result of the stateful transforms failed in the transform {alias}: {message}");
            if !self.errors.policy.tolerate {
                return Err(TaskError::new(message).into());
            }
            tracing::warn!("{} results were skipped: {message}", applied.failures.len());
            self.control.counters.failed(applied.failures.len());
        }
        for batch in applied.batches {
            if self.transactor.positions.is_clean() {
                self.opened = Instant::now();
            }
            let (stage, partition) = self.stages.of_shard(shard);
            let partition = self.stages.first_of(stage, partition);
            self.write(stage, &partition, batch, None)?;
        }
        Ok(())
    }

    /// Writes what leaves a stage, of the records of a partition.
    fn write(&mut self, stage: usize, partition: &TopicPartition, mut batch: Batch, from: Option<&Inbound>) -> Done {
        let late = self.settings.late_topics.iter().any(|topic| **topic == *batch.topic);
        if !late && stage < self.stages.last() {
            return self.pass(stage, partition, &batch, from);
        }
        if stage > 0 {
            // In the chain it was the shard's number.
            batch.partition = Some(partition.partition);
        }
        match &self.sink {
            Some(_) if !late && self.outbox.is_some() => self.post(partition, &batch, from),
            Some(_) if !late => self.put(batch, from),
            _ => self.produce(batch, from),
        }
    }

    /// Gives a batch to the plugin.
    fn put(&mut self, batch: Batch, from: Option<&Inbound>) -> Done {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let (errors, head) = (&self.errors, self.dead_letters.as_ref());
        let mut kept = Vec::new();
        // Results are made of several records, or of none: what is kept of them is what they are.
        let made = !matches!(batch.offsets, tributary_sdk::Offsets::Sink(_));
        let mut dispose = |batch: &Batch, failures: Vec<RecordFailure>| {
            if failures.is_empty() {
                return Ok(true);
            }
            match from.filter(|_| !made) {
                Some(inbound) => {
                    let failed = inbound.refused(batch, failures);
                    errors.judge(&failed, inbound)?;
                    if let Some(head) = head {
                        let records = &inbound.fetched.records;
                        kept.push(letters(head, &failed, records, |row| inbound.context(row))?);
                    }
                }
                None => {
                    let polled = Polled(batch.clone());
                    let failed = failures
                        .into_iter()
                        .map(|failure| FailedRecord::put(failure.row, failure.retriable, failure.message));
                    let failed = failed.collect::<Vec<_>>();
                    errors.judge(&failed, &polled)?;
                    if let Some(head) = head {
                        kept.push(made_letters(head, &failed, &polled)?);
                    }
                }
            }
            Ok(true)
        };
        let put = sink.put(batch, errors, &mut dispose)?;
        if self.outbox.is_none() {
            self.transactor.positions.touch();
        }
        match self.outbox {
            Some(_) => self.owed.extend(kept),
            None => kept.into_iter().for_each(|letters| self.add(letters)),
        }
        if put { Ok(()) } else { Err(Trouble::Stopped) }
    }

    /// Converts and sends. Nothing is written to the topic that it comes from.
    fn produce(&mut self, mut batch: Batch, from: Option<&Inbound>) -> Done {
        let is_input = |topic: &Arc<str>| {
            self.stages.is_input(topic)
                || from.is_some_and(|from| from.partition.topic == *topic)
                || self.assigned.iter().any(|partition| partition.topic == *topic)
        };
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
        let outbound = self.outbound.convert(batch, sequence, &self.errors)?.ok_or(Trouble::Stopped)?;
        if let (Some(failed), Some(head)) = (outbound.letters, &self.dead_letters) {
            let reasons = failed.failed.iter().collect::<Vec<_>>();
            let records = head.letters(failed.records, &reasons, |row| failed.contexts[row].clone());
            let letters = part(&head.topic, records);
            self.add(letters);
        }
        for part in outbound.parts {
            self.topics.used(&part.topic);
            self.add(part);
        }
        Ok(())
    }

    /// Makes records part of the open transaction.
    fn add(&mut self, part: Part) {
        if part.records.is_empty() {
            return;
        }
        self.bytes += part.records.bytes();
        self.transactor.positions.touch();
        match self.sink {
            Some(_) => self.waiting.push(part),
            None => self.transactor.add(Piece::of([part])),
        }
    }

    /// Does what can be done of the open transaction.
    fn drive(&mut self) -> Done {
        loop {
            let advanced = match self.transactor.advance(self.deadline) {
                Ok(advanced) => advanced,
                Err(error) => {
                    return Err(match self.transactor.end() {
                        // It makes no difference who it was: begin anew, from what is committed.
                        Some(End::TakenOver) => Trouble::Again(error.message),
                        Some(End::Failed) if !self.transactor.is_hopeless() => Trouble::Again(error.message),
                        _ => Trouble::Fatal(error),
                    });
                }
            };
            match advanced {
                Advance::Waiting => return Ok(()),
                Advance::Settled(_) => self.settled()?,
                Advance::Refused(refusals) => self.refused(refusals)?,
                Advance::Stopped => return Err(Trouble::Stopped),
                Advance::Lost => return Err(Trouble::Again(self.transactor.last_error())),
            }
        }
    }

    /// Records that the log refused for good are left out of the transaction, if that is tolerated.
    fn refused(&mut self, refusals: Vec<Refusal>) -> Done {
        for (part, lost) in self.transactor.take_out(refusals)? {
            let failed = lost.iter().map(|(row, error)| FailedRecord::produce(*row, error)).collect::<Vec<_>>();
            let Some((_, error)) = lost.first() else { continue };
            if self.state.as_ref().is_some_and(|state| *state.changelog == *part.topic) {
                return Err(entry_refused(&part.topic, error).into());
            }
            if let Some(head) = self.dead_letters.as_ref().filter(|head| head.topic == part.topic) {
                self.control.counters.errors.dead_letters_refused(lost.len());
                return Err(head.refused(error).into());
            }
            self.errors.judge(&failed, &part)?;
            if let Some(head) = &self.dead_letters {
                let context = |row: usize| source_context(&part.topic, None, None, row, AS_PRODUCED);
                let letters = letters(head, &failed, &part.records, context)?;
                self.bytes += letters.records.bytes();
                // The transaction may be complete already.
                self.transactor.pieces.push(Piece::of([letters]));
                self.transactor.changed();
            }
        }
        Ok(())
    }

    /// Commits outputs, state and offsets together. Nothing, as long as the connector keeps records back.
    fn commit(&mut self) -> Done {
        self.commit_letters()?;
        self.commit_transaction(true)
    }

    /// The same, of one transaction. With `follows`, what the sink has of the outbox is part of it: the sink may commit then.
    fn commit_transaction(&mut self, follows: bool) -> Done {
        self.drive()?;
        for shard in self.shards() {
            let (stage, _) = self.stages.of_shard(shard);
            let applied = self.inbound.chain.before_commit(stage, shard).map_err(chain_error)?;
            self.emit(applied, shard)?;
        }
        self.tell()?;
        if self.outbox.is_some() {
            if follows {
                self.follow()?;
            }
        } else if let Some(sink) = &mut self.sink {
            let positions = &self.transactor.positions;
            let last =
                |(partition, _): &(TopicPartition, i64)| self.stages.stage(&partition.topic) == self.stages.last();
            let asked = sink.unflushed || positions.open().iter().any(last);
            if asked && !sink.pre_commit(positions.all().into_iter().filter(last))? {
                // Asked again after another interval.
                (self.records, self.opened) = (0, Instant::now());
                return self.push_back(self.stages.last() > 0 && self.bytes >= MAX_BYTES);
            }
        }
        if !self.owed.is_empty() {
            self.transactor.positions.touch();
        }
        let layer = self.state.as_ref().map(|state| state.state.seal()).transpose().map_err(state_error)?;
        let mut slices = layer.as_ref().map(|layer| self.slices(layer)).unwrap_or_default();
        let layer = self.joined(layer);
        let changes = layer.as_ref().is_some_and(|layer| !layer.is_empty());
        if self.transactor.positions.is_clean() && !changes {
            self.opened = Instant::now();
            return match (&self.state, layer) {
                // It is empty; layers are committed in their order.
                (Some(state), Some(layer)) => state.state.committed(layer, Positions::default()).map_err(state_error),
                _ => Ok(()),
            };
        }
        self.layer = layer;
        if changes {
            self.transactor.positions.touch();
        }
        // Positions alone are a piece, too.
        slices.extend(self.waiting.drain(..).chain(self.owed.iter().cloned()).map(Slice::from));
        self.transactor.add(Piece { parts: slices });
        self.transactor.machine.end(Ending::Commit);
        self.drive()?;
        match self.transactor.machine.held() {
            0 => Ok(()),
            _ => Err(Trouble::Stopped),
        }
    }

    /// Sends what there is of the state's changes, if they are many. A sink's transaction is opened only when the connector has flushed.
    fn seal_early(&mut self) -> Done {
        let Some(StreamState { state, .. }) = &self.state else { return Ok(()) };
        if self.sink.is_some() || state.unsealed() < EARLY {
            return Ok(());
        }
        let layer = state.seal_part().map_err(state_error)?;
        let parts = self.slices(&layer);
        self.layer = self.joined(Some(layer));
        self.transactor.positions.touch();
        self.transactor.add(Piece { parts });
        Ok(())
    }

    /// A layer behind those of the same transaction.
    fn joined(&mut self, layer: Option<Layer>) -> Option<Layer> {
        match (self.layer.take(), layer) {
            (Some(mut all), Some(layer)) => {
                all.join(layer);
                Some(all)
            }
            (all, layer) => all.or(layer),
        }
    }

    /// A layer as records of the changelog.
    fn slices(&self, layer: &Layer) -> Vec<Slice> {
        let Some(StreamState { changelog, .. }) = &self.state else { return Vec::new() };
        let topic: Arc<str> = changelog.as_str().into();
        let slice = |changes: &Arc<ShardChanges>| Slice {
            part: part(&topic, changes.records()),
            alone: false,
            mark: Some(changes.shard as u64),
        };
        layer.changes.iter().map(slice).collect()
    }

    /// A transaction is committed.
    fn settled(&mut self) -> Done {
        (self.records, self.bytes, self.fruitless, self.opened) = (0, 0, 0, Instant::now());
        self.owed.clear();
        self.push_back(false)?;
        if let Some(sink) = &mut self.sink {
            // Behind an outbox, what the plugin itself keeps goes with the offsets there.
            let epoch = if self.outbox.is_some() { sink.flushed.take() } else { Some(sink.epoch) };
            let stored = epoch.map_or(Ok(()), |epoch| sink.services.state.commit(epoch));
            stored.unwrap_or_else(|error| {
                tracing::error!("state was not stored and will be at the next commit: {error}")
            });
        }
        let told: HashMap<u64, i64> = self.transactor.take_ends();
        let (Some(StreamState { state, changelog, .. }), Some(layer)) = (&self.state, self.layer.take()) else {
            return Ok(());
        };
        let mut ends = BTreeMap::new();
        for changes in &layer.changes {
            if ends.contains_key(&changes.shard) {
                continue;
            }
            let next = match told.get(&(changes.shard as u64)) {
                Some(next) => *next,
                // Nobody else writes to this partition.
                None => {
                    let partition = TopicPartition { topic: changelog.as_str().into(), partition: changes.shard };
                    self.log.admin().watermarks(&partition, ASK).map_err(TaskError::from)?.1
                }
            };
            ends.insert(changes.shard, next);
        }
        state.committed(layer, Positions { inputs: Vec::new(), changelog: ends }).map_err(state_error)
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

/// Failed rows of records as dead letters.
fn letters(
    head: &Letterhead,
    failed: &[FailedRecord],
    records: &LogRecords,
    context: impl Fn(usize) -> Context,
) -> Result<Part, TaskError> {
    let picked = failed.iter().map(|record| record.row).collect::<Vec<_>>();
    let records = rows::take_records(records, &picked).map_err(|error| TaskError::new(error.to_string()))?;
    let records = head.letters(records, &failed.iter().collect::<Vec<_>>(), |row| context(picked[row]));
    Ok(part(&head.topic, records))
}

/// The same of records that were made.
fn made_letters(head: &Letterhead, failed: &[FailedRecord], polled: &Polled) -> Result<Part, TaskError> {
    let rows = failed.iter().map(|failed| failed.row).collect::<Vec<_>>();
    let context = |row: usize| polled.context(rows[row]);
    let records = head.letters(polled.records(&rows)?, &failed.iter().collect::<Vec<_>>(), context);
    Ok(part(&head.topic, records))
}

fn part(topic: &Arc<str>, records: LogRecords) -> Part {
    Part { topic: topic.clone(), source_partition: None, records, offsets: None }
}

fn client_error(error: LogError) -> Trouble {
    match error.retriable {
        true => Trouble::Again(error.message),
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
