//! Picking rows out of batches.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take as take_array;
use tributary_sdk::{Batch, Column, Offsets, Origin};

use crate::log::LogRecords;

/// All rows below `len` but these (increasing).
pub fn others(len: usize, except: &[usize]) -> Vec<usize> {
    (0..len).filter(|row| except.binary_search(row).is_err()).collect()
}

fn indices(rows: &[usize]) -> UInt32Array {
    rows.iter().map(|&row| u32::try_from(row).expect("a batch has fewer than 2^32 rows")).collect::<Vec<_>>().into()
}

/// These rows of a batch, in this order.
pub fn take(batch: &Batch, rows: &[usize]) -> Result<Batch, ArrowError> {
    let indices = indices(rows);
    let pick = |array: &dyn Array| take_array(array, &indices, None);
    let column = |column: &Column| Ok::<_, ArrowError>(Column::new(column.field().clone(), pick(column.array())?));
    Ok(Batch {
        topic: batch.topic.clone(),
        source_partition: batch.source_partition.clone(),
        partition: batch.partition,
        key: batch.key.as_ref().map(column).transpose()?,
        value: column(&batch.value)?,
        headers: batch.headers.as_ref().map(|headers| pick(headers)).transpose()?.map(|a| a.as_list().clone()),
        timestamps: batch
            .timestamps
            .as_ref()
            .map(|a| pick(a))
            .transpose()?
            .map(|a| a.as_primitive::<Int64Type>().clone()),
        partitions: batch
            .partitions
            .as_ref()
            .map(|a| pick(a))
            .transpose()?
            .map(|a| a.as_primitive::<Int32Type>().clone()),
        offsets: match &batch.offsets {
            Offsets::None => Offsets::None,
            Offsets::Source(offsets) => Offsets::Source(pick(offsets)?.as_string().clone()),
            Offsets::Sink(offsets) => Offsets::Sink(pick(offsets)?.as_primitive::<Int64Type>().clone()),
        },
        origin: match &batch.origin {
            None => None,
            Some(Origin { topic, partition, offsets }) => Some(Origin {
                topic: topic.clone(),
                partition: *partition,
                offsets: pick(offsets)?.as_primitive::<Int64Type>().clone(),
            }),
        },
    })
}

/// These rows of serialized records, in this order.
pub fn take_records(records: &LogRecords, rows: &[usize]) -> Result<LogRecords, ArrowError> {
    let indices = indices(rows);
    let pick = |array: &dyn Array| -> Result<ArrayRef, ArrowError> { take_array(array, &indices, None) };
    Ok(LogRecords {
        keys: records.keys.as_ref().map(|a| pick(a)).transpose()?.map(|a| a.as_binary().clone()),
        values: pick(&records.values)?.as_binary().clone(),
        headers: records.headers.as_ref().map(|a| pick(a)).transpose()?.map(|a| a.as_list().clone()),
        timestamps: records
            .timestamps
            .as_ref()
            .map(|a| pick(a))
            .transpose()?
            .map(|a| a.as_primitive::<Int64Type>().clone()),
        partitions: records
            .partitions
            .as_ref()
            .map(|a| pick(a))
            .transpose()?
            .map(|a| a.as_primitive::<Int32Type>().clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringArray};

    #[test]
    fn takes_every_column() {
        let mut batch = Batch::new("t", Column::text(StringArray::from(vec!["a", "b", "c"])));
        batch.timestamps = Some(Int64Array::from(vec![1, 2, 3]));
        batch.offsets = Offsets::Sink(Int64Array::from(vec![7, 8, 9]));
        let taken = take(&batch, &others(3, &[1])).unwrap();
        assert_eq!(taken.value.as_text().unwrap(), &StringArray::from(vec!["a", "c"]));
        assert_eq!(taken.timestamps.unwrap(), Int64Array::from(vec![1, 3]));
        assert!(matches!(taken.offsets, Offsets::Sink(offsets) if offsets == Int64Array::from(vec![7, 9])));
    }
}
