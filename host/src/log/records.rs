//! Columns of serialized records: what producers take and consumers return.

use std::sync::{Arc, LazyLock};

use arrow_array::{Array, BinaryArray, Int32Array, Int64Array, ListArray};
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
        let data = |array: &BinaryArray| {
            let offsets = array.value_offsets();
            (offsets[array.len()] - offsets[0]) as usize
        };
        let headers = self.headers.as_ref().map_or(0, |h| h.get_array_memory_size());
        self.keys.as_ref().map_or(0, data) + data(&self.values) + headers
    }

    /// The type of the headers column.
    pub fn headers_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Struct(HEADER_FIELDS.clone()), false)))
    }
}
