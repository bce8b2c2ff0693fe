//! The second thread of an exactly-once source task: collects batches into transactions and commits them with their positions.
//!
//! A transaction ends where `transaction.boundary` says, but only at a place where the source can resume: a poll whose last
//! records have no offset is committed together with what comes after them. Dead letters are acknowledged before the
//! transaction that they were left out of is committed; after a crash in between they are there twice.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::Array;
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
use super::super::topic_creator::TopicCreator;
use super::super::used_topics::UsedTopics;
use super::boundary::{Boundary, Ending};
use super::source_offsets::SourceOffsets;
use super::transactor::{Advance, Current, Make, Piece, Refusal, Slice, Transactor};
use crate::log::LogError;
use crate::storage::TransactionalOffsets;

/// Bytes of a transaction after which one that ends by the clock ends early: they are held in memory.
const EARLY: usize = 32 << 20;
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
    /// Source partitions whose last records have no place to resume after them yet.
    tails: HashSet<Arc<str>>,
    /// The transaction is to end as soon as it can.
    wanted: Option<Ending>,
    /// The newest poll of which a batch has come.
    newest_epoch: u64,
    next_commit: Instant,
    began: Instant,
    bytes: usize,
}

impl SourceTransactions {
    /// Nothing is written before [`Self::prepare`].
    pub(in super::super) fn new(
        settings: TransactionSettings,
        services: Arc<InstanceServices>,
        errors: ErrorHandler,
        dead_letters: Option<DeadLetters>,
        committed: Arc<Mutex<Vec<SourcePosition>>>,
    ) -> Self {
        let TransactionSettings { id, boundary, make, offsets, current, flush_timeout, topic_used, topics } = settings;
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
            tails: HashSet::new(),
            wanted: None,
            newest_epoch: 0,
            next_commit: now,
            began: now,
            bytes: 0,
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
            let asked = self.control.take_commit_request();
            if let Boundary::Interval(_) = self.boundary
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
                Advance::Stopped => return Ok(false),
                Advance::Settled(records) => self.settled(records),
                Advance::Refused(refusals) => {
                    if !self.resolve(refusals)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn settled(&mut self, records: usize) {
        tracing::debug!("committed a transaction of {records} records in {:?}", self.began.elapsed());
        self.bytes = 0;
        let positions = self.transactor.positions.take_news();
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).extend(positions);
        // Further batches of the newest poll may still come, so its state is not complete yet.
        let complete =
            if self.boundary == Boundary::Poll { self.newest_epoch } else { self.newest_epoch.saturating_sub(1) };
        if let Err(error) = self.services.state.commit(complete) {
            tracing::error!("state was not stored and will be with the next transaction: {error}");
        }
    }

    /// Adds a batch to the transaction. Answers `false` when the task has to stop first.
    fn take(&mut self, outbound: Outbound) -> Result<bool, TaskError> {
        let Outbound { epoch, source_partition, resume_point, resumable, parts, letters, ends, .. } = outbound;
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
            let parts = parts.into_iter().map(|part| Slice { part, alone: false }).collect();
            self.transactor.add(Piece { parts });
        }
        self.wanted = ends.or(self.wanted);
        Ok(true)
    }

    /// Ends the transaction if it is to end and can.
    fn try_to_end(&mut self) -> Result<(), TaskError> {
        let Some(ending) = self.wanted else { return Ok(()) };
        if ending == Ending::Commit && !self.tails.is_empty() {
            return Ok(());
        }
        if let Some(dead_letters) = &mut self.dead_letters
            && !dead_letters.flush(DEAD_LETTERS_WAIT)?
        {
            return Ok(());
        }
        self.wanted = None;
        if ending == Ending::Discard {
            tracing::info!("dropping the records of a transaction, as the connector asks for");
            self.tails.clear();
        }
        self.transactor.machine.end(ending);
        Ok(())
    }

    /// Nothing more comes: commits what is complete, and leaves the rest to be read again.
    fn finish(&mut self) -> Result<(), TaskError> {
        let deadline = Some(Instant::now() + self.flush_timeout);
        if self.boundary != Boundary::Connector {
            self.wanted.get_or_insert(Ending::Commit);
        }
        self.try_to_end()?;
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
        // From the last to the first, so that numbers stay right.
        let mut refusals = refusals;
        refusals.sort_by_key(|refusal| std::cmp::Reverse((refusal.piece, refusal.slice)));
        for Refusal { piece, slice, rows } in refusals {
            let (large, mut lost): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|(_, error)| error.code == Some("MSG_SIZE_TOO_LARGE"));
            let parts = &mut self.transactor.pieces[piece].parts;
            let Slice { part, .. } = parts.remove(slice);
            if large.len() > 1 {
                let middle = part.records.len() / 2;
                let halves = [cut(&part, 0, middle), cut(&part, middle, part.records.len() - middle)];
                let halves = halves.map(|part| Slice { part, alone: true });
                parts.splice(slice..slice, halves);
                // Others that were refused are refused again.
                continue;
            }
            lost.extend(large);
            lost.sort_by_key(|(row, _)| *row);
            let rows = lost.iter().map(|(row, _)| *row).collect::<Vec<_>>();
            let left = without(&part, &rows)?;
            if !left.records.is_empty() {
                parts.insert(slice, Slice { part: left, alone: false });
            }
            if !self.dispose(&part, &lost)? {
                return Ok(false);
            }
        }
        self.transactor.changed();
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

/// Rows of a part.
fn cut(part: &Part, from: usize, len: usize) -> Part {
    Part {
        records: part.records.slice(from, len),
        offsets: part.offsets.as_ref().map(|offsets| offsets.slice(from, len)),
        ..part.clone()
    }
}

/// A part without these rows.
fn without(part: &Part, except: &[usize]) -> Result<Part, TaskError> {
    let left = rows::others(part.records.len(), except);
    let records = rows::take_records(&part.records, &left).map_err(|error| TaskError::new(error.to_string()))?;
    let offsets = part
        .offsets
        .as_ref()
        .map(|offsets| left.iter().map(|&row| offsets.is_valid(row).then(|| offsets.value(row).to_owned())).collect());
    Ok(Part { records, offsets, ..part.clone() })
}
