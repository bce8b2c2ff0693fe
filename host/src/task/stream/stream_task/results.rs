//! The loop's side of an [`Outbox`]: results go there, and from there to the sink.

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
        let labelled = own.iter().map(|(partition, _)| outbox.labelled(partition)).collect::<Vec<_>>();
        let wanted = sink.open_outbox(&labelled)?;
        for (partition, place) in own {
            let begin = wanted.get(&partition.partition).copied().or(*place).unwrap_or_default();
            let there = self.log.admin().watermarks(partition, ASK).map_err(client_error)?;
            outbox.check(partition, begin, there)?;
            outbox.gave(partition, begin);
            *place = Some(begin);
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
            if !self.owed.is_empty() {
                self.commit()?;
            }
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
        safe.into_iter().for_each(|(partition, next)| positions.advance(outbox.unlabelled(partition), next));
        Ok(())
    }

    /// The same as [`Self::commit`], with the offsets of the outbox up to what the sink has.
    pub(super) fn commit_all(&mut self) -> Done {
        self.outbox.iter_mut().for_each(Outbox::hurry);
        self.commit()
    }
}
