//! Fetched records gathered into columns: one run of one topic-partition.
//!
//! Promises: a value is copied once, from where it was received to the column; null and empty stay apart;
//! the keys and headers columns exist only when a record of the run has one.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, ListArray, StringArray, StructArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::Field;

use super::records::HEADER_FIELDS;
use super::{FetchedBatch, LogRecords, TopicPartition};

/// Builds a [`FetchedBatch`] row by row.
#[derive(Debug)]
pub(super) struct RunBuilder {
    topic_partition: TopicPartition,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    /// `false` where a record has no timestamp; empty while all have one.
    stamped: Vec<bool>,
    keys: BytesColumn,
    values: BytesColumn,
    headers: HeadersColumn,
}

impl RunBuilder {
    /// An empty run with room for `rows` rows of `bytes` value bytes in all.
    pub(super) fn new(topic_partition: TopicPartition, rows: usize, bytes: usize) -> Self {
        Self {
            topic_partition,
            offsets: Vec::with_capacity(rows),
            timestamps: Vec::with_capacity(rows),
            stamped: Vec::new(),
            keys: BytesColumn::default(),
            values: BytesColumn::with_capacity(rows, bytes),
            headers: HeadersColumn::default(),
        }
    }

    pub(super) fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of keys and values so far.
    pub(super) fn bytes(&self) -> usize {
        self.values.data.len() + self.keys.data.len()
    }

    /// Adds a record; its headers, if any, follow with [`RunBuilder::header`].
    #[inline]
    pub(super) fn push(&mut self, offset: i64, timestamp: Option<i64>, key: Option<&[u8]>, value: Option<&[u8]>) {
        let row = self.offsets.len();
        self.offsets.push(offset);
        if timestamp.is_none() && self.stamped.is_empty() {
            self.stamped.resize(row, true);
        }
        if timestamp.is_none() || !self.stamped.is_empty() {
            self.stamped.push(timestamp.is_some());
        }
        self.timestamps.push(timestamp.unwrap_or_default());
        if key.is_some() || self.keys.exists() {
            self.keys.push(row, key);
        }
        self.values.push(row, value);
    }

    /// Adds a header to the record pushed last.
    pub(super) fn header(&mut self, key: &str, value: Option<&[u8]>) {
        self.headers.push(self.offsets.len() - 1, key, value);
    }

    /// The run as columns.
    pub(super) fn finish(self) -> FetchedBatch {
        let rows = self.offsets.len();
        let nulls = (!self.stamped.is_empty()).then(|| NullBuffer::from(self.stamped));
        FetchedBatch {
            topic_partition: self.topic_partition,
            records: LogRecords {
                keys: self.keys.exists().then(|| self.keys.finish(rows)),
                values: self.values.finish(rows),
                headers: self.headers.finish(rows),
                timestamps: Some(Int64Array::new(self.timestamps.into(), nulls)),
                partitions: None,
            },
            offsets: Int64Array::new(self.offsets.into(), None),
        }
    }
}

/// A column of nullable bytes. Nothing is kept for the rows before the first that is pushed.
#[derive(Debug, Default)]
struct BytesColumn {
    ends: Vec<i32>,
    data: Vec<u8>,
    valid: Vec<bool>,
}

impl BytesColumn {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { ends, data: Vec::with_capacity(bytes), valid: Vec::new() }
    }

    fn exists(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Adds the cell of `row`; rows that were not pushed before are null.
    #[inline]
    fn push(&mut self, row: usize, cell: Option<&[u8]>) {
        if self.ends.len() <= row {
            self.fill_nulls(row);
        }
        match cell {
            Some(bytes) => {
                self.data.extend_from_slice(bytes);
                if !self.valid.is_empty() {
                    self.valid.push(true);
                }
            }
            None => {
                if self.valid.is_empty() {
                    self.valid.resize(row, true);
                }
                self.valid.push(false);
            }
        }
        self.ends.push(self.data.len() as i32);
    }

    #[cold]
    fn fill_nulls(&mut self, row: usize) {
        self.ends.resize(row + 1, 0);
        self.valid.resize(row, false);
    }

    fn finish(self, rows: usize) -> BinaryArray {
        debug_assert_eq!(self.ends.len(), rows + 1);
        let nulls = (!self.valid.is_empty()).then(|| NullBuffer::from(self.valid));
        BinaryArray::new(OffsetBuffer::new(ScalarBuffer::from(self.ends)), Buffer::from_vec(self.data), nulls)
    }
}

/// Headers of the rows that have any.
#[derive(Debug, Default)]
struct HeadersColumn {
    /// End of each row's headers; behind by the rows without headers since.
    ends: Vec<i32>,
    keys: String,
    key_ends: Vec<i32>,
    values: BytesColumn,
}

impl HeadersColumn {
    fn push(&mut self, row: usize, key: &str, value: Option<&[u8]>) {
        let count = self.key_ends.len() as i32;
        if self.ends.len() <= row {
            self.ends.resize(row, count);
            self.ends.push(count);
        }
        if self.key_ends.is_empty() {
            self.values = BytesColumn::with_capacity(16, 256);
        }
        self.values.push(self.key_ends.len(), value);
        self.keys.push_str(key);
        self.key_ends.push(self.keys.len() as i32);
        *self.ends.last_mut().expect("pushed above") += 1;
    }

    fn finish(mut self, rows: usize) -> Option<ListArray> {
        if self.ends.is_empty() {
            return None;
        }
        let count = self.key_ends.len();
        self.ends.resize(rows, count as i32);
        let offsets = |ends: Vec<i32>| OffsetBuffer::new(std::iter::once(0).chain(ends).collect::<Vec<i32>>().into());
        let keys = StringArray::new(offsets(self.key_ends), Buffer::from_vec(self.keys.into_bytes()), None);
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(self.values.finish(count))];
        let entries = StructArray::new(HEADER_FIELDS.clone(), columns, None);
        let item = Arc::new(Field::new("item", entries_type(), false));
        Some(ListArray::new(item, offsets(self.ends), Arc::new(entries), None))
    }
}

fn entries_type() -> arrow_schema::DataType {
    arrow_schema::DataType::Struct(HEADER_FIELDS.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;

    fn builder() -> RunBuilder {
        RunBuilder::new(TopicPartition { topic: "t".into(), partition: 0 }, 4, 16)
    }

    #[test]
    fn null_and_empty_stay_apart_and_absent_columns_stay_absent() {
        let mut run = builder();
        run.push(5, Some(1), None, Some(b""));
        run.push(6, Some(2), None, None);
        let batch = run.finish();
        assert!(batch.records.keys.is_none() && batch.records.headers.is_none());
        assert!(batch.records.values.is_valid(0) && batch.records.values.is_null(1));
        assert_eq!(batch.offsets.values(), &[5, 6]);
        assert_eq!(batch.records.timestamps.unwrap().null_count(), 0);
    }

    #[test]
    fn keys_and_headers_that_come_late() {
        let mut run = builder();
        run.push(0, None, None, Some(b"a"));
        run.push(1, Some(9), Some(b"k"), Some(b"b"));
        run.header("h", Some(b"1"));
        run.header("h", None);
        run.push(2, Some(9), None, Some(b"c"));
        run.push(3, Some(9), Some(b""), Some(b"d"));
        run.header("", Some(b""));
        let records = run.finish().records;
        let keys = records.keys.unwrap();
        assert_eq!(
            (0..4).map(|i| keys.is_valid(i).then(|| keys.value(i))).collect::<Vec<_>>(),
            [None, Some(b"k".as_slice()), None, Some(b"")]
        );
        let headers = records.headers.unwrap();
        assert_eq!((0..4).map(|i| headers.value_length(i)).collect::<Vec<_>>(), [0, 2, 0, 1]);
        assert!(records.timestamps.unwrap().is_null(0));
    }
}
