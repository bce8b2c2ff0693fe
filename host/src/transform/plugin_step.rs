//! A plugin's transform in the chain.
//!
//! It takes batches and emits any number. Which input row an emitted record comes from is found by its offset, which it keeps;
//! where offsets do not tell (sources may give only some rows one), by its place.

use std::collections::HashMap;

use arrow_array::Array;
use tributary_sdk::{Batch, Failures, Offsets, Result};

use super::merge::Merged;
use crate::plugin::TransformHandle;

/// Calls the plugin with one batch. `rows` are the batch's rows in the chain's input; failures are by those, too.
pub fn apply(
    handle: &mut dyn TransformHandle,
    Merged { batch, rows }: Merged,
    output: &mut Vec<Merged>,
    refused: &mut Vec<(u32, String)>,
) -> Result<usize> {
    let mut failures = Failures::default();
    let mut emitted = Vec::new();
    let origins = Origins::of(&batch, &rows);
    handle.apply(batch, &mut emitted, &mut failures)?;
    let failed = failures.records().len();
    for failure in failures.records() {
        let row = rows.get(failure.row).or(rows.last()).copied().unwrap_or_default();
        refused.push((row, failure.message.clone()));
    }
    let mut place = 0;
    let mut passed = std::collections::HashSet::new();
    for batch in emitted.into_iter().filter(|batch| !batch.is_empty()) {
        let from: Vec<u32> = (0..batch.len()).map(|row| origins.find(&batch, row, &mut place, &rows)).collect();
        passed.extend(from.iter().copied());
        output.push(Merged { batch, rows: from });
    }
    Ok(rows.len().saturating_sub(failed + passed.len()))
}

/// Places in the plugin's input by offset.
enum Origins {
    Sink(HashMap<i64, usize>),
    Source(HashMap<String, usize>),
    Unknown,
}

impl Origins {
    fn of(batch: &Batch, _rows: &[u32]) -> Self {
        match &batch.offsets {
            Offsets::None => Self::Unknown,
            Offsets::Sink(offsets) => Self::Sink(offsets.values().iter().enumerate().map(|(i, &o)| (o, i)).collect()),
            Offsets::Source(offsets) => {
                let known = (0..offsets.len()).filter(|&i| offsets.is_valid(i));
                Self::Source(known.map(|i| (offsets.value(i).to_owned(), i)).collect())
            }
        }
    }

    fn find(&self, batch: &Batch, row: usize, place: &mut usize, rows: &[u32]) -> u32 {
        let known = match (self, &batch.offsets) {
            (Self::Sink(known), Offsets::Sink(offsets)) => known.get(&offsets.value(row)).copied(),
            (Self::Source(known), Offsets::Source(offsets)) if offsets.is_valid(row) => {
                known.get(offsets.value(row)).copied()
            }
            _ => None,
        };
        let at = known.unwrap_or(*place).min(rows.len().saturating_sub(1));
        *place = at + 1;
        rows.get(at).copied().unwrap_or_default()
    }
}
