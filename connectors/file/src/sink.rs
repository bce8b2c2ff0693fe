//! The file sink: each record becomes a line at the end of a file.
//!
//! Promises: a record whose offset is committed is in the file, whole, in the order of its partition, whatever happens to
//! the worker; with `sync=data` whatever happens to the machine. A batch is written before `put` returns, all or nothing.
//! After a crash, records since the last commit come again; a line torn by it is mended.
//!
//! Fails: see [`crate::output`]. A file that was renamed or removed (log rotation) is created anew.

use tributary_sdk::sink::TopicPartitionOffset;
use tributary_sdk::{Batch, Config, ConfigDef, Context, Error, Failures, Result, SinkConnector, SinkTask};

use crate::config::{SinkConfig, Sync};
use crate::errors::shown;
use crate::output::OutputFile;
use crate::render;

/// Memory kept between batches for their lines.
const KEPT_BYTES: usize = 4 << 20;

/// Appends to one file, from as many tasks as there are.
#[derive(Debug, Default)]
pub struct FileStreamSinkConnector {
    config: Config,
}

impl SinkConnector for FileStreamSinkConnector {
    type Task = FileStreamSinkTask;

    fn config_def() -> ConfigDef {
        SinkConfig::definition()
    }

    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = SinkConfig::parse(config)?;
        let to = parsed.file.as_deref().map_or_else(|| "standard output".to_owned(), shown);
        context.info(format!("writing records as lines to {to}"));
        self.config = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        Ok(vec![self.config.clone(); max_tasks])
    }

    fn alter_offsets(&mut self, _config: &Config, _offsets: &[TopicPartitionOffset]) -> Result<bool> {
        // The group's offsets are the only ones there are.
        Ok(true)
    }
}

/// Appends to one file, or to standard output.
#[derive(Debug, Default)]
pub struct FileStreamSinkTask {
    writer: Option<Writer>,
}

struct Writer {
    context: Context,
    config: SinkConfig,
    output: OutputFile,
    /// The lines of the batch being written.
    lines: Vec<u8>,
    /// Something was written since the last sync.
    dirty: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("config", &self.config).field("output", &self.output).finish()
    }
}

impl SinkTask for FileStreamSinkTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let config = SinkConfig::parse(config)?;
        let output = open(context, &config)?;
        let context = context.clone();
        self.writer = Some(Writer { context, config, output, lines: Vec::new(), dirty: false });
        Ok(())
    }

    fn put(&mut self, batch: Batch, _failures: &mut Failures) -> Result<()> {
        self.writer()?.put(&batch)
    }

    fn flush(&mut self, _offsets: &[TopicPartitionOffset]) -> Result<()> {
        self.writer()?.sync()
    }

    fn stop(&mut self) -> Result<()> {
        self.writer = None;
        Ok(())
    }
}

impl FileStreamSinkTask {
    fn writer(&mut self) -> Result<&mut Writer> {
        self.writer.as_mut().ok_or_else(|| Error::failed("the task is not started"))
    }
}

impl Writer {
    fn put(&mut self, batch: &Batch) -> Result<()> {
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES);
        render::lines(&batch.value, &mut self.lines)?;
        if self.output.is_gone() {
            self.sync()?;
            self.output = open(&self.context, &self.config)?;
            let name = self.config.file.as_deref().map_or_else(String::new, shown);
            self.context.warn(format!("{name} was renamed or removed: writing to a new one"));
        }
        self.dirty = true;
        self.output.append(&self.context, &self.lines)
    }

    /// Nothing is buffered here: what was put is the operating system's already.
    fn sync(&mut self) -> Result<()> {
        if self.config.sync == Sync::Data && self.dirty {
            self.output.sync()?;
        }
        self.dirty = false;
        Ok(())
    }
}

fn open(context: &Context, config: &SinkConfig) -> Result<OutputFile> {
    match &config.file {
        None => OutputFile::stdout(),
        Some(path) => OutputFile::open(context, path, config.torn_line),
    }
}

#[cfg(test)]
mod tests;
