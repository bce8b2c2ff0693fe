//! From polled batches to what is produced: transforms, then header, key and value converters.

use arrow_array::{Array, StringArray};
use tributary_sdk::{Batch, Error};

use super::converters::Converters;
use super::delivery::{Letters, Outbound, Part};
use super::error_policy::ErrorHandler;
use super::errors::{FailedRecord, Stage, TaskError};
use super::polled::{Polled, source_offsets};
use super::rows;
use crate::converter::RowFailure;
use crate::log::LogRecords;
use crate::transform::{Applied, TransformChain};

/// Converts for one source task.
pub struct OutboundConverter {
    /// The converters.
    pub converters: Converters,
    /// The transforms.
    pub chain: TransformChain,
    /// Whether failed records are kept as dead letters.
    pub dead_letters: bool,
}

/// A batch's place in the task's sequence.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    /// Grows from batch to batch.
    pub token: u64,
    /// Grows from poll to poll.
    pub epoch: u64,
}

impl OutboundConverter {
    /// Transforms and converts one batch. Records that fail are left out if the policy tolerates it, and go with the answer as
    /// dead letters where they are kept. Answers `None` when the task has to stop instead.
    pub fn convert(
        &mut self,
        batch: Batch,
        sequence: Sequence,
        errors: &ErrorHandler,
    ) -> Result<Option<Outbound>, TaskError> {
        let source_partition = batch.source_partition.clone();
        let resume_point = batch.resume_point().map(Into::into);
        let last = source_offsets(&batch).map(|offsets| !offsets.is_empty() && offsets.is_valid(offsets.len() - 1));
        let resumable = source_partition.is_none() || last == Some(true);
        // Only needed if something fails; the columns are shared, not copied.
        let polled = Polled(batch.clone());
        let applied = match self.chain.apply(batch) {
            Err(Error::Retriable(_)) if errors.control.stopping() => return Ok(None),
            applied => applied.map_err(|error| TaskError::of_call("a transform", error))?,
        };
        errors.control.counters.filtered(applied.dropped);
        errors.control.counters.late(applied.late);
        let mut failed = applied
            .failures
            .into_iter()
            .map(|failure| FailedRecord::data(failure.row, Stage::Transformation, &failure.class, failure.message))
            .collect::<Vec<_>>();
        let mut parts = Vec::with_capacity(applied.batches.len());
        for (number, batch) in applied.batches.into_iter().enumerate() {
            let topic = batch.topic.clone();
            if topic.is_empty() {
                return Err(TaskError::new(
                    "the connector emitted a batch without a topic; this is a bug of the connector",
                ));
            }
            let mut offsets = source_offsets(&batch).cloned();
            let Some((mut records, failures)) = self.serialize(batch, errors) else { return Ok(None) };
            self.converters.check_away(&failures)?;
            if !failures.is_empty() {
                let failed_rows = failures.iter().map(|failed| failed.row).collect::<Vec<_>>();
                let left = rows::others(records.len(), &failed_rows);
                records = rows::take_records(&records, &left).map_err(|error| TaskError::new(error.to_string()))?;
                let kept = |offsets: StringArray| {
                    left.iter().map(|&row| offsets.is_valid(row).then(|| offsets.value(row).to_owned())).collect()
                };
                offsets = offsets.map(kept);
                let of_polled = applied.rows.get(number);
                failed.extend(failures.into_iter().map(|failure| FailedRecord {
                    row: of_polled.and_then(|rows| rows.get(failure.row)).map_or(failure.row, |&row| row as usize),
                    ..failure
                }));
            }
            if !records.is_empty() {
                parts.push(Part { topic, source_partition: source_partition.clone(), records, offsets });
            }
        }
        let letters = self.dispose(failed, &polled, errors)?;
        Ok(Some(Outbound {
            token: sequence.token,
            epoch: sequence.epoch,
            source_partition,
            resume_point,
            parts,
            letters,
            resumable,
            ends: None,
            state: None,
            settled: None,
        }))
    }

    /// Converts what stateful transforms emit without a record: each batch by itself. Answers `None` when the task has to stop.
    pub fn emitted(
        &mut self,
        applied: Applied,
        sequence: Sequence,
        errors: &ErrorHandler,
    ) -> Result<Option<Vec<Outbound>>, TaskError> {
        errors.control.counters.filtered(applied.dropped);
        errors.control.counters.late(applied.late);
        if let Some(failure) = applied.failures.first() {
            let (alias, message) = (&failure.alias, &failure.message);
            let message = format!("a result of the stateful transforms failed in the transform {alias}: {message}");
            if !errors.policy.tolerate {
                return Err(TaskError::new(message));
            }
            tracing::warn!("{} results were skipped: {message}", applied.failures.len());
            errors.control.counters.failed(applied.failures.len());
        }
        let mut all = Vec::with_capacity(applied.batches.len());
        for batch in applied.batches {
            let (topic, polled) = (batch.topic.clone(), Polled(batch.clone()));
            let Some((mut records, failed)) = self.serialize(batch, errors) else { return Ok(None) };
            self.converters.check_away(&failed)?;
            if !failed.is_empty() {
                let failed_rows = failed.iter().map(|failed| failed.row).collect::<Vec<_>>();
                let left = rows::others(records.len(), &failed_rows);
                records = rows::take_records(&records, &left).map_err(|error| TaskError::new(error.to_string()))?;
            }
            let letters = self.dispose(failed, &polled, errors)?;
            let parts = if records.is_empty() {
                Vec::new()
            } else {
                vec![Part { topic, source_partition: None, records, offsets: None }]
            };
            all.push(Outbound {
                token: sequence.token,
                epoch: sequence.epoch,
                source_partition: None,
                resume_point: None,
                parts,
                letters,
                resumable: true,
                ends: None,
                state: None,
                settled: None,
            });
        }
        Ok(Some(all))
    }

    /// Judges failed records, and makes dead letters of those that are tolerated.
    fn dispose(
        &self,
        mut failed: Vec<FailedRecord>,
        polled: &Polled,
        errors: &ErrorHandler,
    ) -> Result<Option<Box<Letters>>, TaskError> {
        if failed.is_empty() {
            return Ok(None);
        }
        failed.sort_by_key(|record| record.row);
        failed.dedup_by_key(|record| record.row);
        errors.judge(&failed, polled)?;
        if !self.dead_letters {
            return Ok(None);
        }
        let rows = failed.iter().map(|record| record.row).collect::<Vec<_>>();
        let contexts = rows.iter().map(|&row| polled.context(row)).collect();
        Ok(Some(Box::new(Letters { records: polled.records(&rows)?, failed, contexts })))
    }

    /// Answers `None` when the task has to stop.
    fn serialize(&mut self, batch: Batch, errors: &ErrorHandler) -> Option<(LogRecords, Vec<FailedRecord>)> {
        let mut failures = Vec::new();
        let mut note = |stage, class: &str, failed: Vec<RowFailure>| {
            let record = |RowFailure { row, message }| FailedRecord::data(row, stage, class, message);
            failures.extend(failed.into_iter().map(record));
        };
        let Converters { key, value, header } = &mut self.converters;
        let headers = batch.headers.as_ref().map(|headers| {
            let converted = header.converter.from_connect(&batch.topic, headers);
            note(Stage::HeaderConverter, &header.class, converted.failures);
            converted.headers
        });
        let keys = match &batch.key {
            None => None,
            Some(keys) => {
                let converted = errors.retried("the key converter", || key.from_connect(&batch.topic, keys))?;
                note(Stage::KeyConverter, &key.class, converted.failures);
                Some(converted.data)
            }
        };
        let converted = errors.retried("the value converter", || value.from_connect(&batch.topic, &batch.value))?;
        note(Stage::ValueConverter, &value.class, converted.failures);
        let records = LogRecords {
            keys,
            values: converted.data,
            headers,
            timestamps: batch.timestamps,
            partitions: batch.partitions,
        };
        failures.sort_by_key(|failed| failed.row);
        failures.dedup_by_key(|failed| failed.row);
        Some((records, failures))
    }
}
