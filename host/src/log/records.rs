//! Columns of serialized records: what producers take and consumers return.

use std::sync::{Arc, LazyLock};

use arrow_array::{Array, BinaryArray, Int32Array, Int64Array, ListArray, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields};

/// The fields of one header in [`LogRecords::headers`]: `key` (text) and `value` (bytes, nullable).
/// Header keys may repeat within a record, and their order is kept.
pub static HEADER_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
});

/// A run of serialized records as columns of one length.
#[derive(Debug, Clone)]
pub struct LogRecords {
    /// Keys; null where a record has none. `None` when no record has one.
    pub keys: Option<BinaryArray>,
    /// Values; null is a tombstone, unlike an empty value.
    pub values: BinaryArray,
    /// `List<Struct<key: Utf8, value: Binary?>>`; `None` when no record has a header.
    pub headers: Option<ListArray>,
    /// Milliseconds since the epoch; null or `None`: the time of sending.
    pub timestamps: Option<Int64Array>,
    /// Partition to write to; null or `None`: the partitioner decides (murmur2 of the key, as Java's).
    pub partitions: Option<Int32Array>,
}

impl LogRecords {
    /// Records with values only.
    pub fn from_values(values: BinaryArray) -> Self {
        Self { keys: None, values, headers: None, timestamps: None, partitions: None }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Bytes of keys, values and headers: what queues are bounded by.
    pub fn bytes(&self) -> usize {
        self.keys.as_ref().map_or(0, data_bytes)
            + data_bytes(&self.values)
            + self.headers.as_ref().map_or(0, header_bytes)
    }

    /// `len` rows from `from` on, without a copy.
    pub fn slice(&self, from: usize, len: usize) -> Self {
        Self {
            keys: self.keys.as_ref().map(|column| column.slice(from, len)),
            values: self.values.slice(from, len),
            headers: self.headers.as_ref().map(|column| column.slice(from, len)),
            timestamps: self.timestamps.as_ref().map(|column| column.slice(from, len)),
            partitions: self.partitions.as_ref().map(|column| column.slice(from, len)),
        }
    }

    /// How many rows from `from` on have their keys and values within `bytes`.
    pub fn rows_within(&self, from: usize, bytes: usize) -> usize {
        let values = self.values.value_offsets();
        let keys = self.keys.as_ref().map(|keys| keys.value_offsets());
        let end = |row: usize| values[row] as usize + keys.map_or(0, |keys| keys[row] as usize);
        let limit = end(from).saturating_add(bytes);
        let (mut low, mut high) = (from, self.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            if end(middle) <= limit { low = middle } else { high = middle - 1 }
        }
        low - from
    }

    /// The type of the headers column.
    pub fn headers_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Struct(HEADER_FIELDS.clone()), false)))
    }
}

fn data_bytes(array: &BinaryArray) -> usize {
    let offsets = array.value_offsets();
    (offsets[array.len()] - offsets[0]) as usize
}

/// Bytes of header keys and values, and of their places.
fn header_bytes(headers: &ListArray) -> usize {
    let offsets = headers.value_offsets();
    let (from, to) = (offsets[0] as usize, offsets[headers.len()] as usize);
    let Some(entries) = headers.values().as_any().downcast_ref::<StructArray>() else { return 0 };
    let entries = entries.slice(from, to - from);
    let keys = entries.column(0).as_any().downcast_ref::<StringArray>().map_or(0, |keys| {
        let offsets = keys.value_offsets();
        (offsets[keys.len()] - offsets[0]) as usize
    });
    let values = entries.column(1).as_any().downcast_ref::<BinaryArray>().map_or(0, data_bytes);
    keys + values + 8 * (to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_count_their_own_bytes() {
        let mut records = LogRecords::from_values(BinaryArray::from_vec(vec![b"aaaa", b"bb", b"", b"cccccc"]));
        records.keys = Some(BinaryArray::from(vec![Some(b"k".as_slice()), None, Some(b"kk"), None]));
        assert_eq!(records.bytes(), 15);
        let slice = records.slice(1, 2);
        assert_eq!((slice.len(), slice.bytes()), (2, 4));
        assert_eq!((records.rows_within(0, 4), records.rows_within(0, 5), records.rows_within(0, 7)), (0, 1, 2));
        assert_eq!((records.rows_within(1, 4), slice.rows_within(0, 100), slice.rows_within(2, 0)), (2, 2, 0));
    }
}
