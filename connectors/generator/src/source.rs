//! The generator source and its tasks.
//!
//! Promises: record n of a seed is always the same; of T tasks, task t makes the records t, t + T, t + 2 T, …, in order, so
//! that all tasks together make each record once. The offset is the number of the next record. `rate` and `max.records`
//! count all tasks together.
//!
//! Fails only at a wrong config or a stored offset that is none of this connector's. A changed number of tasks divides the
//! sequence anew: each task goes on from its own offset, so that records may be missing or come again (a warning says so).

use std::time::Duration;

use tributary_sdk::arrow::array::Int64Array;
use tributary_sdk::{
    Batch, Column, Config, ConfigDef, Context, Error, ExactlyOnceSupport, Output, Result, SourceConnector,
    SourcePosition, SourceTask,
};

use crate::config::{self, Format, GeneratorConfig};
use crate::offsets;
use crate::pacing::Pacing;
use crate::schema::record;
use crate::writer::{JsonWriter, Strings, StructuredWriter, TextWriter, Writer};

/// How long one poll may wait in all, so that the worker can pause and stop the task.
const PATIENCE_MS: u64 = 200;

/// Divides the sequence among its tasks.
#[derive(Debug, Default)]
pub struct GeneratorSource {
    config: Config,
}

impl SourceConnector for GeneratorSource {
    type Task = GeneratorSourceTask;

    fn config_def() -> ConfigDef {
        config::definition()
    }

    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = GeneratorConfig::parse(config)?;
        let rate = if parsed.rate == 0.0 {
            "as fast as they are taken".to_owned()
        } else {
            format!("{} a second", parsed.rate)
        };
        context.info(format!("making up {:?} for topic {}, {rate}", parsed.schema, parsed.topic).to_lowercase());
        self.config = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        let of = |task: usize| {
            let mut config = self.config.clone();
            config.set(config::TASK, task.to_string());
            config.set(config::TASKS, max_tasks.to_string());
            config
        };
        Ok((0..max_tasks).map(of).collect())
    }

    fn alter_offsets(&mut self, _config: &Config, offsets: &[SourcePosition]) -> Result<bool> {
        offsets::check(offsets)
    }

    fn exactly_once_support(&mut self, _config: &Config) -> Option<ExactlyOnceSupport> {
        Some(ExactlyOnceSupport::Supported)
    }
}

/// Makes every T-th record.
#[derive(Debug, Default)]
pub struct GeneratorSourceTask {
    generator: Option<Generator>,
}

impl SourceTask for GeneratorSourceTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        self.generator = Some(Generator::new(context, GeneratorConfig::parse(config)?)?);
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        self.generator.as_mut().ok_or_else(|| Error::failed("the task is not started"))?.poll(output)
    }

    fn stop(&mut self) -> Result<()> {
        self.generator = None;
        Ok(())
    }
}

struct Generator {
    context: Context,
    config: GeneratorConfig,
    /// The source partition.
    partition: std::sync::Arc<str>,
    /// Number of the next record.
    next: u64,
    pacing: Pacing,
    /// It was said that all records are made.
    done: bool,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator").field("config", &self.config).field("next", &self.next).finish()
    }
}

impl Generator {
    fn new(context: &Context, config: GeneratorConfig) -> Result<Self> {
        let (task, tasks) = (config.task, config.tasks);
        let partition = offsets::partition(&config.name, task);
        let stored = context.offset(&partition)?;
        let sequence = offsets::sequence(stored.as_ref())?;
        // The task's first record from there on.
        let next = sequence + (tasks + task - sequence % tasks) % tasks;
        if stored.is_some() && next != sequence {
            context.warn(format!(
                "task {task} of {tasks} goes on from offset {sequence}, which another number of tasks has left: \
                 records may be missing or come again; reset the connector's offsets to begin anew"
            ));
        }
        Ok(Self {
            pacing: Pacing::new(config.rate / tasks as f64, context.now_ms()),
            context: context.clone(),
            partition: partition.to_string().into(),
            next,
            done: false,
            config,
        })
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let mut waited = 0;
        loop {
            let most = self.left().min(self.config.batch_size as u64) as usize;
            let rows = self.pacing.take(most, self.context.now_ms());
            if rows > 0 {
                return self.emit(rows, output);
            }
            if most == 0 && !self.done {
                self.context.info(format!("all {} records are made", self.config.max_records));
                self.done = true;
            }
            let time = if most == 0 { PATIENCE_MS } else { self.pacing.wait_ms().min(PATIENCE_MS) };
            if waited >= PATIENCE_MS || self.context.wait(Duration::from_millis(time)) {
                return Ok(());
            }
            waited += time;
        }
    }

    /// Records that this task may still make.
    fn left(&self) -> u64 {
        match self.config.max_records {
            0 => u64::MAX,
            all => all.saturating_sub(self.next).div_ceil(self.config.tasks),
        }
    }

    fn emit(&mut self, rows: usize, output: &mut Output<'_>) -> Result<()> {
        let next = self.next + rows as u64 * self.config.tasks;
        let mut made = Made { keys: Strings::new(rows, 10), times: Vec::new() };
        let values = match self.config.format {
            Format::Json => {
                let mut writer = JsonWriter::new(rows);
                self.make(rows, &mut writer, &mut made);
                writer.finish()?
            }
            Format::Structured => {
                let mut writer = StructuredWriter::new(rows);
                self.make(rows, &mut writer, &mut made);
                writer.finish(self.config.schema.full_name())?
            }
            Format::Text => {
                let mut writer = TextWriter::new(rows);
                self.make(rows, &mut writer, &mut made);
                writer.finish()?
            }
        };
        let mut batch = Batch::new(self.config.topic.clone(), values)
            .with_resume_point(self.partition.clone(), &offsets::offset_text(next));
        batch.key = Some(Column::text(made.keys.finish()?));
        if self.config.event_timestamps {
            batch.timestamps = Some(Int64Array::from(made.times));
        }
        output.emit(batch)?;
        // A batch that was not taken is made again.
        self.next = next;
        Ok(())
    }

    fn make(&self, rows: usize, writer: &mut impl Writer, made: &mut Made) {
        for row in 0..rows as u64 {
            let (key, time) = record(&self.config, self.next + row * self.config.tasks, writer);
            key.write(&mut made.keys.bytes);
            made.keys.end_value();
            if self.config.event_timestamps {
                made.times.push(time);
            }
        }
    }
}

/// What records have beside their values.
struct Made {
    keys: Strings,
    times: Vec<i64>,
}

#[cfg(test)]
mod tests;
