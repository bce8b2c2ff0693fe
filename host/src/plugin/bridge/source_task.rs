//! [`SourceTaskHandle`] over a [`abi::SourceTaskVtable`].

use std::sync::Arc;

use tributary_abi as abi;
use tributary_sdk::ffi::str;
use tributary_sdk::source::SourcePosition;
use tributary_sdk::{Batch, Config, Result, Services};

use super::instance::Instance;
use crate::plugin::handle::{Acknowledger, Canceller, SourceTaskHandle};

/// A source task of a plugin.
pub struct SourceTask {
    table: &'static abi::SourceTaskVtable,
    instance: Instance,
}

impl SourceTask {
    /// Makes an unstarted task. The table is one that the loader checked.
    pub fn create(class: &str, table: &'static abi::SourceTaskVtable, services: Arc<dyn Services>) -> Result<Self> {
        let what = format!("a task of {class}");
        let instance = Instance::create(what, table.create, table.cancel, table.destroy, services)?;
        Ok(Self { table, instance })
    }
}

// SAFETY of every block below: a function of this instance's table, called with the instance; arguments are borrowed for
// the call.
#[allow(clippy::undocumented_unsafe_blocks)]
impl SourceTaskHandle for SourceTask {
    fn start(&mut self, config: &Config) -> Result<()> {
        let json = config.to_json();
        self.instance.plain("start", |call, instance| unsafe { (self.table.start)(call, instance, str(&json)) })
    }

    fn poll(&mut self, batches: &mut Vec<Batch>) -> Result<()> {
        let (result, mut collector) =
            self.instance.call("poll", |call, instance| unsafe { (self.table.poll)(call, instance) });
        batches.append(&mut collector.take_batches());
        result
    }

    fn commit(&mut self, positions: &[SourcePosition]) -> Result<()> {
        let Some(commit) = self.table.commit else { return Ok(()) };
        let json = serde_json::to_string(positions)?;
        self.instance.plain("commit", |call, instance| unsafe { commit(call, instance, str(&json)) })
    }

    fn stop(&mut self) -> Result<()> {
        self.instance.plain("stop", |call, instance| unsafe { (self.table.stop)(call, instance) })
    }

    fn canceller(&self) -> Canceller {
        self.instance.canceller()
    }

    fn acknowledger(&self) -> Option<Acknowledger> {
        self.table.acknowledged.map(|acknowledged| self.instance.acknowledger(acknowledged))
    }
}
