//! From polled batches to what is produced: transforms, then header, key and value converters.

use std::sync::Arc;

use tributary_sdk::Batch;

use super::control::Counters;
use super::converters::Converters;
use super::delivery::Outbound;
use super::errors::{ErrorPolicy, FailedRecord, Stage, TaskError};
use super::rows;
use crate::converter::RowFailure;
use crate::log::LogRecords;
use crate::transform::TransformChain;

/// Converts for one source task.
pub struct OutboundConverter {
    /// The converters.
    pub converters: Converters,
    /// The transforms.
    pub chain: TransformChain,
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
    /// Transforms and converts one batch. Records that fail are left out if the policy tolerates it.
    pub fn convert(
        &mut self,
        batch: Batch,
        sequence: Sequence,
        errors: &ErrorPolicy,
        counters: &Counters,
    ) -> Result<Outbound, TaskError> {
        let source_partition = batch.source_partition.clone();
        let resume_point = batch.resume_point().map(Into::into);
        let place = source_partition.as_deref().unwrap_or("{}").to_owned();
        let judge = |failures: Vec<FailedRecord>| {
            counters.failed(failures.len());
            failures
                .iter()
                .try_for_each(|failed| errors.judge(failed, &format!("row {} of a batch of {place}", failed.row)))
        };
        let applied = self.chain.apply(batch).map_err(|error| TaskError::of_call("a transform", error))?;
        counters.filtered(applied.dropped);
        let transformed = |failure: crate::transform::ChainFailure| FailedRecord {
            row: failure.row,
            stage: Stage::Transformation,
            class: failure.class,
            message: failure.message,
        };
        judge(applied.failures.into_iter().map(transformed).collect())?;
        let mut records: Vec<(Arc<str>, LogRecords)> = Vec::with_capacity(applied.batches.len());
        for batch in applied.batches {
            let topic = batch.topic.clone();
            if topic.is_empty() {
                return Err(TaskError::new(
                    "the connector emitted a batch without a topic; this is a bug of the connector",
                ));
            }
            let (serialized, failures) = self.serialize(batch);
            let failed_rows = failures.iter().map(|failed| failed.row).collect::<Vec<_>>();
            judge(failures)?;
            let serialized = if failed_rows.is_empty() {
                serialized
            } else {
                rows::take_records(&serialized, &rows::others(serialized.len(), &failed_rows))
                    .map_err(|error| TaskError::new(error.to_string()))?
            };
            if !serialized.is_empty() {
                records.push((topic, serialized));
            }
        }
        Ok(Outbound { token: sequence.token, epoch: sequence.epoch, source_partition, resume_point, records })
    }

    fn serialize(&mut self, batch: Batch) -> (LogRecords, Vec<FailedRecord>) {
        let mut failures = Vec::new();
        let mut note = |stage, class: &str, failed: Vec<RowFailure>| {
            let record = |RowFailure { row, message }| FailedRecord { row, stage, class: class.to_owned(), message };
            failures.extend(failed.into_iter().map(record));
        };
        let Converters { key, value, header } = &mut self.converters;
        let headers = batch.headers.as_ref().map(|headers| {
            let converted = header.converter.from_connect(&batch.topic, headers);
            note(Stage::HeaderConverter, &header.class, converted.failures);
            converted.headers
        });
        let keys = batch.key.as_ref().map(|keys| {
            let converted = key.converter.from_connect(&batch.topic, keys);
            note(Stage::KeyConverter, &key.class, converted.failures);
            converted.data
        });
        let converted = value.converter.from_connect(&batch.topic, &batch.value);
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
        (records, failures)
    }
}
