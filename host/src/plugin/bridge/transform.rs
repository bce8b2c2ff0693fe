//! [`TransformHandle`] over a [`abi::TransformVtable`].

use std::sync::Arc;

use tributary_abi as abi;
use tributary_sdk::ffi::{Exported, str};
use tributary_sdk::sink::Failures;
use tributary_sdk::{Batch, Config, Result, Services};

use super::instance::Instance;
use super::sink_task::add_failures;
use crate::plugin::handle::TransformHandle;

/// A transform of a plugin.
pub struct Transform {
    table: &'static abi::TransformVtable,
    instance: Instance,
}

impl Transform {
    /// Makes an unconfigured transform. The table is one that the loader checked.
    pub fn create(class: &str, table: &'static abi::TransformVtable, services: Arc<dyn Services>) -> Result<Self> {
        let instance = Instance::create(class.to_owned(), table.create, None, table.destroy, services)?;
        Ok(Self { table, instance })
    }
}

// SAFETY of every block below: a function of this instance's table, called with the instance; arguments are borrowed for
// the call, batches moved.
#[allow(clippy::undocumented_unsafe_blocks)]
impl TransformHandle for Transform {
    fn configure(&mut self, config: &Config) -> Result<()> {
        let json = config.to_json();
        self.instance.plain("configure", |call, instance| unsafe { (self.table.configure)(call, instance, str(&json)) })
    }

    fn apply(&mut self, batch: Batch, batches: &mut Vec<Batch>, failures: &mut Failures) -> Result<()> {
        let rows = batch.len();
        let mut exported = Exported::new(batch)?;
        let (result, mut collector) = self
            .instance
            .call("apply", |call, instance| unsafe { (self.table.apply)(call, instance, exported.as_mut_ptr()) });
        result?;
        add_failures(collector.take_failures(), rows, failures)?;
        batches.append(&mut collector.take_batches());
        Ok(())
    }

    fn on_watermark(&mut self, watermark_ms: i64, batches: &mut Vec<Batch>) -> Result<()> {
        let Some(on_watermark) = self.table.on_watermark else { return Ok(()) };
        let json = watermark_ms.to_string();
        let (result, mut collector) =
            self.instance.call("on_watermark", |call, instance| unsafe { on_watermark(call, instance, str(&json)) });
        result?;
        batches.append(&mut collector.take_batches());
        Ok(())
    }
}
