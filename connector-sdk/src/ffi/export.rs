//! A batch on its way out: `Batch` → `abi::Batch`.

use std::sync::{Arc, LazyLock};

use arrow_array::{Array, ArrayRef, StructArray};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{DataType, Field, FieldRef, Fields};
use tributary_abi as abi;

use crate::batch::{Batch, Column, Form, Offsets};
use crate::errors::{Error, Result};

// The two crates' views of the C structs must be the same ones: they are cast into each other.
const _: () = {
    assert!(size_of::<FFI_ArrowArray>() == size_of::<abi::ArrowArray>());
    assert!(align_of::<FFI_ArrowArray>() == align_of::<abi::ArrowArray>());
    assert!(size_of::<FFI_ArrowSchema>() == size_of::<abi::ArrowSchema>());
    assert!(align_of::<FFI_ArrowSchema>() == align_of::<abi::ArrowSchema>());
};

/// An exported batch. What the other side has not taken is released on drop.
pub struct Exported {
    raw: abi::Batch,
    // What the strings in `raw` point to.
    _topic: Arc<str>,
    _source_partition: Option<Arc<str>>,
    _origin_topic: Option<Arc<str>>,
}

impl Exported {
    /// Exports without copying the columns. Fails on columns of unequal length.
    pub fn new(batch: Batch) -> Result<Self> {
        let Batch { topic, source_partition, partition, key, value, headers, timestamps, partitions, offsets, origin } =
            batch;
        let mut fields: Vec<FieldRef> = Vec::with_capacity(7);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(7);
        let rows = value.len();
        let mut add = |field: FieldRef, column: ArrayRef| {
            if column.len() != rows {
                let name = field.name();
                return Err(Error::failed(format!(
                    "column {name} of a batch for topic {topic} has {} rows, its values have {rows}: they must be equal",
                    column.len()
                )));
            }
            fields.push(field);
            columns.push(column);
            Ok(())
        };
        if let Some(key) = key {
            add(named(&key, "key"), key.array().clone())?;
        }
        add(named(&value, "value"), value.array().clone())?;
        if let Some(headers) = headers {
            add(HEADERS.clone(), Arc::new(headers))?;
        }
        if let Some(timestamps) = timestamps {
            add(TIMESTAMP.clone(), Arc::new(timestamps))?;
        }
        if let Some(partitions) = partitions {
            add(PARTITION.clone(), Arc::new(partitions))?;
        }
        match offsets {
            Offsets::None => {}
            Offsets::Source(offsets) => add(SOURCE_OFFSET.clone(), Arc::new(offsets))?,
            Offsets::Sink(offsets) => add(SINK_OFFSET.clone(), Arc::new(offsets))?,
        }
        let (origin_topic, origin_partition) = match origin {
            None => (None, -1),
            Some(origin) => {
                add(ORIGIN_OFFSET.clone(), Arc::new(origin.offsets))?;
                (Some(origin.topic), origin.partition)
            }
        };
        let columns = StructArray::try_new(Fields::from(fields), columns, None)?;
        let schema = FFI_ArrowSchema::try_from(columns.data_type())?;
        let array = FFI_ArrowArray::new(&columns.into_data());
        let raw = abi::Batch {
            size: size_of::<abi::Batch>(),
            topic: super::str(&topic),
            source_partition: source_partition.as_deref().map_or(abi::Str::EMPTY, super::str),
            partition: partition.unwrap_or(-1),
            reserved: 0,
            // SAFETY: both are the same C struct (size and alignment asserted above); the value is moved.
            schema: unsafe { std::mem::transmute::<FFI_ArrowSchema, abi::ArrowSchema>(schema) },
            // SAFETY: as above.
            array: unsafe { std::mem::transmute::<FFI_ArrowArray, abi::ArrowArray>(array) },
            origin_topic: origin_topic.as_deref().map_or(abi::Str::EMPTY, super::str),
            origin_partition,
            origin_reserved: 0,
        };
        Ok(Self { raw, _topic: topic, _source_partition: source_partition, _origin_topic: origin_topic })
    }

    /// For the one call that moves it.
    pub fn as_mut_ptr(&mut self) -> *mut abi::Batch {
        &raw mut self.raw
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // SAFETY: both structs are initialised; taking them out and dropping them calls their release, unless the other
        // side took them (then release is null and nothing happens).
        unsafe {
            drop(FFI_ArrowArray::from_raw((&raw mut self.raw.array).cast()));
            drop(FFI_ArrowSchema::from_raw((&raw mut self.raw.schema).cast()));
        }
    }
}

static HEADERS: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("headers", Batch::headers_type(), true)));
static TIMESTAMP: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("timestamp", DataType::Int64, true)));
static PARTITION: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("partition", DataType::Int32, true)));
static SOURCE_OFFSET: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("offset", DataType::Utf8, true)));
static SINK_OFFSET: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("offset", DataType::Int64, true)));
static ORIGIN_OFFSET: LazyLock<FieldRef> =
    LazyLock::new(|| Arc::new(Field::new("origin_offset", DataType::Int64, true)));

/// The column's field under its name in the struct. Nullable always: a key may be missing, a value may be a tombstone.
fn named(column: &Column, name: &'static str) -> FieldRef {
    static VALUE_BYTES: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("value", DataType::Binary, true)));
    static VALUE_TEXT: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("value", DataType::Utf8, true)));
    let plain = column.field().metadata().is_empty() && name == "value";
    match column.form() {
        Form::Bytes if plain => VALUE_BYTES.clone(),
        Form::Text if plain => VALUE_TEXT.clone(),
        _ => Arc::new(column.field().as_ref().clone().with_name(name).with_nullable(true)),
    }
}
