//! The file source: each line of a file becomes a record.
//!
//! Promises: every line once its end is written, in order, byte for byte; text where it is valid UTF-8, bytes where not.
//! The offset is the byte position of the next line, so a restarted task reads again what was not delivered.
//!
//! Fails as [`crate::reader`] says. A missing file is waited for.

use tributary_sdk::{
    Config, ConfigDef, Context, Error, ExactlyOnceSupport, Output, Result, SourceConnector, SourcePosition, SourceTask,
};

use crate::config::{self, SourceConfig};
use crate::offsets;
use crate::reader::{Reader, named};

/// Reads one file, so it makes one task.
#[derive(Debug, Default)]
pub struct FileStreamSourceConnector {
    config: Config,
}

impl SourceConnector for FileStreamSourceConnector {
    type Task = FileStreamSourceTask;

    fn config_def() -> ConfigDef {
        SourceConfig::definition()
    }

    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = SourceConfig::parse(config)?;
        context.info(format!("reading lines of {} to topic {}", named(parsed.file.as_deref()), parsed.topic));
        self.config = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, _max_tasks: usize) -> Result<Vec<Config>> {
        Ok(vec![self.config.clone()])
    }

    fn alter_offsets(&mut self, config: &Config, offsets: &[SourcePosition]) -> Result<bool> {
        offsets::check(config::file(config).as_deref(), offsets)
    }

    fn exactly_once_support(&mut self, config: &Config) -> Option<ExactlyOnceSupport> {
        // What standard input gave cannot be read again.
        Some(match config::file(config) {
            Some(_) => ExactlyOnceSupport::Supported,
            None => ExactlyOnceSupport::Unsupported,
        })
    }
}

/// Reads one file, or standard input.
#[derive(Debug, Default)]
pub struct FileStreamSourceTask {
    reader: Option<Reader>,
}

impl SourceTask for FileStreamSourceTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        self.reader = Some(Reader::new(context, SourceConfig::parse(config)?)?);
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        self.reader.as_mut().ok_or_else(|| Error::failed("the task is not started"))?.poll(output)
    }

    fn stop(&mut self) -> Result<()> {
        self.reader = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
