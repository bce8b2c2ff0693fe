//! The plugin of a sink task whose transforms keep state.

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_sdk::sink::{RecordFailure, TopicPartitionOffset};
use tributary_sdk::{Batch, Config, Error};

use super::Trouble;
use crate::log::TopicPartition;
use crate::plugin::SinkTaskHandle;
use crate::task::control::TaskControl;
use crate::task::error_policy::ErrorHandler;
use crate::task::errors::TaskError;
use crate::task::put::{self, NotPut};
use crate::task::services::InstanceServices;

/// The instance, and its services.
pub struct SinkTarget {
    /// The plugin's instance.
    pub handle: Box<dyn SinkTaskHandle>,
    /// The task's config, resolved.
    pub config: Config,
    /// The plugin's services.
    pub services: Arc<InstanceServices>,
    /// Counts what is put: state that the plugin itself keeps goes with it.
    pub epoch: u64,
    /// The plugin has panicked and is not called again.
    pub panicked: bool,
    /// Whether something was put since the last flush.
    pub unflushed: bool,
    /// Whether it was told that the connector keeps records back.
    pub told: bool,
    /// With an outbox: what was put up to here is safe, and its offsets are in the open transaction.
    pub flushed: Option<u64>,
}

impl SinkTarget {
    /// Not started yet.
    pub fn new(handle: Box<dyn SinkTaskHandle>, config: Config, services: Arc<InstanceServices>) -> Self {
        Self { handle, config, services, epoch: 0, panicked: false, unflushed: false, told: false, flushed: None }
    }

    /// Starts the plugin.
    pub fn start(&mut self, control: &TaskControl) -> Result<(), TaskError> {
        control.set_canceller(self.handle.canceller());
        self.handle.start(&self.config).map_err(|error| {
            // After a failed start there is nothing to stop.
            self.panicked = true;
            TaskError::of_call("start", error)
        })
    }

    /// These partitions of the outbox are given to the connector, as it knows them. Answers where it wants to begin, by partition.
    pub fn open_outbox(&mut self, partitions: &[TopicPartition]) -> Result<BTreeMap<i32, i64>, TaskError> {
        let asked = partitions.iter().map(|partition| partition.at(None)).collect::<Vec<_>>();
        let answer = self.handle.open(&asked);
        let known = |at: &TopicPartitionOffset| {
            partitions.iter().any(|known| (&known.topic, known.partition) == (&at.topic, at.partition))
        };
        let answer = self.checked("open", answer)?.into_iter().filter(known);
        Ok(answer.filter_map(|at| Some((at.partition, at.offset?))).collect())
    }

    /// These partitions are read from their committed offsets on.
    pub fn open(&mut self, committed: &[(TopicPartition, Option<i64>)]) -> Result<(), TaskError> {
        let partitions = committed.iter().map(|(partition, _)| partition.at(None)).collect::<Vec<_>>();
        let answer = self.handle.open(&partitions);
        for TopicPartitionOffset { topic, partition, offset } in self.checked("open", answer)? {
            let here = committed.iter().find(|(at, _)| at.topic == topic && at.partition == partition);
            let here = here.and_then(|(_, offset)| *offset);
            if offset.is_some() && offset != here {
                return Err(TaskError::new(format!(
                    "the connector wants to begin at offset {} of {topic}-{partition}, and the state of its transforms is that of offset {}: \
                     a connector that keeps offsets in its own store has to say so in exactly_once_support, so that an outbox topic is put in \
                     front of it. Or let a KafkaSink run the stateful transforms, and read its topic",
                    offset.unwrap_or_default(),
                    here.unwrap_or_default(),
                )));
            }
        }
        Ok(())
    }

    /// Puts a batch, as often as it takes. Answers `false` when the task has to stop instead.
    pub fn put(
        &mut self,
        batch: Batch,
        errors: &ErrorHandler,
        dispose: &mut dyn FnMut(&Batch, Vec<RecordFailure>) -> Result<bool, TaskError>,
    ) -> Result<bool, TaskError> {
        self.epoch += 1;
        self.unflushed = true;
        self.services.state.begin(self.epoch);
        match put::put(&mut *self.handle, &errors.control, errors, batch, dispose) {
            Ok(put) => Ok(put),
            Err(NotPut::Call(error)) => self.checked("put", Err(error)),
            Err(NotPut::Record(error)) => Err(error),
        }
    }

    /// Whether everything that was put is safe, so that these offsets may be committed.
    pub fn pre_commit(&mut self, offsets: impl IntoIterator<Item = (TopicPartition, i64)>) -> Result<bool, Trouble> {
        let offered = offsets.into_iter().map(|(partition, next)| partition.at(Some(next))).collect::<Vec<_>>();
        let answer = match self.handle.pre_commit(&offered) {
            Err(Error::Retriable(message)) => {
                tracing::warn!("nothing is committed until the next interval: the connector cannot flush: {message}");
                return Ok(false);
            }
            answer => self.checked("pre_commit", answer)?,
        };
        let safe = |wanted: &TopicPartitionOffset| {
            answer.iter().any(|safe| {
                (&safe.topic, safe.partition) == (&wanted.topic, wanted.partition) && safe.offset >= wanted.offset
            })
        };
        let all = offered.iter().all(safe);
        if all {
            (self.unflushed, self.told) = (false, false);
        } else if !std::mem::replace(&mut self.told, true) {
            tracing::info!(
                "the connector keeps records back: offsets and state are committed when it has written all of them"
            );
        }
        Ok(all)
    }

    /// Those of these next-to-read offsets of the outbox that may be committed, by partition; nothing while the connector cannot flush.
    pub fn safe(&mut self, offered: &[(TopicPartition, i64)]) -> Result<BTreeMap<i32, i64>, Trouble> {
        let asked = offered.iter().map(|(partition, next)| partition.at(Some(*next))).collect::<Vec<_>>();
        let answer = match self.handle.pre_commit(&asked) {
            Err(Error::Retriable(message)) => {
                tracing::warn!(
                    "the group's offsets do not follow until the next interval: the connector cannot flush: {message}"
                );
                return Ok(BTreeMap::new());
            }
            answer => self.checked("pre_commit", answer)?,
        };
        let safe = |(partition, next): &(TopicPartition, i64)| {
            let answered =
                answer.iter().find(|at| (&at.topic, at.partition) == (&partition.topic, partition.partition))?;
            Some((partition.partition, answered.offset?.min(*next)))
        };
        Ok(offered.iter().filter_map(safe).collect())
    }

    /// Partitions are taken away.
    pub fn close(&mut self, partitions: &[TopicPartition]) -> Result<(), TaskError> {
        if self.panicked || partitions.is_empty() {
            return Ok(());
        }
        let partitions = partitions.iter().map(Into::into).collect::<Vec<_>>();
        let answer = self.handle.close(&partitions);
        self.checked("close", answer)
    }

    /// The last call.
    pub fn stop(&mut self) -> Result<(), TaskError> {
        if self.panicked {
            return Ok(());
        }
        let answer = self.handle.stop();
        self.checked("stop", answer)
    }

    fn checked<T>(&mut self, call: &str, answer: tributary_sdk::Result<T>) -> Result<T, TaskError> {
        answer.map_err(|error| {
            self.panicked |= matches!(error, Error::Panicked { .. });
            TaskError::of_call(call, error)
        })
    }
}
