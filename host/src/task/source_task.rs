//! The source loop: poll → transforms → convert │ produce → acknowledge → commit.
//!
//! What it promises: at least once, or exactly once ([`SourceProducer`]). At least once, a position is stored only after every record up to it is acknowledged by the log, or
//! filtered, or disposed of as an error; so a crash anywhere repeats records and loses none. Order is kept within a source
//! partition. How it fails: the first error that is neither tolerated nor retriable ends the task; what was polled before it
//! is still delivered and committed.

use std::collections::HashSet;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tributary_sdk::source::SourcePosition;
use tributary_sdk::{Batch, Config, Error};

use super::backoff::Backoff;
use super::control::TaskControl;
use super::dead_letters::DeadLetters;
use super::delivery::{Delivery, DeliverySettings, Outbound};
use super::error_policy::{ErrorHandler, ErrorPolicy};
use super::errors::TaskError;
use super::outbound_converter::{OutboundConverter, Sequence};
use super::queue::{Bounds, Queue};
use super::services::InstanceServices;
use super::source_state::{Sealed, SourceState};
use super::transaction::{Boundary, Ending, SourceTransactions, TransactionSettings};
use crate::log::LogProducer;
use crate::plugin::SourceTaskHandle;
use crate::state::Shard;
use crate::transform::{Applied, TransformChain};
use crate::worker::State;

/// How often time is told to transforms that keep state.
const TICK: Duration = Duration::from_secs(1);
/// Bytes after which a transaction that ends by the clock ends early: they are held in memory.
const EARLY: usize = 32 << 20;

/// Takes a task's changes of state.
pub type Report = Arc<dyn Fn(State) + Send + Sync>;

/// How records and positions are written.
pub enum SourceProducer {
    /// Records first, positions once they are acknowledged.
    AtLeastOnce(Box<dyn LogProducer>),
    /// Both in one transaction.
    ExactlyOnce(Box<TransactionSettings>),
}

/// Everything that a source task is made of.
pub struct SourceTask {
    /// `<connector>-<task>`, for thread names.
    pub name: String,
    /// The plugin's instance.
    pub handle: Box<dyn SourceTaskHandle>,
    /// The task's config, resolved.
    pub config: Config,
    /// Transforms and converters.
    pub converter: OutboundConverter,
    /// Where records go.
    pub producer: SourceProducer,
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
    /// How delivery commits.
    pub delivery: DeliverySettings,
    /// With transforms that keep state.
    pub state: Option<SourceState>,
    /// Told of RUNNING and PAUSED.
    pub report: Report,
}

impl SourceTask {
    /// Runs until stopped or failed. Blocks; called on the task's own thread.
    pub fn run(mut self) -> Result<(), TaskError> {
        let errors =
            ErrorHandler { policy: self.errors, task: self.name.as_str().into(), control: self.control.clone() };
        let queue = Arc::new(Queue::new(self.bounds));
        // A commit that the plugin asks for is made at once.
        let nudged = queue.clone();
        self.control.add_waker(Arc::new(move || nudged.nudge()));
        let committed = Arc::new(Mutex::new(Vec::new()));
        let acknowledger = self.handle.acknowledger();
        // Before anything is fenced for it.
        if stay_paused(&self.control, &self.report) {
            return Ok(());
        }
        let mut boundary = None;
        let deliver: Box<dyn FnOnce() -> Result<(), TaskError> + Send> = match self.producer {
            SourceProducer::AtLeastOnce(producer) => {
                let delivery = Delivery {
                    queue: queue.clone(),
                    producer,
                    control: self.control.clone(),
                    services: self.services.clone(),
                    errors: errors.clone(),
                    dead_letters: self.dead_letters,
                    settings: self.delivery.clone(),
                    committed: committed.clone(),
                    acknowledger,
                };
                Box::new(move || delivery.run())
            }
            SourceProducer::ExactlyOnce(settings) => {
                boundary = Some(settings.boundary);
                let (services, letters) = (self.services.clone(), self.dead_letters);
                let mut transactions = SourceTransactions::new(
                    *settings,
                    services,
                    errors.clone(),
                    letters,
                    committed.clone(),
                    acknowledger,
                );
                if !transactions.prepare()? {
                    return Ok(());
                }
                let queue = queue.clone();
                Box::new(move || transactions.run(&queue))
            }
        };
        if boundary == Some(Boundary::Connector) {
            self.services.boundaries.open();
        }
        let deliver = std::thread::Builder::new()
            .name(format!("deliver-{}", self.name))
            .spawn(deliver)
            .map_err(|error| TaskError::new(format!("cannot start a thread: {error}")))?;

        let mut poll = PollLoop {
            handle: &mut *self.handle,
            converter: &mut self.converter,
            control: &self.control,
            services: &self.services,
            errors: &errors,
            queue: &queue,
            committed: &committed,
            report: &self.report,
            boundary,
            last: Sequence { token: 0, epoch: 0 },
            state: self.state.as_mut().map(|state| Sealing::new(state, boundary)),
        };
        let mut polled = poll.run(&self.config);
        if polled.is_ok() && boundary != Some(Boundary::Connector) {
            // What is complete is committed.
            polled = poll.seal().map(|_| ());
        }
        queue.close();
        self.control.clear_wakers();
        let delivered = deliver
            .join()
            .unwrap_or_else(|_| Err(TaskError::new("the delivery thread panicked; this is a bug of the worker")));
        // After a panic the instance may not be touched; after a failed start there is nothing to stop.
        let usable = !matches!(&polled, Err(Ended::Panicked(_) | Ended::NotStarted(_)));
        let stopped = if usable && !self.control.fenced() { poll.finish() } else { Ok(()) };
        if let Some(state) = &self.state
            && !self.control.fenced()
        {
            state.close();
        }
        // The first cause wins: a failed delivery closes the queue, which only looks like an end of polling.
        delivered.and(polled.map_err(Ended::into_error)).and(stopped)
    }
}

/// How polling ended, other than by an order to stop.
enum Ended {
    NotStarted(TaskError),
    Failed(TaskError),
    Panicked(TaskError),
}

impl Ended {
    fn of_call(call: &str, error: Error) -> Self {
        let panicked = matches!(error, Error::Panicked { .. });
        let error = TaskError::of_call(call, error);
        if panicked { Self::Panicked(error) } else { Self::Failed(error) }
    }

    fn into_error(self) -> TaskError {
        match self {
            Self::NotStarted(error) | Self::Failed(error) | Self::Panicked(error) => error,
        }
    }
}

/// The thread that calls the plugin.
struct PollLoop<'a> {
    handle: &'a mut dyn SourceTaskHandle,
    converter: &'a mut OutboundConverter,
    control: &'a TaskControl,
    services: &'a InstanceServices,
    errors: &'a ErrorHandler,
    queue: &'a Queue<Outbound>,
    committed: &'a Mutex<Vec<SourcePosition>>,
    report: &'a Report,
    /// Where transactions end, if there are any.
    boundary: Option<Boundary>,
    /// The newest batch and poll.
    last: Sequence,
    /// With transforms that keep state.
    state: Option<Sealing<'a>>,
}

impl PollLoop<'_> {
    fn run(&mut self, config: &Config) -> Result<(), Ended> {
        self.control.set_canceller(self.handle.canceller());
        self.handle.start(config).map_err(|error| match Ended::of_call("start", error) {
            Ended::Failed(error) => Ended::NotStarted(error),
            panicked => panicked,
        })?;
        (self.report)(State::Running);
        let mut backoff = Backoff::default();
        let mut batches = Vec::new();
        while !self.control.stopping() {
            if self.control.paused() {
                if stay_paused(self.control, self.report) {
                    break;
                }
                (self.report)(State::Running);
            }
            self.tell_committed()?;
            self.last.epoch += 1;
            self.services.state.begin(self.last.epoch);
            let begun = Instant::now();
            let polled = self.handle.poll(&mut batches);
            self.control.counters.meters.called(begun.elapsed());
            if !self.hand_over_all(&mut batches)? {
                return Ok(());
            }
            match polled {
                Ok(()) => {
                    backoff.reset();
                    self.control.counters.set_retrying(None);
                }
                Err(Error::Retriable(message)) => {
                    self.control.counters.errors.attempt_failed(1);
                    self.control.counters.errors.retried();
                    self.control.counters.set_retrying(Some(&message));
                    tracing::warn!("poll will be tried again in {:?}: {message}", backoff.next());
                    self.control.wait(backoff.advance());
                }
                Err(error) => return Err(Ended::of_call("poll", error)),
            }
        }
        Ok(())
    }

    /// Queues what a poll has brought, and where transactions end in it.
    fn hand_over_all(&mut self, batches: &mut Vec<Batch>) -> Result<bool, Ended> {
        if self.state.is_some() {
            return self.hand_over_with_state(batches);
        }
        let count = batches.len();
        // Of several ends at one place only the first has something to end.
        let mut ends = self.services.boundaries.take();
        ends.dedup_by_key(|(place, _)| *place);
        let mut ends = ends.into_iter().peekable();
        if let Some((_, ending)) = ends.next_if(|(place, _)| *place == 0)
            && !self.queue(Outbound::end(self.last.epoch, ending))
        {
            return Ok(false);
        }
        for (number, batch) in batches.drain(..).enumerate() {
            let after = ends.next_if(|(place, _)| *place == number + 1).map(|(_, ending)| ending);
            let of_poll = (self.boundary == Some(Boundary::Poll) && number + 1 == count).then_some(Ending::Commit);
            if !self.hand_over(batch, after.or(of_poll))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Transforms and converts a batch and queues it. Answers `false` when the task has to stop, or the delivery side has ended.
    fn hand_over(&mut self, batch: Batch, ends: Option<Ending>) -> Result<bool, Ended> {
        self.last.token += 1;
        self.control.counters.came_in(batch.len(), batch.bytes());
        let converted = self.converter.convert(batch, self.last, self.errors).map_err(Ended::Failed)?;
        let Some(outbound) = converted else { return Ok(false) };
        Ok(self.queue(Outbound { ends, ..outbound }))
    }

    /// The same with state, which is sealed where a transaction is to end: after a poll, or where the connector says.
    fn hand_over_with_state(&mut self, batches: &mut Vec<Batch>) -> Result<bool, Ended> {
        let mut ends = self.services.boundaries.take();
        ends.dedup_by_key(|(place, _)| *place);
        let mut ends = ends.into_iter().peekable();
        for (number, mut batch) in batches.drain(..).enumerate() {
            if let Some((_, ending)) = ends.next_if(|(place, _)| *place == number)
                && !self.end(ending)?
            {
                return Ok(false);
            }
            let Some(state) = &mut self.state else { return Ok(false) };
            let shard = state.state.shard(batch.source_partition.as_ref(), self.control).map_err(Ended::Failed)?;
            let Some(shard) = shard else { return Ok(false) };
            batch.partition = Some(shard);
            self.last.token += 1;
            self.control.counters.came_in(batch.len(), batch.bytes());
            let converted = self.converter.convert(batch, self.last, self.errors).map_err(Ended::Failed)?;
            let Some(outbound) = converted else { return Ok(false) };
            state.note(&outbound);
            if !self.queue(outbound) {
                return Ok(false);
            }
        }
        if let Some((_, ending)) = ends.next()
            && !self.end(ending)?
        {
            return Ok(false);
        }
        let Some(state) = &mut self.state else { return Ok(false) };
        if state.ticks() && !self.emit(|chain, shard| chain.advance(0, shard, true))? {
            return Ok(false);
        }
        let asked = self.control.take_commit_request();
        match &self.state {
            Some(state) if state.is_due(asked) => self.seal(),
            _ => Ok(true),
        }
    }

    /// Queues what the transforms emit of each shard.
    fn emit(
        &mut self,
        mut of: impl FnMut(&mut TransformChain, Shard) -> tributary_sdk::Result<Applied>,
    ) -> Result<bool, Ended> {
        let shards = self.state.as_ref().map(|state| state.state.shared.state.shards()).unwrap_or_default();
        for shard in shards {
            let applied = of(&mut self.converter.chain, shard);
            let applied = applied.map_err(|error| Ended::Failed(TaskError::of_call("a transform", error)))?;
            let emitted = self.converter.emitted(applied, self.last, self.errors).map_err(Ended::Failed)?;
            for outbound in emitted.into_iter().flatten() {
                if let Some(state) = &mut self.state {
                    state.note(&outbound);
                }
                if !self.queue(outbound) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The connector ends a transaction here. Answers `false` when the delivery side has ended.
    fn end(&mut self, ending: Ending) -> Result<bool, Ended> {
        match ending {
            // Where the source cannot resume, the delivering side refuses it.
            Ending::Commit => match self.state.as_ref().is_some_and(|state| state.tails.is_empty()) {
                true => self.seal(),
                false => Ok(self.queue(Outbound::end(self.last.epoch, ending))),
            },
            Ending::Discard => self.discard(),
        }
    }

    /// The records since the last end are dropped, and so is what they have done to the state.
    fn discard(&mut self) -> Result<bool, Ended> {
        if !self.state.as_ref().is_some_and(|state| state.dirty || state.ticked) {
            return Ok(true);
        }
        let (settled, told) = sync_channel(1);
        if !self.queue(Outbound { settled: Some(settled), ..Outbound::end(self.last.epoch, Ending::Discard) }) {
            return Ok(false);
        }
        // What is dropped of the state is read again from what is committed: all that was sealed before has to be.
        while let Err(error) = told.recv_timeout(Duration::from_millis(100)) {
            if error == RecvTimeoutError::Disconnected || self.queue.is_closed() || self.control.fenced() {
                return Ok(false);
            }
        }
        let Some(state) = &mut self.state else { return Ok(false) };
        let shards = state.discard().map_err(Ended::Failed)?;
        shards.into_iter().for_each(|shard| self.converter.chain.forget(shard));
        Ok(true)
    }

    /// A transaction ends here, if it can: its state is sealed. Answers `false` when the delivery side has ended.
    fn seal(&mut self) -> Result<bool, Ended> {
        if !self.state.as_ref().is_some_and(Sealing::can_end) {
            return Ok(true);
        }
        if !self.emit(|chain, shard| chain.before_commit(0, shard))? {
            return Ok(false);
        }
        let Some(state) = &mut self.state else { return Ok(true) };
        let sealed = state.seal().map_err(Ended::Failed)?;
        let Some(sealed) = sealed else { return Ok(true) };
        let end = Outbound { state: Some(Box::new(sealed)), ..Outbound::end(self.last.epoch, Ending::Commit) };
        Ok(self.queue(end))
    }

    fn queue(&self, mut outbound: Outbound) -> bool {
        loop {
            match self.queue.push(outbound, Duration::from_millis(500)) {
                Ok(()) => return true,
                Err(back) if self.queue.is_closed() || self.control.fenced() => {
                    drop(back);
                    return false;
                }
                Err(back) => outbound = back,
            }
        }
    }

    /// Tells the plugin which positions are safe.
    fn tell_committed(&mut self) -> Result<(), Ended> {
        let positions = std::mem::take(&mut *self.committed.lock().unwrap_or_else(PoisonError::into_inner));
        if positions.is_empty() {
            return Ok(());
        }
        match self.handle.commit(&positions) {
            // The offsets are stored; the external system merely was not told, and is told again next time.
            Err(Error::Retriable(message) | Error::Failed(message)) => {
                tracing::warn!("the connector could not acknowledge stored offsets to its system: {message}");
                Ok(())
            }
            Err(Error::Unsupported(_)) | Ok(()) => Ok(()),
            Err(error) => Err(Ended::of_call("commit", error)),
        }
    }

    /// After delivery has ended: the last acknowledgement, then stop.
    fn finish(&mut self) -> Result<(), TaskError> {
        let started = Instant::now();
        self.tell_committed().map_err(Ended::into_error)?;
        let stopped = self.handle.stop().map_err(|error| TaskError::of_call("stop", error));
        tracing::debug!("stopped in {:?}", started.elapsed());
        stopped
    }
}

/// Where transactions end, for tasks whose transforms keep state.
struct Sealing<'a> {
    state: &'a mut SourceState,
    boundary: Option<Boundary>,
    next_commit: Instant,
    next_tick: Instant,
    /// Source partitions that are known to have places to resume at, and those whose last records have none yet.
    resuming: HashSet<Arc<str>>,
    tails: HashSet<Arc<str>>,
    /// Since the last end: bytes, whether there are batches, and whether time was told to transforms.
    bytes: usize,
    dirty: bool,
    ticked: bool,
}

impl<'a> Sealing<'a> {
    fn new(state: &'a mut SourceState, boundary: Option<Boundary>) -> Self {
        let now = Instant::now();
        Self {
            state,
            boundary,
            next_commit: now,
            next_tick: now + TICK,
            resuming: HashSet::new(),
            tails: HashSet::new(),
            bytes: 0,
            dirty: false,
            ticked: false,
        }
    }

    fn note(&mut self, outbound: &Outbound) {
        self.dirty = true;
        self.bytes += outbound.parts.iter().map(|part| part.records.bytes()).sum::<usize>();
        let Some(partition) = &outbound.source_partition else { return };
        if outbound.resume_point.is_some() {
            self.resuming.insert(partition.clone());
        }
        if outbound.resumable {
            self.tails.remove(partition);
        } else if self.resuming.contains(partition) {
            self.tails.insert(partition.clone());
        }
    }

    /// Whether time is to be told to transforms.
    fn ticks(&mut self) -> bool {
        let now = Instant::now();
        let ticks = now >= self.next_tick;
        if ticks {
            self.next_tick = now + TICK;
            // The watermark may have moved.
            self.ticked = true;
        }
        ticks
    }

    fn is_due(&self, asked: bool) -> bool {
        let full = self.bytes > EARLY || self.state.shared.state.is_full();
        match self.boundary {
            // Nobody else may end it, however large it is.
            Some(Boundary::Connector) => false,
            Some(Boundary::Poll) => true,
            _ => asked || full || Instant::now() >= self.next_commit,
        }
    }

    fn can_end(&self) -> bool {
        (self.dirty || self.ticked) && self.tails.is_empty()
    }

    /// Nothing, if there is nothing to commit.
    fn seal(&mut self) -> Result<Option<Sealed>, TaskError> {
        if let Some(Boundary::Interval(interval)) = self.boundary {
            self.next_commit = Instant::now() + interval;
        }
        let sealed = self.state.seal()?;
        let nothing = !self.dirty && sealed.layer.is_empty();
        self.ended();
        Ok((!nothing).then_some(sealed))
    }

    /// What was written since the last end is gone. Answers with the shards whose state was read anew.
    fn discard(&mut self) -> Result<Vec<Shard>, TaskError> {
        let state = &self.state.shared.state;
        state.discard(None).map_err(|error| TaskError::new(error.message))?;
        let shards = state.shards();
        self.tails.clear();
        self.ended();
        Ok(shards)
    }

    fn ended(&mut self) {
        (self.bytes, self.dirty, self.ticked) = (0, false, false);
    }
}

/// Waits while the target state is PAUSED. Answers whether the task has to come to an end.
fn stay_paused(control: &TaskControl, report: &Report) -> bool {
    if control.paused() && !control.stopping() {
        report(State::Paused);
        while control.paused() && !control.stopping() {
            control.wait_while_paused(Duration::from_secs(3600));
        }
    }
    control.stopping()
}
