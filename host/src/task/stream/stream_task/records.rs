//! The way of records through the task: from the input through the stages to the connector or the log.

use std::sync::Arc;
use std::time::Instant;

use tributary_sdk::Batch;
use tributary_sdk::sink::RecordFailure;

use super::super::Trouble;
use super::failed::{letters, made_letters};
use super::{Done, Running, chain_error, part};
use crate::log::{FetchedBatch, TopicPartition};
use crate::state::Shard;
use crate::task::control::now_ms;
use crate::task::delivery::Part;
use crate::task::errors::{FailedRecord, Stage, TaskError};
use crate::task::inbound::Inbound;
use crate::task::outbound_converter::Sequence;
use crate::task::polled::Polled;
use crate::task::transaction::Piece;
use crate::transform::Applied;
use crate::transform::stateful::passed::Passed;

impl Running {
    pub(super) fn take(&mut self, fetched: FetchedBatch) -> Done {
        if !self.assigned.contains(&fetched.topic_partition) {
            // Read before the partition was given up.
            return Ok(());
        }
        if self.stages.is_outbox(&fetched.topic_partition.topic) {
            return self.take_results(fetched);
        }
        if self.transactor.positions.is_clean() {
            self.opened = Instant::now();
        }
        self.records += fetched.records.len();
        let stage = self.stages.stage(&fetched.topic_partition.topic);
        if stage > 0 {
            return self.take_passed(stage, fetched);
        }
        self.repartition.hear(&self.stages, &fetched.topic_partition, now_ms());
        self.topics.used(&fetched.topic_partition.topic);
        self.control.counters.came_in(fetched.records.len(), fetched.records.bytes());
        let converted = self.inbound.convert(fetched, &self.errors)?;
        let mut inbound = converted.ok_or(Trouble::Stopped)?;
        self.dispose(&inbound.failures, &inbound, &inbound.fetched.records)?;
        let partition = inbound.partition.clone();
        for batch in std::mem::take(&mut inbound.batches) {
            self.write(stage, &partition, batch, Some(&inbound))?;
        }
        self.transactor.positions.advance(partition, inbound.next_offset);
        self.seal_early()?;
        self.drive()
    }

    /// Records of a repartition topic go through the stage behind it.
    fn take_passed(&mut self, stage: usize, fetched: FetchedBatch) -> Done {
        let partition = fetched.topic_partition.clone();
        let Some(shard) = self.stages.shard(&partition) else {
            return Err(TaskError::new(
                "a stage behind a repartition topic keeps no state; this is a bug of the worker",
            )
            .into());
        };
        let cut = &self.stages.cuts()[stage - 1];
        let next = fetched.offsets.values().last().map_or(0, |last| last + 1);
        for passed in self.repartition.read(cut, shard, &fetched)? {
            match passed {
                Passed::Records { upstream, batches } => {
                    self.repartition.hear(&self.stages, &partition, now_ms());
                    for batch in batches {
                        let polled = Polled(batch.clone());
                        let applied = match self.inbound.chain.apply_in(stage, batch, Some(&upstream)) {
                            Err(tributary_sdk::Error::Retriable(_)) if self.control.stopping() => {
                                return Err(Trouble::Stopped);
                            }
                            applied => applied.map_err(chain_error)?,
                        };
                        self.control.counters.filtered(applied.dropped);
                        self.control.counters.late(applied.late);
                        let failed = applied.failures.into_iter().map(|failure| {
                            FailedRecord::data(failure.row, Stage::Transformation, &failure.class, failure.message)
                        });
                        self.dispose_made(&failed.collect::<Vec<_>>(), &polled)?;
                        for batch in applied.batches {
                            self.write(stage, &partition, batch, None)?;
                        }
                    }
                }
                Passed::News(news) => {
                    let applied = self.inbound.chain.hear(stage, shard, &news).map_err(chain_error)?;
                    self.emit(applied, shard)?;
                }
            }
        }
        self.transactor.positions.advance(partition, next);
        self.seal_early()?;
        self.drive()
    }

    /// A batch goes to the next stage, by the keys of its records.
    fn pass(&mut self, stage: usize, partition: &TopicPartition, batch: &Batch, from: Option<&Inbound>) -> Done {
        let places = self.inbound.chain.places(stage, batch);
        let cut = &self.stages.cuts()[stage];
        let origin = self.stages.origin(stage, partition);
        let crossing = self.repartition.cross(cut, (stage, origin), batch, &places, now_ms())?;
        self.control.counters.filtered(crossing.dropped);
        let class = cut.cut.class.clone();
        self.refuse(batch, from, crossing.refused, &class)?;
        self.add(crossing.part);
        Ok(())
    }

    /// What is new of the partitions that are read goes to the shards of the next stages.
    pub(super) fn tell(&mut self) -> Done {
        // The group checks with their positions that they are this member's: all of which something is told have one.
        let new = self.started.iter().filter(|partition| self.is_earlier(partition));
        let new = new.filter(|partition| !self.transactor.positions.has(partition)).cloned().collect::<Vec<_>>();
        for partition in new {
            let first = match self.first_read(&partition) {
                // Nothing is told until it is known.
                Err(Trouble::Again(reason) | Trouble::Away(reason)) => {
                    tracing::warn!(
                        "what is known of partitions in front of repartition topics is told later: {reason}"
                    );
                    return Ok(());
                }
                first => first?,
            };
            if self.transactor.positions.is_clean() {
                self.opened = Instant::now();
            }
            self.transactor.positions.advance(partition, first);
        }
        let held = self.held();
        for part in self.repartition.news(&self.stages, now_ms(), &held) {
            if self.transactor.positions.is_clean() {
                self.opened = Instant::now();
            }
            self.add(part);
        }
        Ok(())
    }

    /// Writes what stateful transforms emit without a record, of a shard.
    pub(super) fn emit(&mut self, applied: Applied, shard: Shard) -> Done {
        self.control.counters.filtered(applied.dropped);
        self.control.counters.late(applied.late);
        if let Some(failure) = applied.failures.first() {
            let (alias, message) = (&failure.alias, &failure.message);
            let message = format!("a result of the stateful transforms failed in the transform {alias}: {message}");
            if !self.errors.policy.tolerate {
                return Err(TaskError::new(message).into());
            }
            tracing::warn!("{} results were skipped: {message}", applied.failures.len());
            self.control.counters.failed(applied.failures.len());
        }
        for batch in applied.batches {
            if self.transactor.positions.is_clean() {
                self.opened = Instant::now();
            }
            let (stage, partition) = self.stages.of_shard(shard);
            let partition = self.stages.first_of(stage, partition);
            self.write(stage, &partition, batch, None)?;
        }
        Ok(())
    }

    /// Writes what leaves a stage, of the records of a partition.
    pub(super) fn write(
        &mut self,
        stage: usize,
        partition: &TopicPartition,
        mut batch: Batch,
        from: Option<&Inbound>,
    ) -> Done {
        let late = self.settings.late_topics.iter().any(|topic| **topic == *batch.topic);
        if !late && stage < self.stages.last() {
            return self.pass(stage, partition, &batch, from);
        }
        if stage > 0 {
            // In the chain it was the shard's number.
            batch.partition = Some(partition.partition);
        }
        match &self.sink {
            Some(_) if !late && self.outbox.is_some() => self.post(partition, &batch, from),
            Some(_) if !late => self.put(batch, from),
            _ => self.produce(batch, from),
        }
    }

    /// Gives a batch to the plugin.
    pub(super) fn put(&mut self, batch: Batch, from: Option<&Inbound>) -> Done {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let (errors, head) = (&self.errors, self.dead_letters.as_ref());
        let mut kept = Vec::new();
        // Results are made of several records, or of none: what is kept of them is what they are.
        let made = !matches!(batch.offsets, tributary_sdk::Offsets::Sink(_));
        let mut dispose = |batch: &Batch, failures: Vec<RecordFailure>| {
            if failures.is_empty() {
                return Ok(true);
            }
            match from.filter(|_| !made) {
                Some(inbound) => {
                    let failed = inbound.refused(batch, failures);
                    errors.judge(&failed, inbound)?;
                    if let Some(head) = head {
                        let records = &inbound.fetched.records;
                        kept.push(letters(head, &failed, records, |row| inbound.context(row))?);
                    }
                }
                None => {
                    let polled = Polled(batch.clone());
                    let failed = failures
                        .into_iter()
                        .map(|failure| FailedRecord::put(failure.row, failure.retriable, failure.message));
                    let failed = failed.collect::<Vec<_>>();
                    errors.judge(&failed, &polled)?;
                    if let Some(head) = head {
                        kept.push(made_letters(head, &failed, &polled)?);
                    }
                }
            }
            Ok(true)
        };
        let put = sink.put(batch, errors, &mut dispose)?;
        if self.outbox.is_none() {
            self.transactor.positions.touch();
        }
        match self.outbox {
            Some(_) => self.owed.extend(kept),
            None => kept.into_iter().for_each(|letters| self.add(letters)),
        }
        if put { Ok(()) } else { Err(Trouble::Stopped) }
    }

    /// Converts and sends. Nothing is written to the topic that it comes from; in another cluster, one of the same name is another one.
    pub(super) fn produce(&mut self, mut batch: Batch, from: Option<&Inbound>) -> Done {
        let is_input = |topic: &Arc<str>| {
            self.stages.is_input(topic)
                || from.is_some_and(|from| from.partition.topic == *topic)
                || self.assigned.iter().any(|partition| partition.topic == *topic)
        };
        if is_input(&batch.topic) {
            match &self.settings.topic {
                Some(topic) => batch.topic = topic.clone(),
                None if self.across => {}
                None => {
                    return Err(TaskError::new(format!(
                        "a record of {} would be written to the topic that it comes from: set topic, or let a transform give it another one",
                        batch.topic
                    ))
                    .into());
                }
            }
        }
        let sequence = Sequence { token: 0, epoch: 0 };
        let outbound = self.outbound.convert(batch, sequence, &self.errors)?.ok_or(Trouble::Stopped)?;
        if let (Some(failed), Some(head)) = (outbound.letters, &self.dead_letters) {
            let reasons = failed.failed.iter().collect::<Vec<_>>();
            let records = head.letters(failed.records, &reasons, |row| failed.contexts[row].clone());
            let letters = part(&head.topic, records);
            self.add(letters);
        }
        for part in outbound.parts {
            self.topics.used(&part.topic);
            self.add(part);
        }
        Ok(())
    }

    /// Makes records part of the open transaction.
    pub(super) fn add(&mut self, part: Part) {
        if part.records.is_empty() {
            return;
        }
        self.bytes += part.records.bytes();
        self.transactor.positions.touch();
        match self.sink {
            Some(_) => self.waiting.push(part),
            None => self.transactor.add(Piece::of([part])),
        }
    }
}
