//! The sink: records into tables, under Debezium's JDBC sink's class and keys.
//!
//! Promises: `put` returns when the batch is committed, in one transaction; so nothing whose offset is committed is lost, and the rows of a batch
//! are there together or not at all. With `exactly.once.enabled` the offset is in the same transaction, checked by its epoch. A record that the database
//! refuses is told by its row, and its batch goes on without it.
//!
//! Fails: a database that is away is tried again for as long as the worker does; a table, a column or a right that is missing fails the task, with what to
//! run.

mod catalog;
mod config;
mod datum;
mod ddl;
mod names;
mod number;
mod offsets;
mod plan;
mod records;
mod session;
mod statements;
mod text;
mod url;
mod wire;
mod writer;

use std::time::Duration;

use tributary_sdk::own_offsets::{OffsetTable, OwnOffsets};
use tributary_sdk::sink::{Failures, TopicPartition, TopicPartitionOffset};
use tributary_sdk::{Batch, Config, ConfigDef, Context, Error, ExactlyOnceSupport, Result, SinkConnector, SinkTask};

use config::SinkConfig;
use offsets::Offsets;
use writer::Writer;

use crate::client::Interrupts;

/// The first and the longest pause between attempts to reach the database while partitions are opened.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Writes to one database, from as many tasks as there are.
#[derive(Debug, Default)]
pub struct PostgresSink {
    config: Config,
}

impl SinkConnector for PostgresSink {
    type Task = PostgresSinkTask;

    fn config_def() -> ConfigDef {
        config::definition()
    }

    fn validate(&mut self, config: &Config) -> Vec<(String, String)> {
        // What a single key tells is said already; here come those that depend on each other.
        let single = Self::config_def().validate(config).iter().any(|value| !value.errors.is_empty());
        match SinkConfig::parse(config) {
            Err(error) if !single => {
                let message = error.to_string();
                let def = Self::config_def();
                let key = def.keys.iter().map(|key| &key.name).filter(|name| message.starts_with(&***name)).max();
                vec![(key.cloned().unwrap_or_else(|| "connection.url".into()), message)]
            }
            _ => Vec::new(),
        }
    }

    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = SinkConfig::parse(config)?;
        if !parsed.ignored.is_empty() {
            context.warn(format!("connection.url: these parameters mean nothing here: {}", parsed.ignored.join(", ")));
        }
        if parsed.offsets.is_some() && parsed.tolerant {
            context.info(
                "records are written exactly once; those that are refused are left out, since errors.tolerance=all",
            );
        }
        self.config = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        Ok(vec![self.config.clone(); max_tasks])
    }

    fn alter_offsets(&mut self, config: &Config, changed: &[TopicPartitionOffset]) -> Result<bool> {
        let config = SinkConfig::parse(config)?;
        if let Some(table) = &config.offsets {
            let altered = Offsets::new(&config, &Interrupts::default(), table).alter(&config.name, changed);
            altered.map_err(|error| offsets::explained(error, table))?;
        }
        Ok(true)
    }

    fn exactly_once_support(&mut self, config: &Config) -> Option<ExactlyOnceSupport> {
        let config = SinkConfig::parse(config).ok()?;
        Some(if config.offsets.is_some() { ExactlyOnceSupport::Supported } else { ExactlyOnceSupport::Unsupported })
    }
}

/// Writes records.
#[derive(Default)]
pub struct PostgresSinkTask(Option<Running>);

struct Running {
    context: Context,
    writer: Writer,
    /// Where each record is written exactly once.
    own: Option<OwnOffsets>,
    /// Whether it was told that records are passed over because the database is said to have them.
    told: bool,
}

impl std::fmt::Debug for PostgresSinkTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSinkTask").field("started", &self.0.is_some()).finish()
    }
}

impl PostgresSinkTask {
    fn running(&mut self) -> Result<&mut Running> {
        self.0.as_mut().ok_or_else(|| Error::failed("the task is not started"))
    }
}

impl SinkTask for PostgresSinkTask {
    /// The database may be away: it is first needed with the first record.
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let config = SinkConfig::parse(config)?;
        let own = config.offsets.is_some().then(|| OwnOffsets::new(&*config.name));
        self.0 = Some(Running { context: context.clone(), writer: Writer::new(context, config), own, told: false });
        Ok(())
    }

    fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        self.running()?.open(partitions)
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        self.running()?.put(&batch, failures)
    }

    fn flush(&mut self, _offsets: &[TopicPartitionOffset]) -> Result<()> {
        self.running()?.writer.flush()
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.running()?.close(partitions)
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(mut running) = self.0.take() {
            running.writer.close();
        }
        Ok(())
    }

    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let interrupts = self.0.as_ref()?.writer.interrupts.clone();
        Some(Box::new(move || interrupts.end()))
    }
}

impl Running {
    /// Waits for a database that is away: the answer cannot be given without it.
    fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        let (Some(own), Some(table)) = (&mut self.own, self.writer.config.offsets.clone()) else {
            return Ok(Vec::new());
        };
        let at = |at: &TopicPartitionOffset| TopicPartition { topic: at.topic.clone(), partition: at.partition };
        // A transaction of this task would keep it waiting for itself.
        if partitions.iter().any(|partition| own.holds(&at(partition))) && self.writer.abandon() {
            own.close(&partitions.iter().map(at).collect::<Vec<_>>());
            if !own.is_empty() {
                return Err(abandoned(own));
            }
        }
        self.told = false;
        let mut pause = PAUSES.0;
        let mut told = false;
        loop {
            let mut offsets = Offsets::new(&self.writer.config, &self.writer.interrupts, &table);
            let error = match own.open(&mut offsets, partitions) {
                Err(error) if error.is_retriable() => error,
                outcome => return outcome.map_err(|error| offsets::explained(error, &table)),
            };
            if self.writer.interrupts.over() {
                return Err(error);
            }
            if !std::mem::replace(&mut told, true) {
                self.context.warn(format!("{error}; trying again"));
            }
            if self.context.wait(pause) {
                return Err(error);
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// A transaction that still waits for the letters of what it refused is rolled back: the next owner of a partition would wait for it. What it has of other
    /// partitions is read again by a task that begins anew.
    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let Some(own) = &mut self.own else { return Ok(()) };
        own.close(partitions);
        if self.writer.abandon() && !own.is_empty() {
            return Err(abandoned(own));
        }
        Ok(())
    }

    fn put(&mut self, batch: &Batch, failures: &mut Failures) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let Self { writer, own, context, told } = self;
        let (Some(own), Some(table)) = (own, writer.config.offsets.clone()) else {
            let written = writer.write(batch, None)?;
            if let Some(error) = written.again {
                return Err(error);
            }
            context.count("postgres-rows", (batch.len() - written.refused.len()) as f64);
            written.refused.into_iter().for_each(|(row, why)| failures.fail(row, why));
            return Ok(());
        };
        let doubted = own.doubts(batch);
        let begun = own.begin(&mut Offsets::new(&writer.config, &writer.interrupts, &table), batch)?;
        // Those in front of it are there.
        let before = batch.len() - begun.as_ref().map_or(0, |(rest, _)| rest.len());
        if before > 0 && !doubted && !std::mem::replace(told, true) {
            context.warn(format!(
                "{before} records of {}-{} are passed over, since {table} says that they are written, and the worker was told to begin behind them. If the topic was \
                 made anew, they are not: stop the connector, and change or delete its offsets (DELETE /connectors/{}/offsets)",
                batch.topic,
                batch.partition.unwrap_or(-1),
                writer.config.name
            ));
        }
        let Some((rest, entry)) = begun else { return Ok(()) };
        let written = match writer.write(&rest, Some(&entry)) {
            Ok(written) => written,
            Err(error) => return own.end(entry, Err(error)),
        };
        if let Some(error) = written.again {
            // It is known that nothing of it is there.
            return Err(error);
        }
        if written.nothing {
            refuse_all(&rest, before, written.refused, failures);
            return Ok(());
        }
        own.end(entry, Ok(!written.fenced))?;
        context.count("postgres-rows", (rest.len() - written.refused.len()) as f64);
        written.refused.into_iter().for_each(|(row, why)| failures.fail(before + row, why));
        Ok(())
    }
}

fn abandoned(own: &mut OwnOffsets) -> Error {
    *own = OwnOffsets::new("");
    Error::failed(
        "partitions were taken away or given anew while a transaction waited for the dead letters of what it refused: it is rolled back, and its records are \
         read again by a task that begins anew",
    )
}

/// The offset of a transaction passes all of its records, so one that may not be left out keeps the others out, too.
fn refuse_all(batch: &Batch, before: usize, refused: Vec<(usize, String)>, failures: &mut Failures) {
    let mut reasons = vec![None; batch.len()];
    refused.into_iter().for_each(|(row, why)| reasons[row] = Some(why));
    for (row, why) in reasons.into_iter().enumerate() {
        let why = why.unwrap_or_else(|| {
            "nothing of its batch was written, since another record was refused, and errors.tolerance is none".into()
        });
        failures.fail(before + row, why);
    }
}
