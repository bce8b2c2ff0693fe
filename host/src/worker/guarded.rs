//! Plugin handles whose errors show no secrets.
//!
//! A plugin gets resolved values and may put them into any message: into an error, a panic, the reason why it refuses a
//! record. What leaves a [`Guarded`] handle has references in their place, so nothing above has to think of it.

use std::sync::Arc;

use tributary_sdk::prepared::{Claim, Prepared, PreparedToken};
use tributary_sdk::sink::{Failures, TopicPartition, TopicPartitionOffset};
use tributary_sdk::source::{ExactlyOnceSupport, SourcePosition};
use tributary_sdk::{Batch, Config, Result};

use crate::plugin::handle::{Acknowledger, Canceller};
use crate::plugin::{ConnectorHandle, SinkTaskHandle, SourceTaskHandle, TransformHandle};
use crate::task::control::TaskControl;

/// A handle, and what its messages must not show.
pub struct Guarded<T: ?Sized> {
    inner: Box<T>,
    control: Arc<TaskControl>,
}

impl<T: ?Sized> Guarded<T> {
    /// Guards a handle by the secrets that its control knows, now or later.
    pub fn new(inner: Box<T>, control: Arc<TaskControl>) -> Self {
        Self { inner, control }
    }

    fn hide<R>(&self, answer: Result<R>) -> Result<R> {
        answer.map_err(|error| self.control.secrets().hide_in_error(error))
    }

    fn hide_in_failures(&self, given: usize, failures: &mut Failures) {
        let secrets = self.control.secrets();
        if failures.records().len() == given || secrets.is_empty() {
            return;
        }
        for failure in std::mem::take(failures).into_records() {
            let message = secrets.hide(&failure.message).into_owned();
            if failure.retriable { failures.retry(failure.row, message) } else { failures.fail(failure.row, message) }
        }
    }
}

macro_rules! guarded {
    ($self:ident.$call:ident($($argument:expr),*)) => {{
        let answer = $self.inner.$call($($argument),*);
        $self.hide(answer)
    }};
}

impl ConnectorHandle for Guarded<dyn ConnectorHandle> {
    fn validate(&mut self, config: &Config) -> Result<Vec<(String, String)>> {
        let problems = guarded!(self.validate(config))?;
        let secrets = self.control.secrets();
        Ok(problems.into_iter().map(|(key, message)| (key, secrets.hide(&message).into_owned())).collect())
    }

    fn start(&mut self, config: &Config) -> Result<()> {
        guarded!(self.start(config))
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        guarded!(self.task_configs(max_tasks))
    }

    fn stop(&mut self) -> Result<()> {
        guarded!(self.stop())
    }

    fn canceller(&self) -> Canceller {
        self.inner.canceller()
    }

    fn alter_source_offsets(&mut self, config: &Config, offsets: &[SourcePosition]) -> Result<bool> {
        guarded!(self.alter_source_offsets(config, offsets))
    }

    fn alter_sink_offsets(&mut self, config: &Config, offsets: &[TopicPartitionOffset]) -> Result<bool> {
        guarded!(self.alter_sink_offsets(config, offsets))
    }

    fn exactly_once_support(&mut self, config: &Config) -> Result<Option<ExactlyOnceSupport>> {
        guarded!(self.exactly_once_support(config))
    }

    fn can_define_transaction_boundaries(&mut self, config: &Config) -> Result<bool> {
        guarded!(self.can_define_transaction_boundaries(config))
    }
}

impl SourceTaskHandle for Guarded<dyn SourceTaskHandle> {
    fn acknowledger(&self) -> Option<Acknowledger> {
        self.inner.acknowledger()
    }

    fn start(&mut self, config: &Config) -> Result<()> {
        guarded!(self.start(config))
    }

    fn poll(&mut self, batches: &mut Vec<Batch>) -> Result<()> {
        guarded!(self.poll(batches))
    }

    fn commit(&mut self, positions: &[SourcePosition]) -> Result<()> {
        guarded!(self.commit(positions))
    }

    fn stop(&mut self) -> Result<()> {
        guarded!(self.stop())
    }

    fn canceller(&self) -> Canceller {
        self.inner.canceller()
    }
}

impl SinkTaskHandle for Guarded<dyn SinkTaskHandle> {
    fn start(&mut self, config: &Config) -> Result<()> {
        guarded!(self.start(config))
    }

    fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        guarded!(self.open(partitions))
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        let given = failures.records().len();
        let answer = self.inner.put(batch, failures);
        self.hide_in_failures(given, failures);
        self.hide(answer)
    }

    fn flush(&mut self, offsets: &[TopicPartitionOffset]) -> Result<()> {
        guarded!(self.flush(offsets))
    }

    fn pre_commit(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        guarded!(self.pre_commit(offsets))
    }

    fn recover(&mut self, claims: &[Claim]) -> Result<()> {
        guarded!(self.recover(claims))
    }

    fn prepare(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<Prepared>> {
        guarded!(self.prepare(offsets))
    }

    fn commit_prepared(&mut self, tokens: &[PreparedToken]) -> Result<()> {
        guarded!(self.commit_prepared(tokens))
    }

    fn abort_prepared(&mut self, tokens: &[PreparedToken]) -> Result<()> {
        guarded!(self.abort_prepared(tokens))
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        guarded!(self.close(partitions))
    }

    fn stop(&mut self) -> Result<()> {
        guarded!(self.stop())
    }

    fn canceller(&self) -> Canceller {
        self.inner.canceller()
    }
}

impl TransformHandle for Guarded<dyn TransformHandle> {
    fn configure(&mut self, config: &Config) -> Result<()> {
        guarded!(self.configure(config))
    }

    fn apply(&mut self, batch: Batch, batches: &mut Vec<Batch>, failures: &mut Failures) -> Result<()> {
        let given = failures.records().len();
        let answer = self.inner.apply(batch, batches, failures);
        self.hide_in_failures(given, failures);
        self.hide(answer)
    }

    fn on_watermark(&mut self, watermark_ms: i64, batches: &mut Vec<Batch>) -> Result<()> {
        guarded!(self.on_watermark(watermark_ms, batches))
    }
}
