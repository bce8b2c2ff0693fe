//! The second thread of an exactly-once source task: collects batches into transactions and commits them with their positions.
//!
//! A transaction ends where `transaction.boundary` says, but only at a place where the source can resume: a poll whose last
//! records have no offset is committed together with what comes after them. Dead letters are acknowledged before the
//! transaction that they were left out of is committed; after a crash in between they are there twice.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tributary_sdk::source::SourcePosition;

use super::super::control::TaskControl;
use super::super::dead_letters::DeadLetters;
use super::super::delivery::{Letters, Outbound, Part, TopicUsed};
use super::super::error_policy::ErrorHandler;
use super::super::errors::{FailedRecord, TaskError};
use super::super::letter_headers::AS_PRODUCED;
use super::super::polled::source_context;
use super::super::queue::{Popped, Queue};
use super::super::rows;
use super::super::services::InstanceServices;
use super::super::source_state::SharedState;
use super::super::topic_creator::TopicCreator;
use super::super::used_topics::UsedTopics;
use super::boundary::{Boundary, Ending};
use super::source_offsets::SourceOffsets;
use super::transactor::{Advance, Current, Make, Piece, Refusal, Slice, Transactor};
use crate::log::{LogError, TopicPartition};
use crate::plugin::handle::Acknowledger;
use crate::state::{Layer, Positions, Shard};
use crate::storage::TransactionalOffsets;

/// Bytes of a transaction after which one that ends by the clock ends early: they are held in memory.
const EARLY: usize = 32 << 20;
/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(30);
/// How long dead letters may take before the commit is tried again.
const DEAD_LETTERS_WAIT: Duration = Duration::from_secs(3);
/// How long to wait for the next batch while something is in flight, and while nothing is.
const WAIT: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// What the transactions of a source task are made with.
pub struct TransactionSettings {
    /// `transactional.id`.
    pub id: String,
    /// Where transactions end.
    pub boundary: Boundary,
    /// Makes producers with the id.
    pub make: Make,
    /// Where positions are kept.
    pub offsets: Arc<dyn TransactionalOffsets>,
    /// Whether the task may still write; asked after each `init`.
    pub current: Option<Current>,
    /// How long stopping may wait for the last commit.
    pub flush_timeout: Duration,
    /// Told of each topic written to.
    pub topic_used: TopicUsed,
    /// Makes topics before they are written to; `None`: nobody does, or the cluster itself.
    pub topics: Option<Arc<TopicCreator>>,
    /// With transforms that keep state: transactions end where the polling side has sealed it.
    pub state: Option<SharedState>,
}

/// See the module.
pub struct SourceTransactions {
    transactor: Transactor<SourceOffsets>,
    boundary: Boundary,
    flush_timeout: Duration,
    topics: UsedTopics,
    creator: Option<Arc<TopicCreator>>,
    control: Arc<TaskControl>,
    services: Arc<InstanceServices>,
    errors: ErrorHandler,
    dead_letters: Option<DeadLetters>,
    committed: Arc<Mutex<Vec<SourcePosition>>>,
    /// Tells the plugin at once of what is committed.
    acknowledger: Option<Acknowledger>,
    /// Source partitions whose last records have no place to resume after them yet.
    tails: HashSet<Arc<str>>,
    /// The transaction is to end as soon as it can.
    wanted: Option<Ending>,
    /// The newest poll of which a batch has come.
    newest_epoch: u64,
    next_commit: Instant,
    began: Instant,
    bytes: usize,
    state: Option<SharedState>,
    /// Of the open transaction, with the marks of their records.
    layers: Vec<(Layer, Vec<(u64, Shard)>)>,
    last_mark: u64,
    /// Whether the state of everything that was taken is in a layer.
    sealed: bool,
    /// Told when the transaction that ends is settled.
    tell: Option<SyncSender<()>>,
}

impl SourceTransactions {
    /// Nothing is written before [`Self::prepare`].
    pub(in super::super) fn new(
        settings: TransactionSettings,
        services: Arc<InstanceServices>,
        errors: ErrorHandler,
        dead_letters: Option<DeadLetters>,
        committed: Arc<Mutex<Vec<SourcePosition>>>,
        acknowledger: Option<Acknowledger>,
    ) -> Self {
        let TransactionSettings { id, boundary, make, offsets, current, flush_timeout, topic_used, topics, state } =
            settings;
        let control = services.control.clone();
        let positions = SourceOffsets::new(&services.connector, offsets);
        let transactor = Transactor::new(id, make, current, control.clone(), positions);
        let now = Instant::now();
        Self {
            transactor,
            boundary,
            flush_timeout,
            topics: UsedTopics::new(topic_used),
            creator: topics,
            control,
            services,
            errors,
            dead_letters,
            committed,
            acknowledger,
            tails: HashSet::new(),
            wanted: None,
            newest_epoch: 0,
            next_commit: now,
            began: now,
            bytes: 0,
            state,
            layers: Vec::new(),
            last_mark: 0,
            sealed: true,
            tell: None,
        }
    }

    /// Fences earlier producers. Only then may the connector's task start, which reads its offsets. Answers `false` when the task
    /// has to stop first.
    pub fn prepare(&mut self) -> Result<bool, TaskError> {
        let advanced = self.transactor.advance(None);
        self.set_next_commit();
        match advanced {
            Ok(Advance::Waiting) => Ok(true),
            Ok(_) => {
                self.close();
                Ok(false)
            }
            Err(error) => {
                self.close();
                Err(error)
            }
        }
    }

    /// Runs until the queue is closed and empty. Closes the queue itself when it fails.
    pub(in super::super) fn run(mut self, queue: &Queue<Outbound>) -> Result<(), TaskError> {
        let result = self.follow(queue);
        queue.close();
        let result = match result {
            Ok(true) => self.finish(),
            Ok(false) => Ok(()),
            Err(error) => {
                // The plugin may be waiting for its system and would never learn of it.
                self.control.stop();
                Err(error)
            }
        };
        self.close();
        result
    }

    fn close(&mut self) {
        self.transactor.close();
        if let Some(dead_letters) = self.dead_letters.take() {
            dead_letters.close();
        }
    }

    /// Answers `false` when the task may write nothing more.
    fn follow(&mut self, queue: &Queue<Outbound>) -> Result<bool, TaskError> {
        loop {
            if !self.advance(None)? {
                return Ok(false);
            }
            if self.can_end() {
                // What comes next is not part of this transaction; only its dead letters are not safe yet.
                if self.control.stopping() {
                    return Ok(true);
                }
                self.try_to_end()?;
                continue;
            }
            if self.wanted.is_none()
                && let Some(tell) = self.tell.take()
            {
                // If nobody listens, the task is about to end.
                let _ = tell.send(());
            }
            let wait = if self.transactor.in_flight() || self.wanted.is_some() { WAIT[0] } else { self.until_due() };
            match queue.pop(wait) {
                Popped::Item(outbound) => {
                    if !self.take(outbound)? {
                        return Ok(false);
                    }
                }
                Popped::TimedOut => {}
                Popped::Closed => return Ok(true),
            }
            // With state, the polling side says where transactions end.
            let asked = self.state.is_none() && self.control.take_commit_request();
            if let Boundary::Interval(_) = self.boundary
                && self.state.is_none()
                && (asked || self.until_due().is_zero() || self.bytes > EARLY)
            {
                self.set_next_commit();
                self.wanted = Some(Ending::Commit);
            }
            self.try_to_end()?;
        }
    }

    /// Does what can be done. Answers `false` when the task may write nothing more.
    fn advance(&mut self, deadline: Option<Instant>) -> Result<bool, TaskError> {
        loop {
            match self.transactor.advance(deadline)? {
                Advance::Waiting => return Ok(true),
                Advance::Stopped | Advance::Lost => return Ok(false),
                Advance::Settled(records) => self.settled(records)?,
                Advance::Refused(refusals) => {
                    if !self.resolve(refusals)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn settled(&mut self, records: usize) -> Result<(), TaskError> {
        tracing::debug!("committed a transaction of {records} records in {:?}", self.began.elapsed());
        self.bytes = 0;
        let positions = self.transactor.positions.take_news();
        if !positions.is_empty() {
            self.acknowledger = self.acknowledger.take().filter(|acknowledge| acknowledge(&positions));
        }
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).extend(positions);
        // Further batches of the newest poll may still come, so its state is not complete yet.
        let complete =
            if self.boundary == Boundary::Poll { self.newest_epoch } else { self.newest_epoch.saturating_sub(1) };
        if let Err(error) = self.services.state.commit(complete) {
            tracing::error!("state was not stored and will be with the next transaction: {error}");
        }
        self.layers_committed()
    }

    /// The layers of a committed transaction are saved, with where the changelog goes on behind each.
    fn layers_committed(&mut self) -> Result<(), TaskError> {
        let told = self.transactor.take_ends();
        let Some(SharedState { state, changelog, partitions, log }) = &self.state else { return Ok(()) };
        let mut layers = std::mem::take(&mut self.layers).into_iter().peekable();
        while let Some((layer, marks)) = layers.next() {
            let mut ends = BTreeMap::new();
            for (mark, shard) in marks {
                let next = match told.get(&mark) {
                    Some(next) => *next,
                    // The log does not tell: nothing comes after the last layer yet.
                    None if layers.peek().is_none() => {
                        let partition = TopicPartition { topic: changelog.clone(), partition: shard % partitions };
                        log.admin().watermarks(&partition, ASK).map_err(TaskError::from)?.1
                    }
                    None => {
                        return Err(TaskError::new(format!(
                            "the log did not tell where records of {changelog} were written; the state is restored from there when \
                             the task is started again"
                        )));
                    }
                };
                ends.insert(shard, next);
            }
            let positions = Positions { inputs: Vec::new(), changelog: ends };
            state.committed(layer, positions).map_err(|error| TaskError::new(error.message))?;
        }
        Ok(())
    }

    /// Adds a batch to the transaction. Answers `false` when the task has to stop first.
    fn take(&mut self, outbound: Outbound) -> Result<bool, TaskError> {
        let Outbound { epoch, source_partition, resume_point, resumable, parts, letters, ends, state, settled, .. } =
            outbound;
        self.tell = settled.or(self.tell.take());
        for part in &parts {
            if *part.topic == *self.transactor.positions.topic() {
                return Err(TaskError::new(
                    "Source tasks may not produce to their own offsets topics when exactly-once support is enabled",
                ));
            }
            if self.topics.is_new(&part.topic)
                && let Some(creator) = &self.creator
                && !creator.ensure(&part.topic, &self.control)?
            {
                return Ok(false);
            }
            self.topics.used(&part.topic);
        }
        if let (Some(letters), Some(dead_letters)) = (letters, &mut self.dead_letters) {
            let Letters { records, failed, contexts } = *letters;
            if !dead_letters.send(records, &failed.iter().collect::<Vec<_>>(), |row| contexts[row].clone())? {
                return Ok(false);
            }
        }
        if let Some(partition) = &source_partition {
            if let Some(offset) = &resume_point {
                self.transactor.positions.advance(partition, offset);
            }
            if resumable {
                self.tails.remove(partition);
            } else if resume_point.is_some() || self.transactor.positions.knows(partition) {
                self.tails.insert(partition.clone());
            }
        }
        self.newest_epoch = epoch;
        self.bytes += parts.iter().map(|part| part.records.bytes()).sum::<usize>();
        if !parts.is_empty() || resume_point.is_some() {
            if self.transactor.machine.held() == 0 {
                self.began = Instant::now();
            }
            self.transactor.add(Piece::of(parts));
        }
        self.sealed = state.is_some();
        if let Some(sealed) = state {
            let mut marks = Vec::new();
            let mark = |(shard, part): (Shard, Part)| {
                self.last_mark += 1;
                marks.push((self.last_mark, shard));
                Slice { part, alone: false, mark: Some(self.last_mark) }
            };
            let parts: Vec<Slice> = sealed.parts.into_iter().map(mark).collect();
            self.layers.push((sealed.layer, marks));
            if !parts.is_empty() {
                self.transactor.add(Piece { parts });
            }
        }
        if ends == Some(Ending::Commit) && self.boundary == Boundary::Connector && !self.tails.is_empty() {
            return Err(TaskError::new(format!(
                "the connector ends a transaction behind a record without an offset, of {}: after a crash, a part of the transaction would \
                 be read again. The last record of each source partition has to have an offset there; this is a bug of the connector",
                self.tails.iter().map(|partition| &**partition).collect::<Vec<_>>().join(", ")
            )));
        }
        self.wanted = ends.or(self.wanted);
        Ok(true)
    }

    /// Whether the transaction is to end at a place where it can.
    fn can_end(&self) -> bool {
        match self.wanted {
            Some(Ending::Commit) => self.tails.is_empty() && (self.state.is_none() || self.sealed),
            Some(Ending::Discard) => true,
            None => false,
        }
    }

    /// Ends the transaction if it is to end and can.
    fn try_to_end(&mut self) -> Result<(), TaskError> {
        let Some(ending) = self.wanted.filter(|_| self.can_end()) else { return Ok(()) };
        if let Some(dead_letters) = &mut self.dead_letters
            && !dead_letters.flush(DEAD_LETTERS_WAIT)?
        {
            return Ok(());
        }
        self.wanted = None;
        if ending == Ending::Discard {
            tracing::info!("dropping the records of a transaction, as the connector asks for");
            self.tails.clear();
            if !self.layers.is_empty() {
                return Err(TaskError::new("committed state would be dropped; this is a bug of the worker"));
            }
        }
        self.transactor.machine.end(ending);
        // Nothing to write, so nothing will be settled.
        if self.transactor.machine.held() == 0 { self.layers_committed() } else { Ok(()) }
    }

    /// Nothing more comes: commits what is complete, and leaves the rest to be read again.
    fn finish(&mut self) -> Result<(), TaskError> {
        let deadline = Some(Instant::now() + self.flush_timeout);
        if self.boundary != Boundary::Connector {
            self.wanted.get_or_insert(Ending::Commit);
        }
        while self.can_end() && deadline.is_some_and(|deadline| Instant::now() < deadline) && !self.control.fenced() {
            self.try_to_end()?;
        }
        if self.transactor.machine.ending().is_some() && !self.advance(deadline)? {
            tracing::warn!(
                "the last transaction was not committed within {:?} of stopping; its records will be read again at the next start",
                self.flush_timeout
            );
        }
        Ok(())
    }

    /// Deals with rows that the log refused: those that were too large together are sent apart, others are judged. Answers
    /// `false` when the task has to stop first.
    fn resolve(&mut self, refusals: Vec<Refusal>) -> Result<bool, TaskError> {
        for (part, lost) in self.transactor.take_out(refusals)? {
            if let (Some(state), Some((_, error))) = (&self.state, lost.first())
                && state.changelog == part.topic
            {
                return Err(entry_refused(&part.topic, error));
            }
            if !self.dispose(&part, &lost)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Judges rows that the log refused for good, and keeps those that are tolerated as dead letters where a topic is configured.
    fn dispose(&mut self, part: &Part, refused: &[(usize, LogError)]) -> Result<bool, TaskError> {
        let failed = refused.iter().map(|(row, error)| FailedRecord::produce(*row, error)).collect::<Vec<_>>();
        self.errors.judge(&failed, part)?;
        let Some(dead_letters) = &mut self.dead_letters else { return Ok(true) };
        let rows = failed.iter().map(|record| record.row).collect::<Vec<_>>();
        let records = rows::take_records(&part.records, &rows).map_err(|error| TaskError::new(error.to_string()))?;
        let (partition, offsets) = (part.source_partition.as_deref(), part.offsets.as_ref());
        let sent = dead_letters.send(records, &failed.iter().collect::<Vec<_>>(), |row| {
            source_context(&part.topic, partition, offsets, rows[row], AS_PRODUCED)
        })?;
        // The transaction may be complete already, and is committed as soon as it was sent again.
        while sent && !dead_letters.flush(DEAD_LETTERS_WAIT)? {
            if self.control.stopping() {
                return Ok(false);
            }
        }
        Ok(sent)
    }

    fn set_next_commit(&mut self) {
        if let Boundary::Interval(interval) = self.boundary {
            self.next_commit = Instant::now() + interval;
        }
    }

    fn until_due(&self) -> Duration {
        match self.boundary {
            Boundary::Interval(_) if self.transactor.machine.held() > 0 => {
                self.next_commit.saturating_duration_since(Instant::now()).min(WAIT[1])
            }
            _ => WAIT[1],
        }
    }
}

/// The task's error when the changelog takes an entry of the state not.
pub fn entry_refused(changelog: &str, error: &LogError) -> TaskError {
    TaskError::new(format!(
        "an entry of the state cannot be written to the changelog: {error}; let transforms keep less for each key (collect has a \
         bound), or raise max.message.bytes of the topic {changelog} and producer.override.max.request.size"
    ))
}
