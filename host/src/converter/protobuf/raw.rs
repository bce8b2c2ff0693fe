//! Keys and values that are a plain text or number: with `wrapper.for.raw.primitives` they stand in the messages that Protobuf has
//! for them, such as `google.protobuf.StringValue`.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StructArray, make_array};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields};
use tributary_sdk::batch::SCHEMA_NAME;

/// The full name of the message for values of a type.
pub fn message_of(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Float64 => "google.protobuf.DoubleValue",
        DataType::Float32 => "google.protobuf.FloatValue",
        DataType::Int64 => "google.protobuf.Int64Value",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "google.protobuf.Int32Value",
        DataType::Boolean => "google.protobuf.BoolValue",
        DataType::Utf8 => "google.protobuf.StringValue",
        DataType::Binary => "google.protobuf.BytesValue",
        _ => return None,
    })
}

/// Whether a plain value has to be put into a message: one of a logical type has none.
pub fn is_raw(field: &Field) -> bool {
    message_of(field.data_type()).is_some() && !field.metadata().contains_key(SCHEMA_NAME)
}

/// Plain values as structs with the field `value`.
pub fn in_message(array: &ArrayRef) -> StructArray {
    let field = Field::new("value", array.data_type().clone(), true);
    StructArray::from(vec![(Arc::new(field), array.clone())])
}

/// The field of plain values as structs with it.
pub fn message_field(field: &Field) -> Field {
    Field::new("", DataType::Struct(Fields::from(vec![field.clone().with_name("value").with_nullable(true)])), true)
}

/// The plain values of such structs.
pub fn out_of_message(array: &ArrayRef) -> Result<ArrayRef, String> {
    let structs = array.as_any().downcast_ref::<StructArray>().ok_or("a message is no struct")?;
    let values = structs.columns().first().ok_or("a message has no value")?;
    let nulls = NullBuffer::union(structs.nulls(), values.nulls());
    let data = values.to_data().into_builder().nulls(nulls).build().map_err(|error| error.to_string())?;
    Ok(make_array(data))
}
