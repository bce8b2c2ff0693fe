//! Partitions come and go: their committed offsets, their state, and what the connector is told of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Trouble;
use super::super::outbox::Outbox;
use super::{ASK, Done, Running, SHORT, StreamState, client_error, state_error};
use crate::log::{ConsumerEvent, TopicPartition};
use crate::state::{LogChangelog, Shard};
use crate::task::control::now_ms;
use crate::task::errors::TaskError;

/// How long the changelog may give nothing while there is more to come: at least this, and longer than a transaction of its former owner may be
/// open. The cluster ends one that has timed out within a minute.
const CHANGELOG: Duration = Duration::from_secs(120);
const ENDS_WITHIN: Duration = Duration::from_secs(60);

impl Running {
    /// Reads partitions from their committed offsets on, with their state.
    pub(super) fn start(&mut self, partitions: Vec<TopicPartition>) -> Done {
        // They are this task's from now on, also if it has to begin anew.
        self.assigned.extend(partitions.iter().filter(|new| !self.assigned.contains(new)).cloned().collect::<Vec<_>>());
        let committed = self.open(&partitions)?;
        self.open_sink(&committed)?;
        let mut places = committed;
        for (partition, place) in places.iter_mut().filter(|(_, place)| place.is_none()) {
            // The end moves: what comes from now on is to be read, also if the first transaction has to be done again.
            if self.settings.from_end || self.stages.is_own_topic(&partition.topic) {
                *place = Some(self.first_read(partition)?);
            }
        }
        self.open_outbox(&mut places)?;
        self.consumer().assign(&places).map_err(TaskError::from)?;
        self.started.extend(partitions.iter().cloned());
        let held =
            partitions.into_iter().filter(|partition| self.paused || self.is_held(partition)).collect::<Vec<_>>();
        if !held.is_empty() {
            self.consumer().pause(&held).map_err(TaskError::from)?;
        }
        Ok(())
    }

    /// The committed offsets of partitions, whose state is restored.
    fn open(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Option<i64>)>, Trouble> {
        let opened = match self.open_state(partitions) {
            Ok(committed) => self.check_outbox(partitions).map(|()| committed),
            trouble => trouble,
        };
        // Nothing was read while state was restored.
        partitions.iter().for_each(|partition| self.repartition.begin(&self.stages, partition, now_ms()));
        opened
    }

    fn open_state(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Option<i64>)>, Trouble> {
        // Waits for the transactions of whoever had the partitions before.
        let committed = self.consumer().committed(partitions, SHORT).map_err(client_error)?;
        self.transactor.positions.begin(&committed);
        let Some(StreamState { state, changelog, reader }) = &self.state else { return Ok(committed) };
        let mut restored_shards = Vec::new();
        let open = state.shards();
        let shards: BTreeSet<Shard> = partitions.iter().filter_map(|partition| self.stages.shard(partition)).collect();
        let shards: Vec<Shard> = shards.into_iter().filter(|shard| !open.contains(shard)).collect();
        state.announce(shards.iter().copied());
        for shard in shards {
            let stopping = || self.control.stopping();
            let patience = CHANGELOG.max(self.settings.transaction_timeout + ENDS_WITHIN);
            let mut changelog = LogChangelog::new(&*self.log, reader.clone(), changelog, shard, patience, &stopping);
            match state.restore(shard, &mut changelog) {
                Err(_) if self.control.stopping() => return Err(Trouble::Stopped),
                restored => restored.map_err(state_error)?,
            };
            restored_shards.push(shard);
        }
        // State and offsets are committed together, so there are both or none.
        for shard in restored_shards {
            let known = |(partition, offset): &(TopicPartition, Option<i64>)| {
                self.stages.shard(partition) == Some(shard) && offset.is_some()
            };
            if committed.iter().any(known) || !state.has_entries(shard).map_err(state_error)? {
                continue;
            }
            // Another topic's partition of the shard may not be this task's yet.
            let (stage, partition) = self.stages.of_shard(shard);
            let inputs = self.stages.topics(stage);
            let all = inputs.iter().map(|topic| TopicPartition { topic: topic.clone(), partition });
            let all = all.collect::<Vec<_>>();
            let found = self.transactor.positions.consumer.committed(&all, SHORT).map_err(client_error)?;
            if !found.iter().any(known) {
                return Err(Trouble::Fatal(without_offsets(state.connector(), &inputs, partition)));
            }
        }
        Ok(committed)
    }

    /// Where a partition without committed offset is read from, once it is known always the same.
    pub(super) fn first_read(&mut self, partition: &TopicPartition) -> Result<i64, Trouble> {
        if let Some(known) = self.first_read.get(partition) {
            return Ok(*known);
        }
        let log = if self.stages.is_own_topic(&partition.topic) { &self.log } else { &self.source };
        let (first, next) = log.admin().watermarks(partition, ASK).map_err(client_error)?;
        // The connector's own topics have what was taken from the input already.
        if !self.settings.from_end || self.stages.is_own_topic(&partition.topic) {
            return Ok(first);
        }
        self.first_read.insert(partition.clone(), next);
        Ok(next)
    }

    pub(super) fn give_up(&mut self, partitions: &[TopicPartition]) -> Done {
        self.assigned.retain(|partition| !partitions.contains(partition));
        self.held_by_connector.retain(|partition| !partitions.contains(partition));
        self.started.retain(|partition| !partitions.contains(partition));
        self.first_read.retain(|partition, _| !partitions.contains(partition));
        self.transactor.positions.forget(partitions);
        self.outbox.iter_mut().for_each(|outbox| outbox.forget(partitions));
        self.repartition.retain(&self.stages, &self.assigned);
        for shard in self.shards() {
            if !self.assigned.iter().any(|partition| self.stages.shard(partition) == Some(shard)) {
                self.close_shard(shard);
            }
        }
        self.consumer().unassign(partitions).map_err(|error| TaskError::from(error).into())
    }

    /// Tells the connector of partitions whose records it will be given.
    fn open_sink(&mut self, committed: &[(TopicPartition, Option<i64>)]) -> Result<(), TaskError> {
        let Some(sink) = self.sink.as_mut().filter(|_| self.outbox.is_none()) else { return Ok(()) };
        let its = |(partition, _): &&(TopicPartition, _)| self.stages.is_for_sink(&partition.topic);
        let committed = committed.iter().filter(its).cloned().collect::<Vec<_>>();
        if committed.is_empty() { Ok(()) } else { sink.open(&committed) }
    }

    /// Tells it that they are taken away.
    pub(super) fn close_sink(&mut self, partitions: &[TopicPartition]) -> Result<(), TaskError> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let its = partitions.iter().filter(|partition| self.stages.is_for_sink(&partition.topic));
        match &self.outbox {
            None => sink.close(&its.cloned().collect::<Vec<_>>()),
            Some(outbox) => {
                // Those that were opened.
                let its = its.filter(|partition| outbox.place(partition).is_some());
                sink.close(&its.map(|partition| outbox.labelled(partition)).collect::<Vec<_>>())
            }
        }
    }

    pub(super) fn close_shard(&mut self, shard: Shard) {
        self.inbound.chain.forget(shard);
        if let Some(state) = &self.state {
            state.state.close(shard);
        }
    }

    /// Forgets the open transaction, whatever became of it, and goes on from what is committed.
    pub(super) fn begin_anew(&mut self) -> Done {
        self.transactor.reset();
        self.transactor.positions.reset();
        self.repartition.reset();
        self.layer = None;
        self.waiting.clear();
        // What the sink was given from an outbox stays given, and its offsets are offered again.
        self.outbox.iter_mut().for_each(Outbox::hurry);
        self.sink.iter_mut().for_each(|sink| sink.flushed = None);
        if let Some(sink) = self.sink.as_ref().filter(|_| self.outbox.is_none()) {
            sink.services.state.discard();
        }
        (self.records, self.bytes, self.opened) = (0, 0, Instant::now());
        self.push_back(false)?;
        for shard in self.shards() {
            self.close_shard(shard);
        }
        self.events.retain(|event| !matches!(event, ConsumerEvent::Batch(_)));
        // Only after this is it certain what is committed.
        self.drive()?;
        let partitions = self.assigned.clone();
        if partitions.is_empty() {
            return Ok(());
        }
        for (partition, committed) in self.open(&partitions)? {
            let offset = match committed {
                Some(offset) => offset,
                None => self.first_read(&partition)?,
            };
            if self.started.contains(&partition) {
                let offset = self.outbox.as_ref().and_then(|outbox| outbox.place(&partition)).unwrap_or(offset);
                self.consumer().seek(&partition, offset).map_err(client_error)?;
            } else {
                let mut place = [(partition.clone(), Some(offset))];
                self.open_sink(&place)?;
                self.open_outbox(&mut place)?;
                self.consumer().assign(&place).map_err(TaskError::from)?;
                if self.paused {
                    self.consumer().pause(std::slice::from_ref(&partition)).map_err(TaskError::from)?;
                }
                self.started.insert(partition);
            }
        }
        Ok(())
    }
}

/// There is state, and nothing says up to where the input is in it.
fn without_offsets(connector: &str, inputs: &[Arc<str>], partition: i32) -> TaskError {
    TaskError::new(format!(
        "partition {partition} of {} has no committed offset, and the transforms have state of it: its offsets have expired or were deleted, and \
         what is in the state would be counted again. Stop the connector, and either reset its offsets (DELETE /connectors/{connector}/offsets), \
         which purges the state, too, or set them to where the state is (PATCH /connectors/{connector}/offsets)",
        inputs.join(", ")
    ))
}
