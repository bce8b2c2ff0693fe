//! Builds Arrow arrays value by value, by a field: what decoders of binary formats fill.
//!
//! A decoder that fails in the middle of a row leaves columns of unequal lengths; [`Builder::pad`] makes them equal again.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, NullBufferBuilder, PrimitiveBuilder, StringBuilder,
};
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use super::RowFailure;

/// What a decoder says of a plan that does not fit its columns.
pub const MISMATCH: &str = "the schema and its columns do not belong together";

/// Reads one value a row, `None` is a tombstone. A row that `read` refuses is a failure of its own, with `what` before the reason.
pub fn decode_rows(
    field: &Field,
    rows: &[Option<&[u8]>],
    what: &str,
    mut read: impl FnMut(&mut Builder, &[u8]) -> Result<(), String>,
) -> Result<(ArrayRef, Vec<RowFailure>), String> {
    let mut builder = Builder::new(field, rows.len())?;
    let mut failures = Vec::new();
    for (row, value) in rows.iter().enumerate() {
        match value {
            None => builder.append_null(),
            Some(value) => {
                if let Err(message) = read(&mut builder, value) {
                    builder.pad(row + 1);
                    failures.push(RowFailure { row, message: format!("{what}: {message}") });
                }
            }
        }
    }
    Ok((builder.finish()?, failures))
}

/// An integer in the column's type.
pub fn fitting<T: TryFrom<i64>>(value: i64) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("the number {value} does not fit its type"))
}

/// Collects one array.
pub struct Builder {
    /// Whether nulls may stand in it; where not, a null becomes an empty value.
    nullable: bool,
    /// What is collected.
    pub values: Values,
}

/// The builders of Connect's types.
#[allow(missing_docs)]
pub enum Values {
    Boolean(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time32MillisecondType>),
    Timestamp(PrimitiveBuilder<TimestampMillisecondType>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    List(List),
    Map(Map),
    Struct(Struct),
}

/// Lists: items, and where each list ends.
pub struct List {
    field: FieldRef,
    /// The items of all lists.
    pub items: Box<Builder>,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

/// Maps: entries, and where each map ends.
pub struct Map {
    entries: FieldRef,
    /// The keys of all maps.
    pub keys: Box<Builder>,
    /// The values of all maps.
    pub values: Box<Builder>,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

/// Structs: members, each as long as the others.
pub struct Struct {
    fields: Fields,
    /// In the order of the fields.
    pub members: Vec<Builder>,
    nulls: NullBufferBuilder,
}

impl List {
    /// The list is complete.
    pub fn end(&mut self) {
        self.ends.push(end(self.items.len()));
        self.nulls.append_non_null();
    }
}

impl Map {
    /// The map is complete.
    pub fn end(&mut self) {
        self.ends.push(end(self.keys.len()));
        self.nulls.append_non_null();
    }
}

impl Struct {
    /// The struct is complete: every member has its value.
    pub fn end(&mut self) {
        self.nulls.append_non_null();
    }
}

/// A batch is bounded to far less than 2 Gi items by the queues.
fn end(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

impl Builder {
    /// For about so many rows of a field. The error names a type that is not Connect's.
    pub fn new(field: &Field, rows: usize) -> Result<Self, String> {
        let nulls = || NullBufferBuilder::new(rows);
        let ends = || {
            let mut ends = Vec::with_capacity(rows + 1);
            ends.push(0);
            ends
        };
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int8 => Values::Int8(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int16 => Values::Int16(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int32 => Values::Int32(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int64 => Values::Int64(PrimitiveBuilder::with_capacity(rows)),
            DataType::Float32 => Values::Float32(PrimitiveBuilder::with_capacity(rows)),
            DataType::Float64 => Values::Float64(PrimitiveBuilder::with_capacity(rows)),
            DataType::Date32 => Values::Date(PrimitiveBuilder::with_capacity(rows)),
            DataType::Time32(TimeUnit::Millisecond) => Values::Time(PrimitiveBuilder::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Values::Timestamp(PrimitiveBuilder::with_capacity(rows).with_data_type(field.data_type().clone()))
            }
            DataType::Utf8 => Values::Text(StringBuilder::with_capacity(rows, rows * 16)),
            DataType::Binary => Values::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
            DataType::List(item) => Values::List(List {
                field: item.clone(),
                items: Box::new(Self::new(item, rows)?),
                ends: ends(),
                nulls: nulls(),
            }),
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                Values::Map(Map {
                    entries: entries.clone(),
                    keys: Box::new(Self::new(&pair[0], rows)?),
                    values: Box::new(Self::new(&pair[1], rows)?),
                    ends: ends(),
                    nulls: nulls(),
                })
            }
            DataType::Struct(fields) => Values::Struct(Struct {
                fields: fields.clone(),
                members: fields.iter().map(|field| Self::new(field, rows)).collect::<Result<_, _>>()?,
                nulls: nulls(),
            }),
            other => return Err(format!("the type {other} is not one of Connect's")),
        };
        Ok(Self { nullable: field.is_nullable(), values })
    }

    /// Whether nulls may stand in it.
    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// Adds a null; where the field has none, an empty value.
    pub fn append_null(&mut self) {
        let null = self.nullable;
        macro_rules! primitive {
            ($builder:expr) => {
                if null { $builder.append_null() } else { $builder.append_value(Default::default()) }
            };
        }
        match &mut self.values {
            Values::Boolean(builder) => primitive!(builder),
            Values::Int8(builder) => primitive!(builder),
            Values::Int16(builder) => primitive!(builder),
            Values::Int32(builder) => primitive!(builder),
            Values::Int64(builder) => primitive!(builder),
            Values::Float32(builder) => primitive!(builder),
            Values::Float64(builder) => primitive!(builder),
            Values::Date(builder) => primitive!(builder),
            Values::Time(builder) => primitive!(builder),
            Values::Timestamp(builder) => primitive!(builder),
            Values::Text(builder) if null => builder.append_null(),
            Values::Text(builder) => builder.append_value(""),
            Values::Bytes(builder) if null => builder.append_null(),
            Values::Bytes(builder) => builder.append_value([]),
            Values::List(list) => {
                list.ends.push(end(list.items.len()));
                list.nulls.append(!null);
            }
            Values::Map(map) => {
                map.ends.push(end(map.keys.len()));
                map.nulls.append(!null);
            }
            Values::Struct(structs) => {
                structs.members.iter_mut().for_each(Self::append_null);
                structs.nulls.append(!null);
            }
        }
    }

    /// How many values are complete.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(builder) => builder.len(),
            Values::Int8(builder) => builder.len(),
            Values::Int16(builder) => builder.len(),
            Values::Int32(builder) => builder.len(),
            Values::Int64(builder) => builder.len(),
            Values::Float32(builder) => builder.len(),
            Values::Float64(builder) => builder.len(),
            Values::Date(builder) => builder.len(),
            Values::Time(builder) => builder.len(),
            Values::Timestamp(builder) => builder.len(),
            Values::Text(builder) => builder.len(),
            Values::Bytes(builder) => builder.len(),
            Values::List(list) => list.nulls.len(),
            Values::Map(map) => map.nulls.len(),
            Values::Struct(structs) => structs.nulls.len(),
        }
    }

    /// How many values were begun.
    fn begun(&self) -> usize {
        match &self.values {
            Values::Struct(structs) => {
                structs.members.iter().map(Self::begun).max().unwrap_or(0).max(structs.nulls.len())
            }
            _ => self.len(),
        }
    }

    /// Completes what a failed row left behind: afterwards there are `rows` values, and everything inside fits together.
    pub fn pad(&mut self, rows: usize) {
        match &mut self.values {
            Values::List(list) => list.items.pad(list.items.begun()),
            Values::Map(map) => {
                let entries = map.keys.begun().max(map.values.begun());
                map.keys.pad(entries);
                map.values.pad(entries);
            }
            Values::Struct(structs) => {
                structs.members.iter_mut().for_each(|member| member.pad(rows));
                while structs.nulls.len() < rows {
                    structs.nulls.append(!self.nullable);
                }
                return;
            }
            _ => {}
        }
        while self.len() < rows {
            self.append_null();
        }
    }

    /// The array.
    pub fn finish(self) -> Result<ArrayRef, String> {
        let offsets = |ends: Vec<i32>| OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(match self.values {
            Values::Boolean(mut builder) => Arc::new(builder.finish()),
            Values::Int8(mut builder) => Arc::new(builder.finish()),
            Values::Int16(mut builder) => Arc::new(builder.finish()),
            Values::Int32(mut builder) => Arc::new(builder.finish()),
            Values::Int64(mut builder) => Arc::new(builder.finish()),
            Values::Float32(mut builder) => Arc::new(builder.finish()),
            Values::Float64(mut builder) => Arc::new(builder.finish()),
            Values::Date(mut builder) => Arc::new(builder.finish()),
            Values::Time(mut builder) => Arc::new(builder.finish()),
            Values::Timestamp(mut builder) => Arc::new(builder.finish()),
            Values::Text(mut builder) => Arc::new(builder.finish()),
            Values::Bytes(mut builder) => Arc::new(builder.finish()),
            Values::List(mut list) => {
                let array =
                    ListArray::try_new(list.field, offsets(list.ends), list.items.finish()?, list.nulls.finish());
                Arc::new(array.map_err(|error| error.to_string())?)
            }
            Values::Map(mut map) => {
                let DataType::Struct(fields) = map.entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let pairs = StructArray::try_new(fields.clone(), vec![map.keys.finish()?, map.values.finish()?], None);
                let pairs = pairs.map_err(|error| error.to_string())?;
                let array = MapArray::try_new(map.entries, offsets(map.ends), pairs, map.nulls.finish(), false);
                Arc::new(array.map_err(|error| error.to_string())?)
            }
            Values::Struct(mut structs) => {
                let length = structs.nulls.len();
                let columns = structs.members.into_iter().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                let nulls = structs.nulls.finish();
                let array = StructArray::try_new_with_length(structs.fields, columns, nulls, length);
                Arc::new(array.map_err(|error| error.to_string())?)
            }
        })
    }
}
