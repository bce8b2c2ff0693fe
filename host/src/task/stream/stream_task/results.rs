//! The loop's side of an [`Outbox`]: results go there, and from there to the sink.

use std::collections::BTreeSet;

use tributary_sdk::Batch;

use super::super::outbox::{self, Outbox};
use super::{ASK, Done, Running, client_error};
use crate::log::{FetchedBatch, TopicPartition};
use crate::task::inbound::Inbound;

impl Running {
    /// Tells the connector of partitions of the outbox: where they are read from is for it to say.
    pub(super) fn open_outbox(&mut self, places: &mut [(TopicPartition, Option<i64>)]) -> Done {
        let (Some(sink), Some(outbox)) = (&mut self.sink, &mut self.outbox) else { return Ok(()) };
        let own = places.iter_mut().filter(|(partition, _)| self.stages.is_outbox(&partition.topic));
        let own = own.collect::<Vec<_>>();
        if own.is_empty() {
            return Ok(());
        }
        // What may fail and pass comes first: a connector is not told of a partition a second time before that was taken away.
        let (mut there, mut began) = (Vec::new(), Vec::new());
        for (partition, _) in &own {
            there.push(self.log.admin().watermarks(partition, ASK).map_err(client_error)?);
        }
        let labelled = |partition: &TopicPartition| outbox.labelled(partition);
        let known = own.iter().filter(|(partition, _)| outbox.place(partition).is_some());
        sink.close(&known.map(|(partition, _)| labelled(partition)).collect::<Vec<_>>())?;
        let wanted = sink.open_outbox(&own.iter().map(|(partition, _)| labelled(partition)).collect::<Vec<_>>())?;
        for (partition, place) in own {
            let begin = wanted.get(&partition.partition).copied().or(*place).unwrap_or_default();
            outbox.gave(partition, begin);
            *place = Some(begin);
            began.push((partition.clone(), begin));
        }
        for ((partition, begin), (first, mut end)) in began.into_iter().zip(there) {
            if begin > end {
                // Whoever had it before may have gone on meanwhile.
                end = self.log.admin().watermarks(&partition, ASK).map_err(client_error)?.1;
            }
            outbox.check(&partition, begin, (first, end))?;
        }
        Ok(())
    }

    /// Whether the outbox has lost nothing, for those that write to it from these partitions on. What is written where the group has read
    /// already would be passed over, and once there is enough of it, nobody could tell any more.
    pub(super) fn check_outbox(&mut self, partitions: &[TopicPartition]) -> Done {
        let (Some(outbox), Some(topic)) = (&self.outbox, self.stages.outbox()) else { return Ok(()) };
        let last = partitions.iter().filter(|partition| self.stages.stage(&partition.topic) == self.stages.last());
        let written = last.map(|partition| outbox.unlabelled(outbox::partition(topic, partition.partition)));
        let written = written.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        if written.is_empty() {
            return Ok(());
        }
        let committed = self.transactor.positions.consumer.committed(&written, ASK).map_err(client_error)?;
        for (partition, next) in committed.into_iter().filter_map(|(partition, next)| Some((partition, next?))) {
            let (_, end) = self.log.admin().watermarks(&partition, ASK).map_err(client_error)?;
            outbox.check_end(&partition, next, end)?;
        }
        Ok(())
    }

    /// A batch goes to the outbox, of a partition of the last stage.
    pub(super) fn post(&mut self, partition: &TopicPartition, batch: &Batch, from: Option<&Inbound>) -> Done {
        let Some(topic) = self.stages.outbox() else { return Ok(()) };
        let (part, refused) = outbox::write(topic, partition.partition, batch)?;
        self.refuse(batch, from, refused, "outbox")?;
        self.add(part);
        Ok(())
    }

    /// Records of the outbox go to the sink.
    pub(super) fn take_results(&mut self, fetched: FetchedBatch) -> Done {
        let batches = self.outbox.as_mut().map_or_else(|| Ok(Vec::new()), |outbox| outbox.read(&fetched))?;
        for batch in batches {
            // With the next records, the sink's own offset passes those that failed.
            self.commit_letters()?;
            let next = batch.place().and_then(|(_, offsets)| offsets.values().last().map(|last| last + 1));
            self.put(batch, None)?;
            if let (Some(outbox), Some(next)) = (&mut self.outbox, next) {
                outbox.gave(&fetched.topic_partition, next);
            }
        }
        self.drive()
    }

    /// What the sink has of the outbox becomes part of the open transaction, from time to time.
    pub(super) fn follow(&mut self) -> Done {
        let (Some(sink), Some(outbox)) = (&mut self.sink, &mut self.outbox) else { return Ok(()) };
        let positions = &mut self.transactor.positions;
        let offered = outbox.offered(&positions.all());
        if offered.is_empty() {
            return Ok(());
        }
        let asked = offered.iter().map(|(partition, next)| (outbox.labelled(partition), *next)).collect::<Vec<_>>();
        let safe = sink.safe(&asked)?;
        if asked.iter().all(|(partition, next)| safe.get(&partition.partition) == Some(next)) {
            sink.flushed = Some(sink.epoch);
        }
        for (partition, next) in safe {
            let partition = outbox.unlabelled(partition);
            // One that is there already would say nothing of the transaction.
            if positions.committed_at(&partition) != Some(next) {
                positions.advance(partition, next);
            }
        }
        Ok(())
    }

    /// Dead letters of what the sink was given are committed before it is asked for anything that makes its own offset pass those records:
    /// the next `put`, and `pre_commit`. So they are in a transaction that the sink's offsets are not in.
    pub(super) fn commit_letters(&mut self) -> Done {
        if self.owed.is_empty() {
            return Ok(());
        }
        self.commit_transaction(false)?;
        // The sink may hold its transaction open for this.
        self.outbox.iter_mut().for_each(Outbox::hurry);
        Ok(())
    }

    /// The same as [`Self::commit`], with the offsets of the outbox up to what the sink has.
    pub(super) fn commit_all(&mut self) -> Done {
        self.outbox.iter_mut().for_each(Outbox::hurry);
        self.commit()
    }
}
