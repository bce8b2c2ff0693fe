//! Batches as plain values, for assertions.

use tributary_sdk::arrow::array::Array;
use tributary_sdk::{Batch, Column};

/// The values of the batches as text, one a record, in order. Tombstones are `null`; what is not text, JSON or bytes is
/// shown as Arrow prints it.
pub fn values(batches: &[Batch]) -> Vec<String> {
    batches.iter().flat_map(|batch| (0..batch.len()).map(|row| cell(&batch.value, row))).collect()
}

/// The keys of the batches as text, one a record; `null` where there is none.
pub fn keys(batches: &[Batch]) -> Vec<String> {
    let key = |batch: &Batch, row| batch.key.as_ref().map_or_else(|| "null".into(), |key| cell(key, row));
    batches.iter().flat_map(|batch| (0..batch.len()).map(move |row| key(batch, row))).collect()
}

/// One value as text.
pub fn cell(column: &Column, row: usize) -> String {
    if column.array().is_null(row) {
        return "null".into();
    }
    if let Some(text) = column.as_text() {
        return text.value(row).to_owned();
    }
    if let Some(bytes) = column.as_bytes() {
        return String::from_utf8_lossy(bytes.value(row)).into_owned();
    }
    format!("{:?}", column.array().slice(row, 1))
}

/// A batch of texts, for sinks.
pub fn text_batch(topic: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Batch {
    let values: Vec<String> = values.into_iter().map(Into::into).collect();
    Batch::new(topic, Column::text(values.into()))
}
