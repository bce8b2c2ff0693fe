//! What the worker calls: one object-safe trait per kind of instance.
//!
//! The plugin bridge implements them over the C vtables; the benchmark also implements them over the SDK's traits
//! directly, to measure what the boundary costs. Calls block, come one at a time, and never on a tokio worker.
//! A canceller may be called from any thread and at any time, also after the handle is dropped.

use std::sync::Arc;

use tributary_sdk::prepared::{Claim, Prepared, PreparedToken};
use tributary_sdk::sink::{Failures, TopicPartition, TopicPartitionOffset};
use tributary_sdk::source::{ExactlyOnceSupport, SourcePosition};
use tributary_sdk::{Batch, Config, Error, Result};

/// Makes the call that is under way on an instance return soon.
pub type Canceller = Arc<dyn Fn() + Send + Sync>;

/// Tells an instance of acknowledged positions. Answers whether it wants to know. From any thread and at any time, also after the
/// handle is dropped.
pub type Acknowledger = Arc<dyn Fn(&[SourcePosition]) -> bool + Send + Sync>;

/// A connector instance.
#[allow(missing_docs)]
pub trait ConnectorHandle: Send {
    /// `(key, message)` for each problem with the config.
    fn validate(&mut self, config: &Config) -> Result<Vec<(String, String)>>;
    fn start(&mut self, config: &Config) -> Result<()>;
    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>>;
    fn stop(&mut self) -> Result<()>;
    fn canceller(&self) -> Canceller;
    /// Sources: see [`tributary_sdk::SourceConnector::alter_offsets`].
    fn alter_source_offsets(&mut self, config: &Config, offsets: &[SourcePosition]) -> Result<bool>;
    /// Sinks: see [`tributary_sdk::SinkConnector::alter_offsets`].
    fn alter_sink_offsets(&mut self, config: &Config, offsets: &[TopicPartitionOffset]) -> Result<bool>;
    fn exactly_once_support(&mut self, config: &Config) -> Result<Option<ExactlyOnceSupport>>;
    fn can_define_transaction_boundaries(&mut self, config: &Config) -> Result<bool>;
}

/// A source task instance.
#[allow(missing_docs)]
pub trait SourceTaskHandle: Send {
    fn start(&mut self, config: &Config) -> Result<()>;
    /// Appends what the task emits. What was emitted before an error counts.
    fn poll(&mut self, batches: &mut Vec<Batch>) -> Result<()>;
    fn commit(&mut self, positions: &[SourcePosition]) -> Result<()>;
    fn stop(&mut self) -> Result<()>;
    fn canceller(&self) -> Canceller;
    /// `None`: the instance does not want to know in any case.
    fn acknowledger(&self) -> Option<Acknowledger> {
        None
    }
}

/// A sink task instance.
#[allow(missing_docs)]
pub trait SinkTaskHandle: Send {
    fn start(&mut self, config: &Config) -> Result<()>;
    /// Answers with the partitions that have to begin elsewhere.
    fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>>;
    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()>;
    fn flush(&mut self, offsets: &[TopicPartitionOffset]) -> Result<()>;
    /// Answers with the offsets that may be committed.
    fn pre_commit(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>>;
    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    fn stop(&mut self) -> Result<()>;
    fn canceller(&self) -> Canceller;
    /// This and the following three: see [`tributary_sdk::SinkTask::recover`].
    fn recover(&mut self, _claims: &[Claim]) -> Result<()> {
        Err(Error::Unsupported("recover".into()))
    }
    fn prepare(&mut self, _offsets: &[TopicPartitionOffset]) -> Result<Vec<Prepared>> {
        Err(Error::Unsupported("prepare".into()))
    }
    fn commit_prepared(&mut self, _tokens: &[PreparedToken]) -> Result<()> {
        Err(Error::Unsupported("commit_prepared".into()))
    }
    fn abort_prepared(&mut self, _tokens: &[PreparedToken]) -> Result<()> {
        Err(Error::Unsupported("abort_prepared".into()))
    }
}

/// A transform instance.
#[allow(missing_docs)]
pub trait TransformHandle: Send {
    fn configure(&mut self, config: &Config) -> Result<()>;
    fn apply(&mut self, batch: Batch, batches: &mut Vec<Batch>, failures: &mut Failures) -> Result<()>;
    fn on_watermark(&mut self, watermark_ms: i64, batches: &mut Vec<Batch>) -> Result<()>;
}
