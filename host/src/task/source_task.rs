//! The source loop: poll → transforms → convert │ produce → acknowledge → commit.
//!
//! What it promises: at least once. A position is stored only after every record up to it is acknowledged by the log, or
//! filtered, or disposed of as an error; so a crash anywhere repeats records and loses none. Order is kept within a source
//! partition. How it fails: the first error that is neither tolerated nor retriable ends the task; what was polled before it
//! is still delivered and committed.

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
use crate::log::LogProducer;
use crate::plugin::SourceTaskHandle;
use crate::worker::State;

/// Takes a task's changes of state.
pub type Report = Arc<dyn Fn(State) + Send + Sync>;

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
    pub producer: Box<dyn LogProducer>,
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
    /// Told of RUNNING and PAUSED.
    pub report: Report,
}

impl SourceTask {
    /// Runs until stopped or failed. Blocks; called on the task's own thread.
    pub fn run(mut self) -> Result<(), TaskError> {
        let errors =
            ErrorHandler { policy: self.errors, task: self.name.as_str().into(), control: self.control.clone() };
        let queue = Arc::new(Queue::new(self.bounds));
        let committed = Arc::new(Mutex::new(Vec::new()));
        let delivery = Delivery {
            queue: queue.clone(),
            producer: self.producer,
            control: self.control.clone(),
            services: self.services.clone(),
            errors: errors.clone(),
            dead_letters: self.dead_letters,
            settings: self.delivery.clone(),
            committed: committed.clone(),
        };
        let deliver = std::thread::Builder::new()
            .name(format!("deliver-{}", self.name))
            .spawn(move || delivery.run())
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
            last: Sequence { token: 0, epoch: 0 },
        };
        let polled = poll.run(&self.config);
        queue.close();
        let delivered = deliver
            .join()
            .unwrap_or_else(|_| Err(TaskError::new("the delivery thread panicked; this is a bug of the worker")));
        // After a panic the instance may not be touched; after a failed start there is nothing to stop.
        let usable = !matches!(&polled, Err(Ended::Panicked(_) | Ended::NotStarted(_)));
        let stopped = if usable && !self.control.fenced() { poll.finish() } else { Ok(()) };
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
    /// The newest batch and poll.
    last: Sequence,
}

impl PollLoop<'_> {
    fn run(&mut self, config: &Config) -> Result<(), Ended> {
        if self.stay_paused() {
            return Ok(());
        }
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
                if self.stay_paused() {
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
            for batch in batches.drain(..) {
                if !self.hand_over(batch)? {
                    return Ok(());
                }
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

    /// Waits while the target state is PAUSED. Answers whether the task has to come to an end.
    fn stay_paused(&mut self) -> bool {
        if self.control.paused() && !self.control.stopping() {
            (self.report)(State::Paused);
            while self.control.paused() && !self.control.stopping() {
                self.control.wait_while_paused(Duration::from_secs(3600));
            }
        }
        self.control.stopping()
    }

    /// Transforms and converts a batch and queues it. Answers `false` when the task has to stop, or the delivery side has ended.
    fn hand_over(&mut self, batch: Batch) -> Result<bool, Ended> {
        self.last.token += 1;
        self.control.counters.came_in(batch.len(), batch.bytes());
        let converted = self.converter.convert(batch, self.last, self.errors).map_err(Ended::Failed)?;
        let Some(mut outbound) = converted else { return Ok(false) };
        loop {
            match self.queue.push(outbound, Duration::from_millis(500)) {
                Ok(()) => return Ok(true),
                Err(back) if self.queue.is_closed() || self.control.fenced() => {
                    drop(back);
                    return Ok(false);
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
