//! The end of a transaction: outputs, state and offsets are committed together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::super::Trouble;
use super::{ASK, Done, EARLY, MAX_BYTES, Running, StreamState, chain_error, client_error, part, state_error};
use crate::log::TopicPartition;
use crate::state::{Layer, Positions, ShardChanges};
use crate::task::transaction::{Advance, End, Ending, Piece, Slice};

impl Running {
    /// Does what can be done of the open transaction.
    pub(super) fn drive(&mut self) -> Done {
        loop {
            let advanced = match self.transactor.advance(self.deadline) {
                Ok(advanced) => advanced,
                Err(error) => {
                    return Err(match self.transactor.end() {
                        // It makes no difference who it was: begin anew, from what is committed.
                        Some(End::TakenOver) => Trouble::Again(error.message),
                        Some(End::Failed) if !self.transactor.is_hopeless() => Trouble::Again(error.message),
                        _ => Trouble::Fatal(error),
                    });
                }
            };
            match advanced {
                Advance::Waiting => return Ok(()),
                Advance::Settled(_) => self.settled()?,
                Advance::Refused(refusals) => self.refused(refusals)?,
                Advance::Stopped => return Err(Trouble::Stopped),
                Advance::Lost => return Err(Trouble::Again(self.transactor.last_error())),
            }
        }
    }

    /// Commits outputs, state and offsets together. Nothing, as long as the connector keeps records back.
    pub(super) fn commit(&mut self) -> Done {
        self.commit_letters()?;
        self.commit_transaction(true)
    }

    /// The same, of one transaction. With `follows`, what the sink has of the outbox is part of it: the sink may commit then.
    pub(super) fn commit_transaction(&mut self, follows: bool) -> Done {
        self.drive()?;
        for shard in self.shards() {
            let (stage, _) = self.stages.of_shard(shard);
            let applied = self.inbound.chain.before_commit(stage, shard).map_err(chain_error)?;
            self.emit(applied, shard)?;
        }
        self.tell()?;
        if self.outbox.is_some() {
            if follows {
                self.follow()?;
            }
        } else if let Some(sink) = &mut self.sink {
            let positions = &self.transactor.positions;
            let last =
                |(partition, _): &(TopicPartition, i64)| self.stages.stage(&partition.topic) == self.stages.last();
            let asked = sink.unflushed || positions.open().iter().any(last);
            if asked && !sink.pre_commit(positions.all().into_iter().filter(last))? {
                // Asked again after another interval.
                (self.records, self.opened) = (0, Instant::now());
                return self.push_back(self.stages.last() > 0 && self.bytes >= MAX_BYTES);
            }
        }
        if !self.owed.is_empty() {
            self.transactor.positions.touch();
        }
        let layer = self.state.as_ref().map(|state| state.state.seal()).transpose().map_err(state_error)?;
        let mut slices = layer.as_ref().map(|layer| self.slices(layer)).unwrap_or_default();
        let layer = self.joined(layer);
        let changes = layer.as_ref().is_some_and(|layer| !layer.is_empty());
        if self.transactor.positions.is_clean() && !changes {
            self.opened = Instant::now();
            return match (&self.state, layer) {
                // It is empty; layers are committed in their order.
                (Some(state), Some(layer)) => state.state.committed(layer, Positions::default()).map_err(state_error),
                _ => Ok(()),
            };
        }
        self.layer = layer;
        if changes {
            self.transactor.positions.touch();
        }
        // Positions alone are a piece, too.
        slices.extend(self.waiting.drain(..).chain(self.owed.iter().cloned()).map(Slice::from));
        self.transactor.add(Piece { parts: slices });
        self.transactor.machine.end(Ending::Commit);
        self.drive()?;
        match self.transactor.machine.held() {
            0 => Ok(()),
            _ => Err(Trouble::Stopped),
        }
    }

    /// Sends what there is of the state's changes, if they are many. A sink's transaction is opened only when the connector has flushed.
    pub(super) fn seal_early(&mut self) -> Done {
        let Some(StreamState { state, .. }) = &self.state else { return Ok(()) };
        if self.sink.is_some() || state.unsealed() < EARLY {
            return Ok(());
        }
        let layer = state.seal_part().map_err(state_error)?;
        let parts = self.slices(&layer);
        self.layer = self.joined(Some(layer));
        self.transactor.positions.touch();
        self.transactor.add(Piece { parts });
        Ok(())
    }

    /// A layer behind those of the same transaction.
    fn joined(&mut self, layer: Option<Layer>) -> Option<Layer> {
        match (self.layer.take(), layer) {
            (Some(mut all), Some(layer)) => {
                all.join(layer);
                Some(all)
            }
            (all, layer) => all.or(layer),
        }
    }

    /// A layer as records of the changelog.
    fn slices(&self, layer: &Layer) -> Vec<Slice> {
        let Some(StreamState { changelog, .. }) = &self.state else { return Vec::new() };
        let topic: Arc<str> = changelog.as_str().into();
        let slice = |changes: &Arc<ShardChanges>| Slice {
            part: part(&topic, changes.records()),
            alone: false,
            mark: Some(changes.shard as u64),
        };
        layer.changes.iter().map(slice).collect()
    }

    /// A transaction is committed.
    fn settled(&mut self) -> Done {
        (self.records, self.bytes, self.fruitless, self.opened) = (0, 0, 0, Instant::now());
        self.owed.clear();
        self.push_back(false)?;
        if let Some(sink) = &mut self.sink {
            // Behind an outbox, what the plugin itself keeps goes with the offsets there.
            let epoch = if self.outbox.is_some() { sink.flushed.take() } else { Some(sink.epoch) };
            let stored = epoch.map_or(Ok(()), |epoch| sink.services.state.commit(epoch));
            stored.unwrap_or_else(|error| {
                tracing::error!("state was not stored and will be at the next commit: {error}")
            });
        }
        let told: HashMap<u64, i64> = self.transactor.take_ends();
        let (Some(StreamState { state, changelog, .. }), Some(layer)) = (&self.state, self.layer.take()) else {
            return Ok(());
        };
        let mut ends = BTreeMap::new();
        for changes in &layer.changes {
            if ends.contains_key(&changes.shard) {
                continue;
            }
            let next = match told.get(&(changes.shard as u64)) {
                Some(next) => *next,
                // Nobody else writes to this partition.
                None => {
                    let partition = TopicPartition { topic: changelog.as_str().into(), partition: changes.shard };
                    // What was committed is in the changelog: if the cluster does not answer now, it is read from there.
                    self.log.admin().watermarks(&partition, ASK).map_err(client_error)?.1
                }
            };
            ends.insert(changes.shard, next);
        }
        state.committed(layer, Positions { inputs: Vec::new(), changelog: ends }).map_err(state_error)
    }

    /// What the next stage, or the sink, has for good need not be kept in the topic in front of it.
    pub(super) fn purge(&mut self) {
        let committed = self.transactor.positions.committed();
        let passed = committed.filter(|(partition, _)| self.stages.is_own_topic(&partition.topic));
        // A sink may have gone back behind what is committed.
        let given = |(partition, next): (TopicPartition, i64)| {
            let place = self.outbox.as_ref().and_then(|outbox| outbox.place(&partition));
            (partition, place.map_or(next, |place| place.min(next)))
        };
        let passed = passed.map(given).filter(|at| !self.purged.contains(at)).collect::<Vec<_>>();
        match self.log.admin().delete_records(&passed, ASK) {
            Ok(()) => {
                self.purged.retain(|(old, _)| !passed.iter().any(|(new, _)| new == old));
                self.purged.extend(passed);
            }
            Err(error) => tracing::warn!("the connector's own topics keep what they need not: {error}"),
        }
    }
}
