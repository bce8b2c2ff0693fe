//! Transforms: what happens to records between Kafka and a connector.

use crate::batch::Batch;
use crate::config::Config;
use crate::config_def::ConfigDef;
use crate::context::Context;
use crate::errors::Result;
use crate::sink::Failures;
use crate::source::Output;

/// Changes, drops or multiplies records. The worker calls from one thread, one call at a time.
pub trait Transform: Default + Send + 'static {
    /// The config keys, without the `transforms.<alias>.` prefix.
    fn config_def() -> ConfigDef;

    /// Takes the transform's own config.
    fn configure(&mut self, context: &Context, config: &Config) -> Result<()>;

    /// Takes a batch and emits any number. Records named in `failures` (by row of `batch`) are not emitted.
    /// A record that is emitted keeps the offset of the one it comes from.
    fn apply(&mut self, batch: Batch, output: &mut Output<'_>, failures: &mut Failures) -> Result<()>;

    /// Event time has passed `watermark_ms`: emits what was waiting for it.
    fn on_watermark(&mut self, _watermark_ms: i64, _output: &mut Output<'_>) -> Result<()> {
        Ok(())
    }
}
