//! [`SinkTaskHandle`] over a [`abi::SinkTaskVtable`].

use std::sync::Arc;

use tributary_abi as abi;
use tributary_sdk::ffi::{Exported, str};
use tributary_sdk::prepared::{Claim, Prepared, PreparedToken};
use tributary_sdk::sink::{Failures, TopicPartition, TopicPartitionOffset};
use tributary_sdk::{Batch, Config, Error, Result, Services};

use super::instance::Instance;
use crate::plugin::handle::{Canceller, SinkTaskHandle};

/// A sink task of a plugin.
pub struct SinkTask {
    table: &'static abi::SinkTaskVtable,
    instance: Instance,
}

impl SinkTask {
    /// Makes an unstarted task. The table is one that the loader checked.
    pub fn create(class: &str, table: &'static abi::SinkTaskVtable, services: Arc<dyn Services>) -> Result<Self> {
        let what = format!("a task of {class}");
        let instance = Instance::create(what, table.create, table.cancel, table.destroy, services)?;
        Ok(Self { table, instance })
    }
}

impl SinkTask {
    /// A function that a table may lack.
    fn optional(&self, name: &str, function: Option<abi::JsonFn>) -> Result<abi::JsonFn> {
        function.ok_or_else(|| {
            let what = self.instance.what();
            Error::Unsupported(format!(
                "{name}: {what} has no such function, although its connector says that it prepares transactions"
            ))
        })
    }
}

/// Adds what a call reported, unless it names rows that the batch does not have.
pub(super) fn add_failures(reported: Failures, rows: usize, failures: &mut Failures) -> Result<()> {
    for failure in reported.records() {
        if failure.row >= rows {
            return Err(Error::failed(format!(
                "record {} was reported as failed, but the batch has {rows} records",
                failure.row
            )));
        }
        match failure.retriable {
            true => failures.retry(failure.row, &failure.message),
            false => failures.fail(failure.row, &failure.message),
        }
    }
    Ok(())
}

// SAFETY of every block below: a function of this instance's table, called with the instance; arguments are borrowed for
// the call, batches moved.
#[allow(clippy::undocumented_unsafe_blocks)]
impl SinkTaskHandle for SinkTask {
    fn start(&mut self, config: &Config) -> Result<()> {
        let json = config.to_json();
        self.instance.plain("start", |call, instance| unsafe { (self.table.start)(call, instance, str(&json)) })
    }

    fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        let json = serde_json::to_string(partitions)?;
        let run = |call, instance| unsafe { (self.table.open)(call, instance, str(&json)) };
        Ok(self.instance.json("open", run)?.unwrap_or_default())
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        let rows = batch.len();
        let mut exported = Exported::new(batch)?;
        let (result, mut collector) = self
            .instance
            .call("put", |call, instance| unsafe { (self.table.put)(call, instance, exported.as_mut_ptr()) });
        result?;
        add_failures(collector.take_failures(), rows, failures)
    }

    fn flush(&mut self, offsets: &[TopicPartitionOffset]) -> Result<()> {
        let json = serde_json::to_string(offsets)?;
        self.instance.plain("flush", |call, instance| unsafe { (self.table.flush)(call, instance, str(&json)) })
    }

    fn pre_commit(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        let Some(pre_commit) = self.table.pre_commit else {
            self.flush(offsets)?;
            return Ok(offsets.to_vec());
        };
        let json = serde_json::to_string(offsets)?;
        let run = |call, instance| unsafe { pre_commit(call, instance, str(&json)) };
        Ok(self.instance.json("pre_commit", run)?.unwrap_or_default())
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let json = serde_json::to_string(partitions)?;
        self.instance.plain("close", |call, instance| unsafe { (self.table.close)(call, instance, str(&json)) })
    }

    fn recover(&mut self, claims: &[Claim]) -> Result<()> {
        let recover = self.optional("recover", self.table.recover)?;
        let json = serde_json::to_string(claims)?;
        self.instance.plain("recover", |call, instance| unsafe { recover(call, instance, str(&json)) })
    }

    fn prepare(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<Prepared>> {
        let prepare = self.optional("prepare", self.table.prepare)?;
        let json = serde_json::to_string(offsets)?;
        let run = |call, instance| unsafe { prepare(call, instance, str(&json)) };
        Ok(self.instance.json("prepare", run)?.unwrap_or_default())
    }

    fn commit_prepared(&mut self, tokens: &[PreparedToken]) -> Result<()> {
        let commit = self.optional("commit_prepared", self.table.commit_prepared)?;
        let json = serde_json::to_string(tokens)?;
        self.instance.plain("commit_prepared", |call, instance| unsafe { commit(call, instance, str(&json)) })
    }

    fn abort_prepared(&mut self, tokens: &[PreparedToken]) -> Result<()> {
        let abort = self.optional("abort_prepared", self.table.abort_prepared)?;
        let json = serde_json::to_string(tokens)?;
        self.instance.plain("abort_prepared", |call, instance| unsafe { abort(call, instance, str(&json)) })
    }

    fn stop(&mut self) -> Result<()> {
        self.instance.plain("stop", |call, instance| unsafe { (self.table.stop)(call, instance) })
    }

    fn canceller(&self) -> Canceller {
        self.instance.canceller()
    }
}
