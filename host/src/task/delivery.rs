//! The second thread of a source task: produces, collects acknowledgements, commits offsets.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tributary_sdk::source::SourcePosition;

use super::control::TaskControl;
use super::errors::{ErrorPolicy, FailedRecord, Stage, TaskError};
use super::offset_tracker::OffsetTracker;
use super::queue::{Popped, Queue, Weight};
use super::services::InstanceServices;
use crate::log::{LogProducer, LogRecords};

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
    pub records: Vec<(Arc<str>, LogRecords)>,
}

impl Weight for Outbound {
    fn records(&self) -> usize {
        self.records.iter().map(|(_, records)| records.len()).sum()
    }

    fn bytes(&self) -> usize {
        self.records.iter().map(|(_, records)| records.bytes()).sum()
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
}

/// The delivery side of a source task.
pub(super) struct Delivery {
    pub queue: Arc<Queue<Outbound>>,
    pub producer: Box<dyn LogProducer>,
    pub control: Arc<TaskControl>,
    pub services: Arc<InstanceServices>,
    pub errors: ErrorPolicy,
    pub settings: DeliverySettings,
    /// Stored positions that the plugin has not been told of.
    pub committed: Arc<Mutex<Vec<SourcePosition>>>,
}

/// How long to look for completions or for the next batch before looking at the other.
const TICK: Duration = Duration::from_millis(5);
/// How long to sleep when nothing is in flight and nothing is due.
const IDLE: Duration = Duration::from_secs(1);

impl Delivery {
    /// Runs until the queue is closed and empty. Closes the queue itself when it fails.
    pub fn run(self) -> Result<(), TaskError> {
        let queue = self.queue.clone();
        let Self { producer, control, services, errors, settings, committed, .. } = self;
        let mut state = Delivering {
            producer,
            control: &control,
            services: &services,
            errors: &errors,
            settings: &settings,
            committed: &committed,
            tracker: OffsetTracker::default(),
            in_flight: HashMap::new(),
            topics: HashSet::new(),
            newest_epoch: 0,
            next_commit: Instant::now() + settings.commit_interval,
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
        result
    }
}

struct Delivering<'a> {
    producer: Box<dyn LogProducer>,
    control: &'a TaskControl,
    services: &'a InstanceServices,
    errors: &'a ErrorPolicy,
    settings: &'a DeliverySettings,
    committed: &'a Mutex<Vec<SourcePosition>>,
    tracker: OffsetTracker,
    /// Epoch and rows of each token that is being delivered.
    in_flight: HashMap<u64, (u64, usize)>,
    topics: HashSet<Arc<str>>,
    /// The newest poll of which a batch has come.
    newest_epoch: u64,
    next_commit: Instant,
}

impl Delivering<'_> {
    fn run(&mut self, queue: &Queue<Outbound>) -> Result<(), TaskError> {
        loop {
            if !self.control.wait_for_lease() {
                return Ok(());
            }
            let wait = if self.in_flight.is_empty() { self.until_commit().min(IDLE) } else { TICK };
            match queue.pop(wait) {
                Popped::Item(outbound) => self.produce(outbound)?,
                Popped::TimedOut => {}
                Popped::Closed => break,
            }
            self.collect(Duration::ZERO)?;
            if self.until_commit().is_zero() || self.control.take_commit_request() {
                self.commit();
            }
        }
        self.drain()?;
        if self.in_flight.is_empty() {
            // Nothing more will come of the last poll.
            self.newest_epoch += 1;
        }
        Ok(())
    }

    fn produce(&mut self, outbound: Outbound) -> Result<(), TaskError> {
        let token = outbound.token;
        if let Some(partition) = &outbound.source_partition {
            self.tracker.submit(token, partition, outbound.resume_point.as_deref());
        }
        self.newest_epoch = outbound.epoch;
        self.in_flight.insert(token, (outbound.epoch, outbound.records()));
        for (topic, records) in &outbound.records {
            if !self.topics.contains(topic) {
                self.topics.insert(topic.clone());
                (self.settings.topic_used)(topic);
            }
            let mut sent = 0;
            while sent < records.len() {
                if !self.control.wait_for_lease() {
                    return Ok(());
                }
                sent += self.producer.send(topic, records, sent, token, Duration::from_millis(100))?;
                self.collect(Duration::ZERO)?;
            }
        }
        self.producer.finish(token);
        Ok(())
    }

    /// Takes completions, waiting up to `timeout` for the first.
    fn collect(&mut self, timeout: Duration) -> Result<(), TaskError> {
        for completion in self.producer.poll(timeout)? {
            let (_, rows) = self.in_flight.remove(&completion.token).unwrap_or_default();
            for (row, error) in &completion.failed {
                let class = "org.apache.kafka.clients.producer.KafkaProducer".to_owned();
                let failed =
                    FailedRecord { row: *row, stage: Stage::KafkaProduce, class, message: error.message.clone() };
                self.errors.judge(&failed, &format!("row {row} of its batch"))?;
            }
            self.control.counters.failed(completion.failed.len());
            self.control.counters.went_out(rows - completion.failed.len());
            self.tracker.complete(completion.token);
        }
        Ok(())
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
        }
        Ok(())
    }

    /// Stores what became committable. A failure is logged and tried again at the next interval: nothing is lost by waiting.
    fn commit(&mut self) {
        self.next_commit = Instant::now() + self.settings.commit_interval;
        if !self.control.may_write() {
            return;
        }
        // Further batches of the newest poll may still come, so its state is not complete yet.
        let oldest_open = self.in_flight.values().map(|(epoch, _)| *epoch).min().unwrap_or(self.newest_epoch);
        let positions = self.tracker.take_committable();
        if !positions.is_empty() {
            if let Err(error) = self.services.offsets.put(&self.services.connector, &positions) {
                tracing::error!("offsets were not stored and will be at the next interval: {error}");
                self.tracker.put_back(positions);
                return;
            }
            self.control.counters.committed();
            self.committed.lock().unwrap_or_else(PoisonError::into_inner).extend(positions);
        }
        if let Err(error) = self.services.state.commit(oldest_open.saturating_sub(1)) {
            tracing::error!("state was not stored and will be at the next interval: {error}");
        }
    }

    fn until_commit(&self) -> Duration {
        self.next_commit.saturating_duration_since(Instant::now())
    }
}
