//! A batch on its way in: `abi::Batch` → `Batch`, checked.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, ListArray, StringArray, StructArray};
use arrow_data::ArrayData;
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{DataType, Field, FieldRef};
use tributary_abi as abi;

use super::check;
use crate::batch::{Batch, Column, HEADER_FIELDS, Offsets, Origin};
use crate::errors::{Error, Result};

/// A batch that was moved to this side and not looked at yet. Dropping it releases it.
pub struct Taken {
    topic: Result<Arc<str>>,
    source_partition: Result<Option<Arc<str>>>,
    partition: i32,
    origin: Result<Option<(Arc<str>, i32)>>,
    schema: FFI_ArrowSchema,
    array: FFI_ArrowArray,
}

impl Taken {
    /// Moves the batch out: the original's `release` callbacks are null afterwards. Reads nothing of the columns.
    ///
    /// # Safety
    /// `batch` is null or points to a batch as the ABI describes it, whose strings are readable during this call.
    pub unsafe fn take(batch: *mut abi::Batch) -> Result<Self> {
        if batch.is_null() {
            return Err(Error::failed("a null pointer came in place of a batch"));
        }
        // SAFETY: not null, and by the contract at least `size` is there.
        let size = unsafe { (*batch).size };
        // What was appended later need not be there.
        let needed = std::mem::offset_of!(abi::Batch, origin_topic);
        if size < needed {
            return Err(Error::failed(format!(
                "a batch says it is {size} bytes large, {needed} are needed: is `size` set?"
            )));
        }
        // SAFETY: the size covers all fields that are read, which the contract says are initialised. The layouts are the same (asserted
        // in `export`), and `from_raw` leaves an empty struct behind, whose release is null.
        unsafe {
            let array = FFI_ArrowArray::from_raw((&raw mut (*batch).array).cast());
            let schema = FFI_ArrowSchema::from_raw((&raw mut (*batch).schema).cast());
            let topic = super::text((*batch).topic, "the topic of a batch").map(Arc::from);
            let source_partition = super::text((*batch).source_partition, "the source partition of a batch")
                .map(|text| (!text.is_empty()).then(|| Arc::from(text)));
            let origin = if size < size_of::<abi::Batch>() {
                Ok(None)
            } else {
                super::text((*batch).origin_topic, "the origin of a batch")
                    .map(|text| (!text.is_empty()).then(|| (Arc::from(text), (*batch).origin_partition)))
            };
            Ok(Self { topic, source_partition, partition: (*batch).partition, origin, schema, array })
        }
    }

    /// Checks everything and makes the columns, without copying them.
    ///
    /// # Safety
    /// The arrays follow the Arrow C Data Interface as far as [`super`] says it cannot be checked.
    pub unsafe fn into_batch(self) -> Result<Batch> {
        let Self { topic, source_partition, partition, origin, mut schema, mut array } = self;
        let (topic, source_partition, origin) = (topic?, source_partition?, origin?);
        if let Some(json) = &source_partition
            && !serde_json::from_str::<serde_json::Value>(json).is_ok_and(|value| value.is_object())
        {
            return Err(Error::failed(format!(
                "malformed batch for topic {topic}: its source partition must be a JSON object"
            )));
        }
        let malformed = |why: String| Error::failed(format!("malformed batch for topic {topic}: {why}"));
        // SAFETY: the caller's promise; `schema` and `array` are whole structs of ours.
        let data_type = unsafe { check::structures((&raw mut schema).cast(), (&raw mut array).cast()) };
        let data_type = data_type.map_err(malformed)?;
        // SAFETY: the structures are sound, as just checked; contents are checked next, before anything reads them.
        let data = unsafe { arrow_array::ffi::from_ffi_and_data_type(array, data_type) };
        let data = data.map_err(|error| malformed(error.to_string()))?;
        let data = settle(data);
        data.validate_full().map_err(|error| malformed(error.to_string()))?;
        let columns = StructArray::from(data);
        if columns.null_count() > 0 {
            return Err(malformed("whole rows are null: use null values for tombstones".into()));
        }
        let (mut batch, origin_offsets) = assemble(&columns, topic.clone()).map_err(malformed)?;
        batch.origin = match (origin, origin_offsets) {
            (None, None) => None,
            (Some((topic, partition)), Some(offsets)) => Some(Origin { topic, partition, offsets }),
            _ => return Err(malformed("an origin and the column origin_offset go together".into())),
        };
        batch.source_partition = source_partition;
        batch.partition = (partition >= 0).then_some(partition);
        Ok(batch)
    }
}

/// Replaces arrays without rows by fresh ones. The importer takes their bytes to be none, while the one offset of a slice
/// may say anything, which the validation then holds against them.
fn settle(data: ArrayData) -> ArrayData {
    fn has_empty(data: &ArrayData) -> bool {
        data.child_data().iter().any(|child| child.is_empty() || has_empty(child))
    }
    if data.is_empty() {
        return ArrayData::new_empty(data.data_type());
    }
    if !has_empty(&data) {
        return data;
    }
    let children = data.child_data().iter().cloned().map(settle).collect();
    // SAFETY: only arrays without rows were exchanged for others of their type; all is validated after this.
    unsafe { data.into_builder().child_data(children).build_unchecked() }
}

/// With the offsets of its origin.
fn assemble(columns: &StructArray, topic: Arc<str>) -> Result<(Batch, Option<Int64Array>), String> {
    let mut value = None;
    let mut key = None;
    let mut headers = None;
    let mut timestamps = None;
    let mut partitions = None;
    let mut offsets = Offsets::None;
    let mut origin_offsets = None;
    let mut seen: Vec<&str> = Vec::with_capacity(7);
    for (field, column) in columns.fields().iter().zip(columns.columns()) {
        let name = field.name().as_str();
        if seen.contains(&name) {
            return Err(format!("there are two columns {name}"));
        }
        seen.push(name);
        match name {
            "key" => key = Some(unnamed(field, column)),
            "value" => value = Some(unnamed(field, column)),
            "headers" => headers = Some(canonical_headers(column)?),
            "timestamp" => timestamps = Some(typed::<Int64Array>(name, column, "int64")?),
            "partition" => partitions = Some(typed::<Int32Array>(name, column, "int32")?),
            "offset" => {
                offsets = match column.data_type() {
                    DataType::Utf8 => Offsets::Source(typed::<StringArray>(name, column, "utf8")?),
                    _ => Offsets::Sink(typed::<Int64Array>(name, column, "int64 or utf8")?),
                }
            }
            "origin_offset" => origin_offsets = Some(typed::<Int64Array>(name, column, "int64")?),
            other => {
                return Err(format!(
                    "unknown column {other}: columns are key, value, headers, timestamp, partition, offset and origin_offset"
                ));
            }
        }
    }
    let value = value.ok_or("there is no column value")?;
    Ok((Batch { key, headers, timestamps, partitions, offsets, ..Batch::new(topic, value) }, origin_offsets))
}

fn typed<A: Clone + 'static>(name: &str, column: &ArrayRef, wanted: &str) -> Result<A, String> {
    let array = column.as_any().downcast_ref::<A>().cloned();
    array.ok_or_else(|| format!("column {name} has the type {}, it must be {wanted}", column.data_type()))
}

/// The column without the name it crosses under; plain forms share one field.
fn unnamed(field: &FieldRef, column: &ArrayRef) -> Column {
    if field.metadata().is_empty() {
        if let Some(bytes) = column.as_any().downcast_ref() {
            return Column::bytes(arrow_array::BinaryArray::clone(bytes));
        }
        if let Some(text) = column.as_any().downcast_ref() {
            return Column::text(StringArray::clone(text));
        }
    }
    Column::new(Arc::new(field.as_ref().clone().with_name("")), column.clone())
}

/// Headers with the SDK's own names and nullability, which other languages' Arrow libraries may spell differently.
fn canonical_headers(column: &ArrayRef) -> Result<ListArray, String> {
    let wanted = "a list of struct {key utf8, schema utf8, value binary}";
    let list: ListArray = typed("headers", column, wanted)?;
    if list.data_type() == &Batch::headers_type() {
        return Ok(list);
    }
    let (_, offsets, items, nulls) = list.into_parts();
    let bad = || format!("column headers has items of type {}, it must be {wanted}", items.data_type());
    let items = items.as_any().downcast_ref::<StructArray>().ok_or_else(bad)?;
    if items.null_count() > 0 {
        return Err("column headers has null items".into());
    }
    let part = |name: &str| items.column_by_name(name).cloned().ok_or_else(bad);
    let items = StructArray::try_new(HEADER_FIELDS.clone(), vec![part("key")?, part("schema")?, part("value")?], None)
        .map_err(|error| format!("column headers: {error}"))?;
    let item = Arc::new(Field::new("item", DataType::Struct(HEADER_FIELDS.clone()), false));
    ListArray::try_new(item, offsets, Arc::new(items), nulls).map_err(|error| format!("column headers: {error}"))
}
