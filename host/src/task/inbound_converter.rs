//! From fetched records to what a sink is given: header, key and value converters, then transforms.

use std::ops::Range;

use tributary_sdk::{Batch, Column, Error, Offsets};

use super::converters::Converters;
use super::error_policy::ErrorHandler;
use super::errors::{FailedRecord, Stage, TaskError};
use super::inbound::Inbound;
use crate::converter::{RowFailure, Run, ToConnect};
use crate::log::FetchedBatch;
use crate::transform::TransformChain;

/// Converts for one sink task.
pub struct InboundConverter {
    /// The converters.
    pub converters: Converters,
    /// The transforms.
    pub chain: TransformChain,
}

impl InboundConverter {
    /// Converts and transforms one run of fetched records. Records that fail are named in the answer, each once, by the first
    /// stage that refused it, and are in none of its batches. Answers `None` when the task has to stop instead.
    pub fn convert(&mut self, fetched: FetchedBatch, errors: &ErrorHandler) -> Result<Option<Inbound>, TaskError> {
        let (topic, records) = (&fetched.topic_partition.topic, &fetched.records);
        let mut failures = Vec::new();
        let mut note = |stage, class: &str, failed: Vec<RowFailure>| {
            let record = |RowFailure { row, message }| FailedRecord::data(row, stage, class, message);
            failures.extend(failed.into_iter().map(record));
        };
        let Converters { key, value, .. } = &mut self.converters;
        // In Connect's order: a record that fails twice is reported by the first.
        let keys = match &records.keys {
            None => None,
            Some(keys) => {
                let Some(converted) = errors.retried("the key converter", || key.to_connect(topic, keys)) else {
                    return Ok(None);
                };
                note(Stage::KeyConverter, &key.class, converted.failures);
                Some(converted.runs)
            }
        };
        let converted = errors.retried("the value converter", || value.to_connect(topic, &records.values));
        let Some(ToConnect { runs: values, failures: failed }) = converted else { return Ok(None) };
        note(Stage::ValueConverter, &value.class, failed);
        self.converters.check_away(&failures)?;
        let header = &mut self.converters.header;
        let mut note = |stage, class: &str, failed: Vec<RowFailure>| {
            let record = |RowFailure { row, message }| FailedRecord::data(row, stage, class, message);
            failures.extend(failed.into_iter().map(record));
        };
        let mut without_headers = Vec::new();
        let headers = records.headers.as_ref().map(|headers| {
            let converted = header.converter.to_connect(topic, headers);
            without_headers.extend(converted.failures.iter().map(|failure| failure.row));
            note(Stage::HeaderConverter, &header.class, converted.failures);
            converted.headers
        });

        let whole = Batch {
            topic: topic.clone(),
            source_partition: None,
            partition: Some(fetched.topic_partition.partition),
            key: None,
            value: Column::bytes(records.values.clone()),
            headers,
            timestamps: records.timestamps.clone(),
            partitions: None,
            offsets: Offsets::Sink(fetched.offsets.clone()),
            origin: None,
        };
        let mut batches = Vec::new();
        let mut filtered = 0;
        let key_rows = keys.as_ref().map(|runs| runs.iter().map(|run| run.rows.clone()).collect::<Vec<_>>());
        let value_rows = values.iter().map(|run| run.rows.clone()).collect::<Vec<_>>();
        let good = leave_out(overlaps(key_rows.as_deref(), &value_rows), &without_headers);
        for (rows, key_run, value_run) in good {
            let part = |run: &Run| run.column.slice(rows.start - run.rows.start, rows.len());
            let mut batch = whole.slice(rows.start, rows.len());
            batch.key = key_run.and_then(|run| keys.as_ref().map(|runs| part(&runs[run])));
            batch.value = part(&values[value_run]);
            let applied = match self.chain.apply(batch) {
                Err(Error::Retriable(_)) if errors.control.stopping() => return Ok(None),
                applied => applied.map_err(|error| TaskError::of_call("a transform", error))?,
            };
            filtered += applied.dropped;
            errors.control.counters.late(applied.late);
            let record = |failure: crate::transform::ChainFailure| {
                let row = rows.start + failure.row;
                FailedRecord::data(row, Stage::Transformation, &failure.class, failure.message)
            };
            failures.extend(applied.failures.into_iter().map(record));
            batches.extend(applied.batches);
        }
        errors.control.counters.filtered(filtered);
        failures.sort_by_key(|failure| failure.row);
        failures.dedup_by_key(|failure| failure.row);
        let next_offset = fetched.offsets.value(fetched.offsets.len() - 1) + 1;
        Ok(Some(Inbound { partition: fetched.topic_partition.clone(), next_offset, batches, failures, fetched }))
    }
}

/// The same stretches of rows without these rows (increasing).
fn leave_out<R: Copy, S: Copy>(stretches: Vec<(Range<usize>, R, S)>, rows: &[usize]) -> Vec<(Range<usize>, R, S)> {
    if rows.is_empty() {
        return stretches;
    }
    let mut left = Vec::with_capacity(stretches.len() + rows.len());
    for (stretch, r, s) in stretches {
        let mut from = stretch.start;
        let within = rows.partition_point(|&row| row < stretch.start)..rows.partition_point(|&row| row < stretch.end);
        for to in rows[within].iter().copied().chain([stretch.end]) {
            if from < to {
                left.push((from..to, r, s));
            }
            from = to + 1;
        }
    }
    left
}

/// The rows that lie in a key run and in a value run, with the runs' numbers.
fn overlaps(keys: Option<&[Range<usize>]>, values: &[Range<usize>]) -> Vec<(Range<usize>, Option<usize>, usize)> {
    let Some(keys) = keys else {
        return values.iter().cloned().enumerate().map(|(run, rows)| (rows, None, run)).collect();
    };
    let mut overlaps = Vec::with_capacity(keys.len().max(values.len()));
    let (mut key, mut value) = (0, 0);
    while key < keys.len() && value < values.len() {
        let rows = keys[key].start.max(values[value].start)..keys[key].end.min(values[value].end);
        if !rows.is_empty() {
            overlaps.push((rows, Some(key), value));
        }
        if keys[key].end <= values[value].end {
            key += 1;
        } else {
            value += 1;
        }
    }
    overlaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_failed_on_either_side_are_in_no_overlap() {
        // Row 2 has no key, row 5 no value.
        let (keys, values) = ([0..2, 3..8], [0..4, 4..5, 6..8]);
        let expected = vec![(0..2, Some(0), 0), (3..4, Some(1), 0), (4..5, Some(1), 1), (6..8, Some(1), 2)];
        assert_eq!(overlaps(Some(&keys), &values), expected);
        assert_eq!(overlaps(None, &values), vec![(0..4, None, 0), (4..5, None, 1), (6..8, None, 2)]);
    }

    #[test]
    fn rows_whose_headers_failed_are_left_out() {
        let stretches = vec![(0..4, 'a', 0), (4..5, 'b', 1), (6..9, 'c', 2)];
        assert_eq!(leave_out(stretches.clone(), &[]), stretches);
        let expected = vec![(1..3, 'a', 0), (6..7, 'c', 2), (8..9, 'c', 2)];
        assert_eq!(leave_out(stretches, &[0, 3, 4, 7]), expected);
    }
}
