//! What is not read for now: what the connector holds, and what a later stage has no room for.

use super::{Done, Running};
use crate::log::TopicPartition;
use crate::task::errors::TaskError;

impl Running {
    /// Pauses and resumes what the connector asks for.
    pub(super) fn obey_connector(&mut self) -> Done {
        let Some(sink) = &self.sink else { return Ok(()) };
        let requests = match &self.outbox {
            None => sink.services.pauses.take(&self.assigned),
            Some(outbox) => {
                let own = self.assigned.iter().filter(|partition| self.stages.is_outbox(&partition.topic));
                let requests = sink.services.pauses.take(&own.map(|own| outbox.labelled(own)).collect::<Vec<_>>());
                let unlabelled = |partitions: Vec<TopicPartition>| {
                    partitions.iter().map(|at| outbox.unlabelled(at.partition)).collect()
                };
                requests.into_iter().map(|(hold, partitions)| (hold, unlabelled(partitions))).collect()
            }
        };
        for (hold, partitions) in requests {
            self.held_by_connector.retain(|held| !partitions.contains(held));
            let change = if hold {
                self.held_by_connector.extend(partitions.iter().cloned());
                self.consumer().pause(&partitions)
            } else if !self.paused {
                let wanted = partitions.into_iter().filter(|partition| !self.is_held(partition)).collect::<Vec<_>>();
                self.consumer().resume(&wanted)
            } else {
                Ok(())
            };
            change.map_err(TaskError::from)?;
        }
        Ok(())
    }

    /// Whether a partition is not read although the task is not paused.
    pub(super) fn is_held(&self, partition: &TopicPartition) -> bool {
        self.held_by_connector.contains(partition) || (self.pushed_back && self.is_earlier(partition))
    }

    /// Partitions that are not read now: their silence means nothing.
    pub(super) fn held(&self) -> Vec<TopicPartition> {
        self.assigned.iter().filter(|partition| self.paused || self.is_held(partition)).cloned().collect()
    }

    /// Whether a partition is read by a stage whose records go on to a repartition topic.
    pub(super) fn is_earlier(&self, partition: &TopicPartition) -> bool {
        self.stages.stage(&partition.topic) < self.stages.last()
    }

    /// While the connector keeps records back, nothing is committed, and what the earlier stages write waits in memory: they read no further
    /// than there is room for.
    pub(super) fn push_back(&mut self, wanted: bool) -> Done {
        if std::mem::replace(&mut self.pushed_back, wanted) == wanted {
            return Ok(());
        }
        let earlier = self.started.iter().filter(|partition| self.is_earlier(partition));
        if wanted {
            tracing::warn!(
                "the connector keeps records back, and {} bytes for repartition topics wait for its commit: what is in front of these is not \
                 read until then. A connector that waits for more records never gets them: it has to write what it has after some time",
                self.bytes
            );
            let earlier = earlier.cloned().collect::<Vec<_>>();
            self.consumer().pause(&earlier).map_err(TaskError::from)?;
        } else if !self.paused {
            let free = earlier.filter(|partition| !self.is_held(partition));
            let free = free.cloned().collect::<Vec<_>>();
            self.consumer().resume(&free).map_err(TaskError::from)?;
        }
        Ok(())
    }
}
