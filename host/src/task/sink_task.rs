//! The sink loop: consume → convert → transforms │ put → pre-commit → commit.
//!
//! What it promises: at least once. Only offsets that the connector gave back from `pre_commit` are committed, and never
//! past what was put; a batch whose `put` failed for now is put again until it is accepted or the task stops. Order is kept
//! within a partition. How it fails: a record that fails and is not tolerated, or an error that no retry mends, ends the
//! task; what was accepted before it is still committed.

pub mod prepared;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::prepared::PreparedToken;
use tributary_sdk::sink::TopicPartitionOffset;
use tributary_sdk::{Batch, Config, Error};

use super::consume::{Consume, ConsumeSettings};
use super::control::TaskControl;
use super::dead_letters::DeadLetters;
use super::error_policy::{ErrorHandler, ErrorPolicy};
use super::errors::{FailedRecord, TaskError};
use super::inbound::{CommitPort, Inbound, SinkItem};
use super::inbound_converter::InboundConverter;
use super::prepared::{Claiming, Orders, Taker};
use super::put::{self, NotPut};
use super::queue::{Bounds, Popped, Queue};
use super::services::InstanceServices;
use super::source_task::Report;
use crate::log::{LogConsumer, TopicPartition};
use crate::plugin::SinkTaskHandle;
use crate::worker::State;
use prepared::PreparedCommits;

/// Everything that a sink task is made of.
pub struct SinkTask {
    /// `<connector>-<task>`, for thread names.
    pub name: String,
    /// The plugin's instance.
    pub handle: Box<dyn SinkTaskHandle>,
    /// The task's config, resolved.
    pub config: Config,
    /// Converters and transforms.
    pub converter: InboundConverter,
    /// Where records come from.
    pub consumer: Box<dyn LogConsumer>,
    /// What happens to records that fail.
    pub errors: ErrorPolicy,
    /// Where failed records are kept, if anywhere.
    pub dead_letters: Option<DeadLetters>,
    /// Orders and progress.
    pub control: Arc<TaskControl>,
    /// The plugin's services.
    pub services: Arc<InstanceServices>,
    /// Bounds of the queue.
    pub bounds: Bounds,
    /// `offset.flush.interval.ms`.
    pub commit_interval: Duration,
    /// How the log is read.
    pub consume: ConsumeSettings,
    /// Told of RUNNING and PAUSED.
    pub report: Report,
    /// Of a sink that prepares its transactions.
    pub claiming: Option<Claiming>,
    /// What its group carries of topics that it does not read any more: committed before anything is put.
    pub left_behind: Vec<PreparedToken>,
}

impl SinkTask {
    /// Runs until stopped or failed. Blocks; called on the task's own thread.
    pub fn run(mut self) -> Result<(), TaskError> {
        self.control.set_canceller(self.handle.canceller());
        if let Err(error) = self.handle.start(&self.config) {
            let closed = self.consumer.close(Duration::from_secs(1));
            closed.unwrap_or_else(|error| tracing::warn!("{error}"));
            return Err(TaskError::of_call("start", error));
        }
        let errors =
            ErrorHandler { policy: self.errors, task: self.name.as_str().into(), control: self.control.clone() };
        let queue = Arc::new(Queue::new(self.bounds));
        let commits = Arc::new(CommitPort::default());
        let orders = Arc::new(Orders::default());
        let prepares = self.claiming.is_some();
        // Idle, both threads sleep until there is something to do.
        let nudged = queue.clone();
        self.control.add_waker(Arc::new(move || nudged.nudge()));
        let consumers = self.consumer.waker();
        let wakes = consumers.is_some();
        consumers.into_iter().for_each(|waker| self.control.add_waker(waker));
        let consume = Consume {
            consumer: self.consumer,
            converter: self.converter,
            queue: queue.clone(),
            commits: commits.clone(),
            control: self.control.clone(),
            services: self.services.clone(),
            errors: errors.clone(),
            settings: self.consume,
            wakes,
            claiming: self.claiming,
            orders: Taker(orders.clone()),
        };
        let consuming = consume
            .start(format!("consume-{}", self.name))
            .map_err(|error| TaskError::new(format!("cannot start a thread: {error}")))?;

        let mut put = PutLoop {
            handle: &mut *self.handle,
            errors: &errors,
            dead_letters: self.dead_letters.as_mut(),
            control: &self.control,
            services: &self.services,
            queue: &queue,
            commits: &commits,
            report: &self.report,
            delivered: HashMap::new(),
            requested: HashMap::new(),
            epoch: 0,
            panicked: false,
            reported: None,
            prepared: prepares.then(|| PreparedCommits::new(&orders)),
        };
        let settled = put.settle(&self.left_behind);
        let mut result = settled.and_then(|()| put.run(self.commit_interval));
        if self.control.may_write() && !put.panicked {
            let committed = put.last_commit();
            result = result.and(committed);
        }
        queue.close();
        commits.finish();
        self.control.wake();
        let consumed = consuming
            .recv()
            .unwrap_or_else(|_| Err(TaskError::new("the consuming thread panicked; this is a bug of the worker")));
        if !self.control.fenced() && !put.panicked {
            let stopped = put.close_and_stop();
            result = result.and(stopped);
        }
        self.control.clear_wakers();
        if let Some(dead_letters) = self.dead_letters {
            dead_letters.close();
        }
        self.services.own_records.close();
        result.and(consumed)
    }
}

/// How long a commit waits for dead letters and the sink's own records to be acknowledged; without that there is none.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(3);

/// How often a task that may not write now looks whether it may again.
const LEASE_CHECK: Duration = Duration::from_millis(500);

/// The thread that calls the plugin.
struct PutLoop<'a> {
    handle: &'a mut dyn SinkTaskHandle,
    errors: &'a ErrorHandler,
    dead_letters: Option<&'a mut DeadLetters>,
    control: &'a TaskControl,
    services: &'a InstanceServices,
    queue: &'a Queue<SinkItem>,
    commits: &'a CommitPort,
    report: &'a Report,
    /// Next-to-read offsets of what was put, by partition that is open.
    delivered: HashMap<TopicPartition, Option<i64>>,
    /// What was last handed over for commit.
    requested: HashMap<TopicPartition, i64>,
    epoch: u64,
    panicked: bool,
    reported: Option<State>,
    /// Of a sink that prepares its transactions.
    prepared: Option<PreparedCommits<'a>>,
}

impl PutLoop<'_> {
    fn run(&mut self, commit_interval: Duration) -> Result<(), TaskError> {
        let mut next_commit = Instant::now() + commit_interval;
        while !self.control.stopping() {
            let state = if self.control.paused() { State::Paused } else { State::Running };
            if self.reported.replace(state) != Some(state) {
                (self.report)(state);
            }
            // Whatever else there is to do ends the waiting. A commit that is due waits for the lease.
            let wait = next_commit.saturating_duration_since(Instant::now());
            let wait = if self.control.may_write() { wait } else { wait.max(LEASE_CHECK) };
            match self.queue.pop(wait) {
                Popped::Item(item) => self.take(item)?,
                Popped::TimedOut => {}
                Popped::Closed => break,
            }
            if (Instant::now() >= next_commit || self.control.take_commit_request()) && self.control.may_write() {
                self.commit(None)?;
                next_commit = Instant::now() + commit_interval;
            }
            self.store_state();
        }
        Ok(())
    }

    /// Stores state whose offsets are committed.
    fn store_state(&self) {
        if let Some(epoch) = self.commits.take_done() {
            self.services.state.commit(epoch).unwrap_or_else(|error| {
                tracing::error!("state was not stored and will be at the next commit: {error}")
            });
        }
    }

    /// All partitions were taken away before their offsets could be committed: whoever has them now meets the records again, and so
    /// does this task if they come back to it. As long as it keeps others, their state cannot be told apart.
    fn discard_state(&self) {
        self.store_state();
        self.services.state.discard();
    }

    fn take(&mut self, item: SinkItem) -> Result<(), TaskError> {
        match item {
            SinkItem::Records(inbound) => self.put_all(*inbound),
            SinkItem::Open { partitions, claims, reply } => {
                if let Some(claims) = &claims
                    && !self.recover(claims)?
                {
                    return Ok(());
                }
                let start = partitions.iter().map(|partition| partition.at(None)).collect::<Vec<_>>();
                let answer = self.handle.open(&start);
                let seeks = self.checked("open", answer)?;
                if claims.is_some() && !seeks.is_empty() {
                    return Err(TaskError::new(
                        "open answered with offsets, which are the group's where transactions are prepared: this is a bug of the connector",
                    ));
                }
                self.delivered.extend(partitions.into_iter().map(|partition| (partition, None)));
                _ = reply.send(seeks);
                Ok(())
            }
            SinkItem::Close { partitions, lost, reply } => {
                let offsets = match &self.prepared {
                    _ if lost => Vec::new(),
                    Some(_) => {
                        self.commit_prepared(Some(&partitions))?;
                        Vec::new()
                    }
                    None => self.pre_commit(Some(&partitions))?,
                };
                self.close(&partitions)?;
                if lost && self.delivered.is_empty() {
                    self.discard_state();
                }
                _ = reply.send(offsets);
                Ok(())
            }
            SinkItem::Failed(error) => Err(error),
        }
    }

    /// Puts what came of one run of fetched records; only then its offset counts as delivered.
    fn put_all(&mut self, inbound: Inbound) -> Result<(), TaskError> {
        self.epoch += 1;
        self.services.state.begin(self.epoch);
        if !dispose(self.errors, self.dead_letters.as_deref_mut(), &inbound, &inbound.failures)? {
            return Ok(());
        }
        for batch in &inbound.batches {
            self.partial(true);
            if !self.put(batch, &inbound)? {
                return Ok(());
            }
        }
        self.partial(false);
        self.delivered.insert(inbound.partition, Some(inbound.next_offset));
        Ok(())
    }

    /// Whether records were put whose offset does not count yet.
    fn partial(&mut self, partial: bool) {
        if let Some(prepared) = &mut self.prepared {
            prepared.partial = partial;
        }
    }

    /// Puts a batch, as often as it takes. Answers `false` when the task has to stop instead.
    fn put(&mut self, batch: &Batch, inbound: &Inbound) -> Result<bool, TaskError> {
        let (errors, dead_letters) = (self.errors, &mut self.dead_letters);
        let mut dispose = |batch: &Batch, failures| {
            let failed = inbound.refused(batch, failures);
            dispose(errors, dead_letters.as_deref_mut(), inbound, &failed)
        };
        match put::put(self.handle, self.control, errors, batch.clone(), &mut dispose) {
            Ok(put) => Ok(put),
            Err(NotPut::Call(error)) => self.checked("put", Err(error)),
            Err(NotPut::Record(error)) => Err(error),
        }
    }

    /// What was put of these partitions or all and is not committed, once its dead letters are safe; `None`: there is nothing, or they are not.
    fn delivered(
        &mut self,
        only: Option<&[TopicPartition]>,
    ) -> Result<Option<HashMap<TopicPartition, i64>>, TaskError> {
        if let Some(dead_letters) = &mut self.dead_letters
            && !dead_letters.flush(ACKNOWLEDGED_WITHIN)?
        {
            return Ok(None);
        }
        let wanted = |partition: &TopicPartition| only.is_none_or(|only| only.contains(partition));
        let delivered = self
            .delivered
            .iter()
            .filter(|(partition, _)| wanted(partition))
            .filter_map(|(partition, offset)| Some((partition.clone(), (*offset)?)))
            .filter(|(partition, offset)| self.requested.get(partition) != Some(offset))
            .collect::<HashMap<_, _>>();
        Ok(Some(delivered).filter(|delivered| !delivered.is_empty()))
    }

    /// Asks the connector what may be committed, of these partitions or all.
    fn pre_commit(&mut self, only: Option<&[TopicPartition]>) -> Result<Vec<(TopicPartition, i64)>, TaskError> {
        let Some(delivered) = self.delivered(only)? else { return Ok(Vec::new()) };
        let offered = delivered.iter().map(|(partition, offset)| partition.at(Some(*offset))).collect::<Vec<_>>();
        let answer = match self.handle.pre_commit(&offered) {
            Err(Error::Retriable(message)) => {
                tracing::warn!("nothing is committed until the next interval: the connector cannot flush: {message}");
                return Ok(Vec::new());
            }
            answer => self.checked("pre_commit", answer)?,
        };
        // What it has written itself is as safe as its records are.
        if !self.services.own_records.flush(ACKNOWLEDGED_WITHIN)? {
            return Ok(Vec::new());
        }
        let safe = answer.into_iter().filter_map(|TopicPartitionOffset { topic, partition, offset }| {
            let (partition, offset) = (TopicPartition { topic, partition }, offset?);
            let known = delivered.get(&partition).copied();
            if known.is_none_or(|delivered| offset > delivered) {
                tracing::warn!("ignored an offset from pre_commit that was never put: {partition:?} {offset}");
            }
            Some((partition, offset)).filter(|_| known.is_some_and(|delivered| offset <= delivered))
        });
        let safe = safe.collect::<Vec<_>>();
        self.requested.extend(safe.iter().cloned());
        Ok(safe)
    }

    fn commit(&mut self, only: Option<&[TopicPartition]>) -> Result<(), TaskError> {
        if self.prepared.is_some() {
            return self.commit_prepared(only);
        }
        if let Some(failed) = self.commits.take_failed() {
            // They are offered again, unless the partition moved on.
            for (partition, offset) in failed {
                if self.requested.get(&partition) == Some(&offset) {
                    self.requested.remove(&partition);
                }
            }
        }
        let offsets = self.pre_commit(only)?;
        if !offsets.is_empty() {
            self.commits.request(offsets, self.epoch);
            self.control.wake();
        }
        Ok(())
    }

    /// At the end: what was accepted is committed even if the task failed.
    fn last_commit(&mut self) -> Result<(), TaskError> {
        self.commit(None)
    }

    fn close_and_stop(&mut self) -> Result<(), TaskError> {
        if let Some(epoch) = self.commits.take_done() {
            self.services.state.commit(epoch).unwrap_or_else(|error| tracing::error!("state was not stored: {error}"));
        }
        let open = self.delivered.keys().cloned().collect::<Vec<_>>();
        let closed = if open.is_empty() { Ok(()) } else { self.close(&open) };
        let stopped = self.handle.stop();
        let result = closed.and(self.checked("stop", stopped));
        // What it has written at last is waited for, but nothing depends on it any more.
        match self.services.own_records.flush(ACKNOWLEDGED_WITHIN) {
            Ok(true) => {}
            Ok(false) => tracing::warn!("records that the connector has written itself may not have come through"),
            Err(error) => tracing::warn!("{}", error.message),
        }
        result
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<(), TaskError> {
        for partition in partitions {
            self.delivered.remove(partition);
            self.requested.remove(partition);
        }
        if let Some(prepared) = &mut self.prepared {
            prepared.close(partitions);
        }
        let partitions = partitions.iter().map(Into::into).collect::<Vec<_>>();
        let answer = self.handle.close(&partitions);
        self.checked("close", answer)
    }

    fn checked<T>(&mut self, call: &str, answer: tributary_sdk::Result<T>) -> Result<T, TaskError> {
        answer.map_err(|error| {
            self.panicked |= matches!(error, Error::Panicked { .. });
            TaskError::of_call(call, error)
        })
    }
}

/// Judges failed records, and keeps those that are tolerated as dead letters where a topic is configured. Answers `false`
/// when the task has to stop before they are kept.
fn dispose(
    errors: &ErrorHandler,
    dead_letters: Option<&mut DeadLetters>,
    inbound: &Inbound,
    failed: &[FailedRecord],
) -> Result<bool, TaskError> {
    if failed.is_empty() {
        return Ok(true);
    }
    errors.judge(failed, inbound)?;
    let Some(dead_letters) = dead_letters else { return Ok(true) };
    let rows = failed.iter().map(|record| record.row).collect::<Vec<_>>();
    let records = super::rows::take_records(&inbound.fetched.records, &rows)
        .map_err(|error| TaskError::new(error.to_string()))?;
    dead_letters.send(records, &failed.iter().collect::<Vec<_>>(), |row| inbound.context(rows[row]))
}
