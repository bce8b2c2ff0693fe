//! A source task in a test's hands.

use std::sync::Arc;

use tributary_sdk::arrow::array::Array;
use tributary_sdk::source::{Output, SourceConnector, SourcePosition, SourceTask};
use tributary_sdk::{Batch, Config, Error, Offsets, Result};

use crate::services::TestServices;

/// How many polls in a row may bring nothing before a test gives up.
const IDLE_POLLS: usize = 2_000;

/// A started source task. Dropping it is a kill: `stop` is not called.
pub struct SourceRun<C: SourceConnector> {
    services: Arc<TestServices>,
    task: C::Task,
    acknowledger: Option<Box<dyn Fn(&[SourcePosition]) + Send + Sync>>,
}

impl<C: SourceConnector> SourceRun<C> {
    /// Starts the connector with `config` and the first of its tasks, in a worker of its own.
    pub fn start(config: &Config) -> Result<Self> {
        Self::start_in(TestServices::new(), config)
    }

    /// As [`Self::start`], in a worker that may have offsets already.
    pub fn start_in(services: Arc<TestServices>, config: &Config) -> Result<Self> {
        let config = task_config::<C>(&services, config)?;
        let mut task = C::Task::default();
        task.start(&services.context(), &config)?;
        let acknowledger = task.acknowledger();
        Ok(Self { services, task, acknowledger })
    }

    /// The worker.
    pub fn services(&self) -> &Arc<TestServices> {
        &self.services
    }

    /// The task itself.
    pub fn task(&mut self) -> &mut C::Task {
        &mut self.task
    }

    /// Polls once.
    pub fn poll(&mut self) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        self.poll_into(&mut |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }

    /// Polls once, with a say in what `emit` answers to the task.
    pub fn poll_into(&mut self, emit: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        self.task.poll(&mut Output::new(emit))
    }

    /// Polls until there are at least `records`; retriable errors are polled away as the worker does.
    /// Fails when 2,000 polls in a row bring nothing.
    pub fn poll_records(&mut self, records: usize) -> Result<Vec<Batch>> {
        let mut batches: Vec<Batch> = Vec::new();
        let (mut count, mut idle) = (0, 0);
        while count < records {
            let before = batches.len();
            let result = self.poll_into(&mut |batch| {
                batches.push(batch);
                Ok(())
            });
            match result {
                Err(error) if !error.is_retriable() => return Err(error),
                _ => {}
            }
            count += batches[before..].iter().map(Batch::len).sum::<usize>();
            idle = if batches.len() > before { 0 } else { idle + 1 };
            if idle > IDLE_POLLS {
                let message = format!("waited for {records} records and got {count} in {IDLE_POLLS} idle polls");
                return Err(Error::failed(message));
            }
        }
        Ok(batches)
    }

    /// The batches are safely out: their offsets are stored and the task is told.
    pub fn deliver(&mut self, batches: &[Batch]) -> Result<()> {
        for batch in batches {
            self.deliver_rows(batch, batch.len())?;
        }
        Ok(())
    }

    /// The first `rows` of a batch are safely out.
    pub fn deliver_rows(&mut self, batch: &Batch, rows: usize) -> Result<()> {
        let (Offsets::Source(offsets), Some(partition)) = (&batch.offsets, &batch.source_partition) else {
            return Ok(());
        };
        let Some(row) = (0..rows).rev().find(|&row| offsets.is_valid(row)) else { return Ok(()) };
        let (partition, offset) = (serde_json::from_str(partition)?, serde_json::from_str(offsets.value(row))?);
        let positions = [SourcePosition { partition, offset: Some(offset) }];
        if let Some(acknowledge) = &self.acknowledger {
            acknowledge(&positions);
        }
        let [SourcePosition { partition, offset }] = &positions;
        self.services.set_offset(partition, offset.clone());
        self.task.commit(&positions)
    }

    /// Stops the task.
    pub fn stop(&mut self) -> Result<()> {
        self.task.stop()
    }
}

/// What the connector makes of a config for its first task.
fn task_config<C: SourceConnector>(services: &Arc<TestServices>, config: &Config) -> Result<Config> {
    let mut connector = C::default();
    C::config_def().parse(config)?;
    if let Some((key, message)) = connector.validate(config).into_iter().next() {
        return Err(Error::failed(format!("{key}: {message}")));
    }
    connector.start(&services.context(), config)?;
    let configs = connector.task_configs(1)?;
    connector.stop()?;
    match configs.len() {
        1 => Ok(configs.into_iter().next().unwrap_or_default()),
        count => Err(Error::failed(format!("asked for at most 1 task config and got {count}"))),
    }
}
