//! The snapshot's mark in records that are made already.

use std::sync::Arc;

use tributary_sdk::arrow::array::{Array, ArrayRef, StringArray, StructArray};
use tributary_sdk::{Batch, Column};

/// Where the source is in an envelope, and the mark in a source.
const SOURCE: usize = 2;
const MARK: usize = 4;

/// The batch, with another mark in one of its rows.
pub(super) fn mark(mut batch: Batch, row: usize, text: &str) -> Batch {
    let field = batch.value.field().clone();
    let changed = batch.value.array().as_any().downcast_ref::<StructArray>().and_then(|envelope| {
        let source = envelope.column(SOURCE).as_any().downcast_ref::<StructArray>()?;
        let marks = source.column(MARK).as_any().downcast_ref::<StringArray>()?;
        let marks: StringArray =
            marks.iter().enumerate().map(|(at, old)| if at == row { Some(text) } else { old }).collect();
        let source = with(source, MARK, Arc::new(marks));
        Some(with(envelope, SOURCE, Arc::new(source)))
    });
    if let Some(envelope) = changed {
        batch.value = Column::new(field, Arc::new(envelope));
    }
    batch
}

fn with(whole: &StructArray, at: usize, column: ArrayRef) -> StructArray {
    let mut columns = whole.columns().to_vec();
    columns[at] = column;
    StructArray::new(whole.fields().clone(), columns, whole.nulls().cloned())
}
