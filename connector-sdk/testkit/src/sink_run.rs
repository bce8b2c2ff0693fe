//! A sink task in a test's hands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tributary_sdk::prepared::{Claim, PreparedToken};
use tributary_sdk::sink::{Failures, SinkConnector, SinkTask, TopicPartition, TopicPartitionOffset};
use tributary_sdk::{Batch, Config, Error, ExactlyOnceSupport, Offsets, Result};

use crate::services::TestServices;

/// A started sink task. Dropping it is a kill: `stop` is not called.
pub struct SinkRun<C: SinkConnector> {
    services: Arc<TestServices>,
    task: C::Task,
    /// Next offset of what was put, by partition.
    put: BTreeMap<TopicPartition, i64>,
    /// Whether it prepares its transactions.
    prepares: bool,
}

/// An epoch larger than all before in this process.
pub(crate) fn next_epoch() -> i64 {
    static EPOCH: AtomicI64 = AtomicI64::new(1);
    EPOCH.fetch_add(1, Ordering::Relaxed)
}

impl<C: SinkConnector> SinkRun<C> {
    /// Starts the connector with `config` and the first of its tasks, in a worker of its own.
    pub fn start(config: &Config) -> Result<Self> {
        Self::start_in(TestServices::new(), config)
    }

    /// As [`Self::start`], in a given worker.
    pub fn start_in(services: Arc<TestServices>, config: &Config) -> Result<Self> {
        let prepares = C::default().exactly_once_support(config) == Some(ExactlyOnceSupport::Prepared);
        let config = task_config::<C>(&services, config)?;
        let mut task = C::Task::default();
        task.start(&services.context(), &config)?;
        Ok(Self { services, task, put: BTreeMap::new(), prepares })
    }

    /// The worker.
    pub fn services(&self) -> &Arc<TestServices> {
        &self.services
    }

    /// The task itself.
    pub fn task(&mut self) -> &mut C::Task {
        &mut self.task
    }

    /// Gives the task a partition, from `offset` on. Answers where it wants to begin.
    pub fn open(&mut self, topic: &str, partition: i32, offset: i64) -> Result<i64> {
        if self.prepares {
            let at = TopicPartition { topic: topic.into(), partition };
            self.task.recover(&[Claim { at, epoch: next_epoch(), token: None }])?;
        }
        let asked = TopicPartitionOffset { topic: topic.into(), partition, offset: Some(offset) };
        let elsewhere = self.task.open(std::slice::from_ref(&asked))?;
        let own = elsewhere.into_iter().find(|p| *p.topic == *topic && p.partition == partition);
        Ok(own.and_then(|p| p.offset).unwrap_or(offset))
    }

    /// Puts a batch once. Its partition and offsets are filled in where they are missing: partition 0, offsets that go on.
    pub fn put(&mut self, mut batch: Batch) -> Result<Failures> {
        let partition = *batch.partition.get_or_insert(0);
        let rows = batch.len() as i64;
        if batch.origin.is_none() && !matches!(batch.offsets, Offsets::Sink(_)) {
            let at = TopicPartition { topic: batch.topic.clone(), partition };
            let next = self.put.get(&at).copied().unwrap_or(0);
            batch.offsets = Offsets::Sink((next..next + rows).collect::<Vec<i64>>().into());
        }
        let Some((at, offsets)) = batch.place() else {
            return Err(Error::failed("a sink is given records with offsets"));
        };
        let next = self.put.get(&at).copied().unwrap_or(0);
        let end = if rows > 0 { offsets.value(rows as usize - 1) + 1 } else { next };
        let mut failures = Failures::default();
        self.task.put(batch, &mut failures)?;
        self.put.insert(at, end);
        Ok(failures)
    }

    /// Asks what may be committed, as before each commit. What a task prepares is committed at once.
    pub fn pre_commit(&mut self) -> Result<Vec<TopicPartitionOffset>> {
        let offsets: Vec<_> = self
            .put
            .iter()
            .map(|(at, &next)| TopicPartitionOffset {
                topic: at.topic.clone(),
                partition: at.partition,
                offset: Some(next),
            })
            .collect();
        let safe = match self.prepares {
            false => self.task.pre_commit(&offsets)?,
            true => {
                let prepared = self.task.prepare(&offsets)?;
                let token =
                    |token: &Arc<str>, at: &TopicPartition| PreparedToken { at: at.clone(), token: token.clone() };
                let tokens = prepared.iter().filter_map(|p| Some(token(p.token.as_ref()?, &p.at)));
                self.task.commit_prepared(&tokens.collect::<Vec<_>>())?;
                let safe = |p: tributary_sdk::prepared::Prepared| TopicPartitionOffset {
                    topic: p.at.topic,
                    partition: p.at.partition,
                    offset: Some(p.offset),
                };
                prepared.into_iter().map(safe).collect()
            }
        };
        for at in &safe {
            let put = offsets.iter().find(|put| put.topic == at.topic && put.partition == at.partition);
            if put.is_none_or(|put| at.offset > put.offset) {
                let message = format!("the task lets {at:?} be committed, but only {put:?} was put");
                return Err(Error::failed(message));
            }
        }
        Ok(safe)
    }

    /// Takes all partitions away and stops the task, after a last [`Self::pre_commit`].
    pub fn stop(&mut self) -> Result<()> {
        self.pre_commit()?;
        let partitions: Vec<TopicPartition> = std::mem::take(&mut self.put).into_keys().collect();
        self.task.close(&partitions)?;
        self.task.stop()
    }
}

/// What the connector makes of a config for its first task.
fn task_config<C: SinkConnector>(services: &Arc<TestServices>, config: &Config) -> Result<Config> {
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
