//! Carries out what the [commit loop](super::commit_loop) says, and holds what the transaction is made of.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::Array;

use super::super::backoff::Backoff;
use super::super::control::TaskControl;
use super::super::delivery::Part;
use super::super::errors::TaskError;
use super::super::rows;
use super::commit_loop::{CommitLoop, End, Outcome, Step};
use super::fail_points;
use crate::log::{Completion, LogError, NextStep, TransactionError, TransactionalProducer, is_fenced};

/// How long one call may take before its outcome counts as unknown.
const CALL: Duration = Duration::from_secs(30);
/// A commit that took so long may have left a request behind that arrives later (KAFKA-17754).
const LATE: Duration = Duration::from_secs(10);
/// How long to wait for room in the client, or for acknowledgements, between looks at the orders.
const TICK: Duration = Duration::from_millis(100);

/// How long to wait for the failures of records that are under way when a transaction has gone wrong.
const LAST_FAILURES: Duration = Duration::from_millis(500);

/// Makes a producer with the task's `transactional.id`.
pub type Make = Box<dyn Fn() -> Result<Box<dyn TransactionalProducer>, LogError> + Send>;
/// Whether the task may still write, asked after each `init`: an error is told as the reason why it cannot be known yet.
pub type Current = Box<dyn Fn() -> Result<bool, LogError> + Send>;

/// What a transaction brings forward.
pub trait Positions {
    /// Reads what is committed, before anything is written.
    fn load(&mut self) -> Result<(), LogError>;
    /// Reads it again: [`Outcome::Before`], [`Outcome::After`] or [`Outcome::Other`].
    fn look(&mut self) -> Result<Outcome, LogError>;
    /// Makes them part of the open transaction. Sends carry numbers from `number` on; answers how many were used.
    fn add(&mut self, producer: &mut dyn TransactionalProducer, number: u64) -> Result<u64, TransactionError>;
    /// They are committed.
    fn settled(&mut self);
    /// Whether committed positions tell if the open transaction was committed: not if it moves none.
    fn tells(&self) -> bool;
    /// Told of each error, before it is known what is done about it.
    fn noticed(&mut self, _error: &LogError) {}
    /// The transaction can never be committed: what it brings forward is not this task's any more.
    fn gone(&self) -> bool {
        false
    }
}

/// A batch of the transaction.
#[derive(Default)]
pub struct Piece {
    /// Its records, in order.
    pub parts: Vec<Slice>,
}

/// Records that are sent together.
pub struct Slice {
    /// The records.
    pub part: Part,
    /// They are sent with nothing else in the client: together with others they were too large.
    pub alone: bool,
    /// [`Transactor::take_ends`] tells under this number where they end in their partition; they have to be in one partition.
    pub mark: Option<u64>,
}

impl From<Part> for Slice {
    fn from(part: Part) -> Self {
        Self { part, alone: false, mark: None }
    }
}

impl Piece {
    /// Of whole parts.
    pub fn of(parts: impl IntoIterator<Item = Part>) -> Self {
        Self { parts: parts.into_iter().map(Slice::from).collect() }
    }
}

/// Rows of a part that the log refused for good, and why.
pub type Lost = (Part, Vec<(usize, LogError)>);

/// Rows that the log refused for good.
pub struct Refusal {
    /// Number of the piece.
    pub piece: usize,
    /// Number of the slice in it.
    pub slice: usize,
    /// Rows of it, and why.
    pub rows: Vec<(usize, LogError)>,
}

/// What came of [`Transactor::advance`].
pub enum Advance {
    /// Everything that could be done is done.
    Waiting,
    /// Rows were refused: change the pieces, and call [`Transactor::changed`].
    Refused(Vec<Refusal>),
    /// The transaction is committed: so many records.
    Settled(usize),
    /// The task may write nothing more, or its time is up.
    Stopped,
    /// [`Positions::gone`]: begin anew from what is committed, after [`Transactor::reset`].
    Lost,
}

/// See the module.
pub struct Transactor<P> {
    id: String,
    make: Make,
    current: Option<Current>,
    control: Arc<TaskControl>,
    /// What the transaction brings forward.
    pub positions: P,
    /// Where it is.
    pub(in super::super) machine: CommitLoop,
    /// What the transaction is made of.
    pub pieces: Vec<Piece>,
    producer: Option<Box<dyn TransactionalProducer>>,
    sends: HashMap<u64, (usize, usize)>,
    last_send: u64,
    /// Sends before this one belong to earlier transactions.
    first_send: u64,
    failed: Vec<Completion>,
    /// Next offsets of marked slices of the open transaction.
    ends: HashMap<u64, i64>,
    backoff: Backoff,
    last_error: Option<LogError>,
    aborts: u32,
    /// Newer tasks are on their way: this one ends.
    outdated: bool,
}

impl<P: Positions> Transactor<P> {
    /// Nothing has happened yet.
    pub fn new(id: String, make: Make, current: Option<Current>, control: Arc<TaskControl>, positions: P) -> Self {
        Self {
            id,
            make,
            current,
            control,
            positions,
            machine: CommitLoop::default(),
            pieces: Vec::new(),
            producer: None,
            sends: HashMap::new(),
            last_send: 0,
            first_send: 1,
            failed: Vec::new(),
            ends: HashMap::new(),
            backoff: Backoff::default(),
            last_error: None,
            aborts: 0,
            outdated: false,
        }
    }

    /// Adds a batch to the transaction.
    pub fn add(&mut self, piece: Piece) {
        self.pieces.push(piece);
        self.machine.add();
    }

    /// The pieces have been changed.
    pub fn changed(&mut self) {
        self.machine.replace(self.pieces.len());
    }

    /// Forgets the open transaction, whatever became of it. The next producer ends it; only after that producer's `init`, which
    /// [`Self::advance`] makes next, it is certain what is committed.
    pub fn reset(&mut self) {
        self.close();
        self.pieces.clear();
        self.sends.clear();
        self.failed.clear();
        self.ends.clear();
        self.first_send = self.last_send + 1;
        self.machine = CommitLoop::default();
    }

    /// Why the loop has ended, if it has.
    pub fn end(&self) -> Option<End> {
        match self.machine.next() {
            Step::End(end) => Some(end),
            _ => None,
        }
    }

    /// Whether no other producer will do better.
    pub fn is_hopeless(&self) -> bool {
        self.last_error.as_ref().is_some_and(hopeless)
    }

    /// What went wrong last.
    pub fn last_error(&self) -> String {
        self.last_error.as_ref().map_or_else(String::new, |error| error.message.clone())
    }

    /// Of the transaction that was settled last: where marked slices end, as far as the log has told.
    pub fn take_ends(&mut self) -> HashMap<u64, i64> {
        std::mem::take(&mut self.ends)
    }

    /// Takes refused rows out of the transaction, which is then sent again without them: they are answered. Rows that were too
    /// large together are sent apart instead.
    pub fn take_out(&mut self, mut refusals: Vec<Refusal>) -> Result<Vec<Lost>, TaskError> {
        let mut all = Vec::new();
        // From the last to the first, so that numbers stay right.
        refusals.sort_by_key(|refusal| std::cmp::Reverse((refusal.piece, refusal.slice)));
        for Refusal { piece, slice, rows } in refusals {
            let (large, mut lost): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|(_, error)| error.code == Some("MSG_SIZE_TOO_LARGE"));
            let parts = &mut self.pieces[piece].parts;
            let Slice { part, alone, mark } = parts.remove(slice);
            if large.len() > 1 {
                let middle = part.records.len() / 2;
                let halves = [cut(&part, 0, middle), cut(&part, middle, part.records.len() - middle)];
                parts.splice(slice..slice, halves.map(|part| Slice { part, alone: true, mark }));
                // Others that were refused are refused again.
                continue;
            }
            if !large.is_empty() && !alone {
                // The client refuses a batch as a whole, which may have had rows of other slices, too.
                parts.insert(slice, Slice { part, alone: true, mark });
                continue;
            }
            lost.extend(large);
            lost.sort_by_key(|(row, _)| *row);
            let rows = lost.iter().map(|(row, _)| *row).collect::<Vec<_>>();
            let left = without(&part, &rows)?;
            if !left.records.is_empty() {
                parts.insert(slice, Slice { part: left, alone, mark });
            }
            all.push((part, lost));
        }
        self.changed();
        // This is no trouble with the cluster: there is no reason to wait.
        self.backoff.reset();
        Ok(all)
    }

    /// Whether the client has something that is not acknowledged.
    pub fn in_flight(&self) -> bool {
        self.producer.as_ref().is_some_and(|producer| producer.in_flight() > 0)
    }

    /// Takes steps until there is nothing to do; with a deadline, at most until then. Without one, a task that is stopping gives up
    /// at the first trouble.
    pub fn advance(&mut self, deadline: Option<Instant>) -> Result<Advance, TaskError> {
        loop {
            if self.control.fenced() || !self.control.wait_for_lease() {
                return Ok(Advance::Stopped);
            }
            let step = self.machine.next();
            let name = name(step);
            fail_points::pass("before", name);
            let outcome = match step {
                _ if self.outdated => return Ok(Advance::Stopped),
                Step::Wait => {
                    if let Some(producer) = &mut self.producer {
                        let completions = producer.as_producer().poll(Duration::ZERO).unwrap_or_default();
                        self.completed(completions);
                    }
                    return Ok(Advance::Waiting);
                }
                Step::Settle => {
                    let records = self.settle();
                    self.machine.outcome(Outcome::Done);
                    fail_points::pass("after", name);
                    return Ok(Advance::Settled(records));
                }
                Step::End(end) => return Err(self.ended(end)),
                Step::Send | Step::Flush => match self.write(step) {
                    Ok(outcome) => outcome,
                    Err(refusals) => return Ok(Advance::Refused(refusals)),
                },
                step => self.take(step),
            };
            fail_points::pass("after", name);
            if self.control.fenced() {
                return Ok(Advance::Stopped);
            }
            if self.positions.gone() {
                return Ok(Advance::Lost);
            }
            self.machine.outcome(outcome);
            match outcome {
                Outcome::Done | Outcome::DoneLate | Outcome::Before | Outcome::After | Outcome::Other => {}
                Outcome::Fenced | Outcome::Hopeless => {}
                Outcome::Again | Outcome::Abort | Outcome::Close if self.outdated => return Ok(Advance::Stopped),
                Outcome::Again | Outcome::Abort | Outcome::Close => {
                    if deadline.map_or_else(|| self.control.stopping(), |deadline| Instant::now() >= deadline) {
                        return Ok(Advance::Stopped);
                    }
                    self.pause(name);
                }
            }
        }
    }

    /// Ends what is open, as well as that can be done soon, and frees the client.
    pub fn close(&mut self) {
        let Some(mut producer) = self.producer.take() else { return };
        if self.machine.is_open() && !self.control.fenced() {
            // Readers would wait for it until the cluster aborts it.
            if let Err(error) = producer.abort(Duration::from_secs(3)) {
                tracing::debug!("the open transaction of {} was not aborted: {error}", self.id);
            }
        }
        producer.close_transactional(Duration::from_secs(1)).unwrap_or_else(|error| tracing::warn!("{error}"));
    }

    fn take(&mut self, step: Step) -> Outcome {
        match step {
            Step::Renew => self.renew(),
            Step::Init => self.init(),
            Step::Look => match self.positions.look() {
                // Nothing is guessed.
                Ok(Outcome::Before) if self.machine.is_uncertain() && !self.positions.tells() => Outcome::Other,
                Ok(found) => found,
                Err(error) => self.troubled(error),
            },
            Step::Unblock => self.unblock(),
            Step::Begin => self.begin(),
            Step::AddPositions => self.add_positions(),
            Step::Abort => {
                let outcome = self.abort();
                if outcome == Outcome::Done {
                    self.aborts = 0;
                } else {
                    self.aborts += 1;
                    if self.aborts > 2 && outcome == Outcome::Again {
                        self.aborts = 0;
                        return Outcome::Close;
                    }
                }
                outcome
            }
            Step::Commit => self.commit(),
            // The others are not taken here.
            Step::Send | Step::Flush | Step::Settle | Step::Wait | Step::End(_) => Outcome::Done,
        }
    }

    /// A transaction with nothing but the positions, aborted. See [`Step::Unblock`].
    fn unblock(&mut self) -> Outcome {
        tracing::warn!(
            "the stored offsets of {} are not told: what an earlier transaction may have left open is ended",
            self.id
        );
        let begun = self.begin();
        if begun != Outcome::Done {
            return begun;
        }
        let added = self.add_positions();
        if added == Outcome::Done
            && !self.control.stopping()
            && let Some(producer) = &mut self.producer
        {
            // Offsets that are records. If they do not come through, there is nothing to be ended.
            let flushed = producer.as_producer().flush(CALL);
            flushed.unwrap_or_else(|error| tracing::debug!("{error}"));
        }
        // What the transaction in doubt has told of its ends is still needed.
        let ends = std::mem::take(&mut self.ends);
        let aborted = self.abort();
        self.ends = ends;
        if aborted == Outcome::Done { added } else { aborted }
    }

    fn begin(&mut self) -> Outcome {
        self.first_send = self.last_send + 1;
        self.call(|producer| producer.begin())
    }

    fn add_positions(&mut self) -> Outcome {
        let number = self.last_send + 1;
        let Some(producer) = &mut self.producer else { return Outcome::Close };
        match self.positions.add(&mut **producer, number) {
            Ok(used) => {
                self.last_send += used;
                Outcome::Done
            }
            Err(error) => self.failed(error),
        }
    }

    fn abort(&mut self) -> Outcome {
        let outcome = self.call(|producer| producer.abort(CALL));
        if outcome == Outcome::Done {
            if let Some(producer) = &mut self.producer {
                // What became of it does not matter any more.
                let _ = producer.as_producer().poll(Duration::ZERO);
            }
            self.sends.clear();
            self.failed.clear();
            self.ends.clear();
        }
        outcome
    }

    fn renew(&mut self) -> Outcome {
        self.sends.clear();
        self.failed.clear();
        if let Some(producer) = self.producer.take()
            && let Err(error) = producer.close_transactional(Duration::from_secs(1))
        {
            tracing::debug!("{error}");
        }
        match (self.make)() {
            Ok(producer) => {
                self.producer = Some(producer);
                Outcome::Done
            }
            Err(error) if error.retriable => {
                self.last_error = Some(error);
                Outcome::Again
            }
            Err(error) => {
                self.last_error = Some(error);
                Outcome::Hopeless
            }
        }
    }

    fn init(&mut self) -> Outcome {
        if self.producer.is_none() {
            let made = self.renew();
            if made != Outcome::Done {
                return made;
            }
        }
        let outcome = self.call(|producer| producer.init(CALL));
        if outcome != Outcome::Done {
            return outcome;
        }
        loop {
            let current = self.current.as_ref().map_or(Ok(true), |current| current());
            let error = match current {
                Ok(true) => match self.positions.load() {
                    Ok(()) => return Outcome::Done,
                    Err(error) => error,
                },
                Ok(false) => {
                    tracing::info!("the connector's task configs have changed: {} ends", self.id);
                    self.outdated = true;
                    return Outcome::Again;
                }
                Err(error) => error,
            };
            let retriable = error.retriable;
            self.last_error = Some(error);
            if !retriable {
                return Outcome::Hopeless;
            }
            if self.control.stopping() {
                return Outcome::Again;
            }
            self.pause("load");
        }
    }

    /// Hands over what the transaction was not given yet, or waits for the acknowledgements.
    fn write(&mut self, step: Step) -> Result<Outcome, Vec<Refusal>> {
        let handed_over = if step == Step::Send { self.hand_over() } else { self.acknowledged() };
        let outcome = match handed_over {
            Ok(outcome) => outcome,
            Err(error) => self.failed(error),
        };
        if outcome != Outcome::Done || !self.failed.is_empty() {
            // One refused record ends the transaction, and others fail with it: it may not be the first to be told of.
            self.collect_failures();
        }
        let refusals = self.refusals();
        if !refusals.is_empty() {
            return Err(refusals);
        }
        if !self.failed.is_empty() {
            self.last_error = self.failed.iter().flat_map(|completion| &completion.failed).map(|f| f.1.clone()).next();
            return Ok(Outcome::Abort);
        }
        Ok(outcome)
    }

    /// Everything is acknowledged: commits.
    fn commit(&mut self) -> Outcome {
        let begun = Instant::now();
        let outcome = self.call(|producer| producer.commit(CALL));
        let took = begun.elapsed();
        match outcome {
            Outcome::Done => {
                self.control.counters.committed(took);
                if took >= LATE { Outcome::DoneLate } else { Outcome::Done }
            }
            other => {
                self.control.counters.meters.committed(took, false);
                other
            }
        }
    }

    /// What else has become of records that are under way, as far as that shows soon.
    fn collect_failures(&mut self) {
        let deadline = Instant::now() + LAST_FAILURES;
        loop {
            let Some(producer) = &mut self.producer else { return };
            let left = deadline.saturating_duration_since(Instant::now());
            let completions = producer.as_producer().poll(left.min(TICK)).unwrap_or_default();
            let in_flight = producer.in_flight() > 0;
            self.completed(completions);
            if !in_flight || left.is_zero() || self.control.fenced() {
                return;
            }
        }
    }

    fn hand_over(&mut self) -> Result<Outcome, TransactionError> {
        for piece in self.machine.sent()..self.pieces.len() {
            for slice in 0..self.pieces[piece].parts.len() {
                let alone = self.pieces[piece].parts[slice].alone;
                if alone && self.acknowledged()? != Outcome::Done {
                    return Ok(Outcome::Abort);
                }
                self.last_send += 1;
                let number = self.last_send;
                self.sends.insert(number, (piece, slice));
                let mut from = 0;
                loop {
                    let Some(producer) = &mut self.producer else { return Ok(Outcome::Close) };
                    let Part { topic, records, .. } = &self.pieces[piece].parts[slice].part;
                    from += producer.as_producer().send(topic, records, from, number, TICK)?;
                    let all = from >= records.len();
                    if all {
                        producer.as_producer().finish(number);
                    }
                    let completions = producer.as_producer().poll(Duration::ZERO)?;
                    self.completed(completions);
                    if all {
                        break;
                    }
                    if !self.failed.is_empty() || self.control.fenced() || !self.control.wait_for_lease() {
                        return Ok(Outcome::Abort);
                    }
                }
                if alone && self.acknowledged()? != Outcome::Done {
                    return Ok(Outcome::Abort);
                }
            }
        }
        Ok(Outcome::Done)
    }

    /// Waits until nothing is in flight.
    fn acknowledged(&mut self) -> Result<Outcome, TransactionError> {
        loop {
            let Some(producer) = &mut self.producer else { return Ok(Outcome::Close) };
            let flushed = producer.as_producer().flush(TICK);
            let completions = producer.as_producer().poll(Duration::ZERO)?;
            self.completed(completions);
            if !self.failed.is_empty() {
                return Ok(Outcome::Abort);
            }
            match flushed {
                Ok(()) => return Ok(Outcome::Done),
                Err(error) if !error.retriable => return Err(error.into()),
                Err(error) => {
                    if self.control.fenced() || !self.control.wait_for_lease() {
                        self.last_error = Some(error);
                        return Ok(Outcome::Abort);
                    }
                }
            }
        }
    }

    fn completed(&mut self, completions: Vec<Completion>) {
        for completion in completions {
            if completion.failed.is_empty() {
                let sent = self.sends.remove(&completion.token);
                let slice = sent.and_then(|(piece, slice)| self.pieces.get(piece)?.parts.get(slice));
                if let (Some(mark), Some((_, last))) = (slice.and_then(|slice| slice.mark), completion.last) {
                    // Halves of what was too large are in their order.
                    let end = self.ends.entry(mark).or_default();
                    *end = (last + 1).max(*end);
                }
            } else if completion.token >= self.first_send {
                self.failed.push(completion);
            }
        }
    }

    /// What was refused for its own sake, and not because the transaction went wrong. Takes it, as what is sent again has other
    /// numbers.
    fn refusals(&mut self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for Completion { token, failed, .. } in &self.failed {
            let Some((piece, slice)) = self.sends.get(token) else { continue };
            let rows = failed.iter().filter(|(_, error)| of_the_record(error)).cloned().collect::<Vec<_>>();
            if !rows.is_empty() {
                refusals.push(Refusal { piece: *piece, slice: *slice, rows });
            }
        }
        refusals
    }

    fn settle(&mut self) -> usize {
        if let Some(producer) = &mut self.producer {
            // A log that commits at once tells of offsets only now.
            let completions = producer.as_producer().poll(Duration::ZERO).unwrap_or_default();
            self.completed(completions);
        }
        let slices = self.pieces.drain(..).flat_map(|piece| piece.parts);
        // The changelog's records are the worker's own.
        let records = slices.filter(|slice| slice.mark.is_none()).map(|slice| slice.part.records.len()).sum();
        self.control.counters.went_out(records);
        self.control.counters.meters.transaction(records);
        self.sends.clear();
        self.failed.clear();
        self.positions.settled();
        self.backoff.reset();
        if self.last_error.take().is_some() {
            self.control.counters.set_retrying(None);
        }
        records
    }

    fn call(&mut self, call: impl FnOnce(&mut dyn TransactionalProducer) -> Result<(), TransactionError>) -> Outcome {
        let Some(producer) = &mut self.producer else { return Outcome::Close };
        match call(&mut **producer) {
            Ok(()) => Outcome::Done,
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, TransactionError { error, next }: TransactionError) -> Outcome {
        self.positions.noticed(&error);
        let outcome = match next {
            NextStep::Retry => Outcome::Again,
            NextStep::Abort => Outcome::Abort,
            NextStep::Fenced => Outcome::Fenced,
            NextStep::Close if hopeless(&error) => Outcome::Hopeless,
            NextStep::Close => Outcome::Close,
        };
        self.last_error = Some(error);
        outcome
    }

    fn troubled(&mut self, error: LogError) -> Outcome {
        let outcome = if error.retriable { Outcome::Again } else { Outcome::Hopeless };
        self.last_error = Some(error);
        outcome
    }

    fn pause(&mut self, what: &str) {
        let pause = self.backoff.advance();
        let reason = self.last_error.as_ref().map_or("", |error| &error.message);
        let told = format!("{what} of the transaction of {} goes on in {pause:?}: {reason}", self.id);
        tracing::warn!("{told}");
        self.control.counters.set_retrying(Some(&told));
        // One that is stopping has little time, but is no reason to hurry the cluster.
        if self.control.wait(pause) {
            std::thread::sleep(pause.min(TICK));
        }
    }

    fn ended(&self, end: End) -> TaskError {
        let reason = self.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let id = &self.id;
        TaskError::new(match end {
            End::Fenced => format!(
                "the transaction of {id} was ended by another producer, or by the cluster because it took longer than \
                 transaction.timeout.ms{reason}; the task goes on from its stored offsets when it is started again. Should that \
                 come again and again: raise producer.override.transaction.timeout.ms, make transactions smaller \
                 (transaction.boundary), or see whether another worker has the same group.id"
            ),
            End::TakenOver if self.machine.is_uncertain() && !self.positions.tells() => format!(
                "whether the last transaction of {id} was committed is not known{reason}, and it moved no offset that would tell; \
                 the task goes on from what is stored when it is started again"
            ),
            End::TakenOver => format!(
                "the stored offsets of {id} were moved by somebody else while its transaction was open; the task goes on from \
                 them when it is started again"
            ),
            End::Failed => format!("the transaction of {id} cannot be written{reason}"),
        })
    }
}

/// Whether a record was refused for what it is.
fn of_the_record(error: &LogError) -> bool {
    let of_the_transaction = |code: &str| {
        is_fenced(code)
            || matches!(
                code,
                "_PURGE_QUEUE"
                    | "_PURGE_INFLIGHT"
                    | "_STATE"
                    | "_FATAL"
                    | "_GAPLESS_GUARANTEE"
                    | "OUT_OF_ORDER_SEQUENCE_NUMBER"
                    | "DUPLICATE_SEQUENCE_NUMBER"
                    | "UNKNOWN_PRODUCER_ID"
                    | "INVALID_PRODUCER_ID_MAPPING"
                    | "INVALID_TXN_STATE"
                    | "CONCURRENT_TRANSACTIONS"
                    | "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
                    | "COORDINATOR_NOT_AVAILABLE"
                    | "NOT_COORDINATOR"
            )
    };
    !error.retriable && !error.code.is_some_and(of_the_transaction)
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

fn hopeless(error: &LogError) -> bool {
    let known = |code: &str| {
        code.ends_with("AUTHORIZATION_FAILED")
            || matches!(
                code,
                "_UNSUPPORTED_FEATURE" | "UNSUPPORTED_VERSION" | "INVALID_TRANSACTION_TIMEOUT" | "_AUTHENTICATION"
            )
    };
    error.code.is_some_and(known)
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Init => "init",
        Step::Renew => "renew",
        Step::Look => "look",
        Step::Unblock => "unblock",
        Step::Begin => "begin",
        Step::Send => "send",
        Step::AddPositions => "positions",
        Step::Flush => "flush",
        Step::Commit => "commit",
        Step::Abort => "abort",
        Step::Settle => "settle",
        Step::Wait => "wait",
        Step::End(_) => "end",
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::BinaryArray;

    use super::*;
    use crate::log::LogRecords;

    struct Nowhere;

    impl Positions for Nowhere {
        fn load(&mut self) -> Result<(), LogError> {
            Ok(())
        }
        fn look(&mut self) -> Result<Outcome, LogError> {
            Ok(Outcome::Before)
        }
        fn add(&mut self, _: &mut dyn TransactionalProducer, _: u64) -> Result<u64, TransactionError> {
            Ok(0)
        }
        fn settled(&mut self) {}
        fn tells(&self) -> bool {
            true
        }
    }

    fn part(values: &[&str]) -> Part {
        let records = LogRecords::from_values(BinaryArray::from_iter_values(values));
        Part { topic: "t".into(), source_partition: None, records, offsets: None }
    }

    fn too_large(slice: usize, rows: &[usize]) -> Refusal {
        let error = LogError { code: Some("MSG_SIZE_TOO_LARGE"), ..LogError::fatal("too large") };
        Refusal { piece: 0, slice, rows: rows.iter().map(|row| (*row, error.clone())).collect() }
    }

    #[test]
    fn only_what_was_sent_alone_is_too_large() {
        let make: Make = Box::new(|| Err(LogError::fatal("there is none")));
        let mut transactor = Transactor::new("c-0".into(), make, None, Arc::new(TaskControl::new(false)), Nowhere);
        // All of them were one batch, which the broker refused.
        transactor.add(Piece::of([part(&["small"]), part(&["large"]), part(&["a", "b"])]));
        let refusals = vec![too_large(0, &[0]), too_large(1, &[0]), too_large(2, &[0, 1])];
        assert!(transactor.take_out(refusals).unwrap().is_empty());
        let slices = &transactor.pieces[0].parts;
        assert_eq!(slices.iter().map(|slice| slice.part.records.len()).collect::<Vec<_>>(), [1, 1, 1, 1]);
        assert!(slices.iter().all(|slice| slice.alone));
        // Alone, one is.
        let lost = transactor.take_out(vec![too_large(1, &[0])]).unwrap();
        assert_eq!((lost.len(), lost[0].0.records.values.value(0)), (1, &b"large"[..]));
        let slices = &transactor.pieces[0].parts;
        assert!(slices.len() == 3 && slices.iter().all(|slice| slice.alone));
    }
}
