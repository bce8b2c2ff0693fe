//! Sources: connectors that read from an external system.

use crate::batch::Batch;
use crate::config::Config;
use crate::config_def::ConfigDef;
use crate::context::Context;
use crate::errors::Result;

/// Whether a connector supports exactly-once delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExactlyOnceSupport {
    /// It does, with the config asked about.
    Supported,
    /// Sinks: it does, by transactions that are prepared in its store and committed once the group's offsets carry them
    /// ([`prepared`](crate::prepared)).
    Prepared,
    /// It does not.
    Unsupported,
}

/// A place in a source partition that is safely stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourcePosition {
    /// The source partition, a JSON object.
    pub partition: serde_json::Value,
    /// The offset, a JSON object; `None` in offset changes: forget it.
    pub offset: Option<serde_json::Value>,
}

/// Divides the work of reading an external system among tasks.
pub trait SourceConnector: Default + Send + 'static {
    /// What does the reading.
    type Task: SourceTask;

    /// The config keys, beyond those that every source has.
    fn config_def() -> ConfigDef;

    /// Checks a whole config beyond what [`Self::config_def`] says: `(key, message)` for each problem. No side effects.
    fn validate(&mut self, _config: &Config) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Starts; cheap, or in a thread of its own: the tasks do the work.
    fn start(&mut self, context: &Context, config: &Config) -> Result<()>;

    /// At most `max_tasks` task configs.
    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>>;

    /// Ends what `start` began.
    fn stop(&mut self) -> Result<()> {
        Ok(())
    }

    /// A user wants to change stored offsets. `Ok(true)`: checked and fine; `Ok(false)`: this source does not care; `Err`: refused, with the reason.
    fn alter_offsets(&mut self, _config: &Config, _offsets: &[SourcePosition]) -> Result<bool> {
        Ok(false)
    }

    /// Whether exactly-once delivery works with this config; `None`: not known.
    fn exactly_once_support(&mut self, _config: &Config) -> Option<ExactlyOnceSupport> {
        None
    }

    /// Whether the connector can say where transactions end, with this config.
    fn can_define_transaction_boundaries(&mut self, _config: &Config) -> bool {
        false
    }
}

/// Takes the batches that a poll or a transform produces.
pub struct Output<'a>(&'a mut dyn FnMut(Batch) -> Result<()>);

impl<'a> Output<'a> {
    /// Hands each emitted batch to `emit`.
    pub fn new(emit: &'a mut dyn FnMut(Batch) -> Result<()>) -> Self {
        Self(emit)
    }

    /// Hands a batch over; empty ones are dropped.
    pub fn emit(&mut self, batch: Batch) -> Result<()> {
        if batch.is_empty() { Ok(()) } else { (self.0)(batch) }
    }
}

/// Reads from an external system. The worker calls from one thread, one call at a time.
pub trait SourceTask: Default + Send + 'static {
    /// Starts with a task config. Stored offsets come from [`crate::Services::offsets`].
    fn start(&mut self, context: &Context, config: &Config) -> Result<()>;

    /// Emits what is there. Waits for it with [`crate::Services::wait`], a second at most when nothing comes, so that the worker
    /// can pause and stop the task; a few thousand records or a few hundred kilobytes a batch work well.
    fn poll(&mut self, output: &mut Output<'_>) -> Result<()>;

    /// These positions are safely stored: what lies before them is not asked for again.
    fn commit(&mut self, _positions: &[SourcePosition]) -> Result<()> {
        Ok(())
    }

    /// Ends what `start` began.
    fn stop(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called from any thread when the task has to come to an end, also while `poll` runs; the handle is asked for once,
    /// after `start`. Only needed by tasks that wait for something else than [`crate::Services::wait`].
    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        None
    }

    /// Told, from any thread and also while `poll` runs, that the records up to these positions are acknowledged by the log, were
    /// filtered, or disposed of as failed. Asked for once, after `start`. For tasks whose senders wait for an answer: with
    /// at-least-once delivery it comes before offsets are stored, so it must not be used to give up what the stored ones still need.
    /// With it, [`crate::Services::request_commit`] hurries transactions only. It must not block.
    fn acknowledger(&self) -> Option<Box<dyn Fn(&[SourcePosition]) + Send + Sync>> {
        None
    }
}
