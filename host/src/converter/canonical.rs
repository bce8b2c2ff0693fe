//! Connect's types only: columns of other Arrow types, which plugins may send, become the nearest Connect type.
//!
//! Unsigned integers become the next larger signed ones, other time units milliseconds, decimals Connect's Decimal, large, fixed-size
//! and view layouts of text, bytes and lists the plain ones, dictionaries their values. A `UInt64` beyond the range of int64, and types that
//! have no counterpart, are refused with their name. Finer times lose what lies below a millisecond, as Connect's own types do.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal128Type, Decimal256Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BinaryArray, ListArray, MapArray, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef, TimeUnit};
use tributary_sdk::Column;
use tributary_sdk::batch::SCHEMA_PARAMETERS;

use super::json::{connect_type, logical, timestamp_type};

/// The column itself if its types are Connect's, which costs a look at the types; or one whose types are.
pub fn canonical(column: &Column) -> Result<Column, String> {
    if is_canonical(column.field().data_type()) {
        return Ok(column.clone());
    }
    let (field, array) = convert(column.field(), column.array())?;
    Ok(Column::new(field, array))
}

fn is_canonical(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_canonical(item.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields.iter().all(|field| is_canonical(field.data_type())),
            _ => false,
        },
        DataType::Struct(fields) => fields.iter().all(|field| is_canonical(field.data_type())),
        other => connect_type(other).is_some(),
    }
}

fn convert(field: &FieldRef, array: &ArrayRef) -> Result<(FieldRef, ArrayRef), String> {
    if is_canonical(field.data_type()) {
        return Ok((field.clone(), array.clone()));
    }
    let plain = |array: ArrayRef| {
        let field = field.as_ref().clone().with_data_type(array.data_type().clone());
        Ok((Arc::new(field), array))
    };
    match field.data_type() {
        DataType::UInt8 => plain(numbers::<UInt8Type, Int16Type>(array, |value| Ok(value.into()))?),
        DataType::UInt16 => plain(numbers::<UInt16Type, Int32Type>(array, |value| Ok(value.into()))?),
        DataType::UInt32 => plain(numbers::<UInt32Type, Int64Type>(array, |value| Ok(value.into()))?),
        DataType::UInt64 => plain(numbers::<UInt64Type, Int64Type>(array, |value| {
            value.try_into().map_err(|_| format!("{value} of field {} is beyond int64", field.name()))
        })?),
        DataType::Date64 => plain(numbers::<Date64Type, Date32Type>(array, |ms| day(ms.div_euclid(86_400_000)))?),
        DataType::Time32(TimeUnit::Second) => {
            plain(numbers::<Time32SecondType, Time32MillisecondType>(array, |value| Ok(value.saturating_mul(1000)))?)
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            plain(numbers::<Time64MicrosecondType, Time32MillisecondType>(array, |value| day(value / 1000))?)
        }
        DataType::Time64(_) => {
            plain(numbers::<Time64NanosecondType, Time32MillisecondType>(array, |value| day(value / 1_000_000))?)
        }
        DataType::Timestamp(unit, _) => {
            let array = match unit {
                TimeUnit::Second => numbers::<TimestampSecondType, TimestampMillisecondType>(array, |value| {
                    Ok(value.saturating_mul(1000))
                }),
                TimeUnit::Microsecond => {
                    numbers::<TimestampMicrosecondType, TimestampMillisecondType>(array, |value| {
                        Ok(value.div_euclid(1000))
                    })
                }
                _ => numbers::<TimestampNanosecondType, TimestampMillisecondType>(array, |value| {
                    Ok(value.div_euclid(1_000_000))
                }),
            }?;
            let array = array.as_primitive::<TimestampMillisecondType>().clone().with_timezone("UTC");
            debug_assert_eq!(*array.data_type(), timestamp_type());
            plain(Arc::new(array))
        }
        DataType::LargeUtf8 => plain(Arc::new(array.as_string::<i64>().iter().collect::<StringArray>())),
        DataType::Utf8View => plain(Arc::new(array.as_string_view().iter().collect::<StringArray>())),
        DataType::LargeBinary => plain(Arc::new(array.as_binary::<i64>().iter().collect::<BinaryArray>())),
        DataType::BinaryView => plain(Arc::new(array.as_binary_view().iter().collect::<BinaryArray>())),
        DataType::FixedSizeBinary(_) => plain(Arc::new(array.as_fixed_size_binary().iter().collect::<BinaryArray>())),
        DataType::Decimal128(_, scale) => {
            let bytes =
                array.as_primitive::<Decimal128Type>().iter().map(|value| Some(shortest(&value?.to_be_bytes())));
            decimal(field, *scale, bytes.collect())
        }
        DataType::Decimal256(_, scale) => {
            let bytes =
                array.as_primitive::<Decimal256Type>().iter().map(|value| Some(shortest(&value?.to_be_bytes())));
            decimal(field, *scale, bytes.collect())
        }
        DataType::Dictionary(_, values) => {
            let dictionary = array.as_any_dictionary();
            let keys: Vec<_> = dictionary.normalized_keys();
            let keys: arrow_array::UInt32Array =
                keys.into_iter().enumerate().map(|(row, key)| array.is_valid(row).then_some(key as u32)).collect();
            let taken =
                arrow_select::take::take(dictionary.values(), &keys, None).map_err(|error| error.to_string())?;
            let field = Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone()));
            convert(&field, &taken)
        }
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let (item, items) = convert(item, list.values())?;
            plain(Arc::new(ListArray::new(item, list.offsets().clone(), items, list.nulls().cloned())))
        }
        DataType::LargeList(item) => {
            let list = array.as_list::<i64>();
            let (item, items) = convert(item, list.values())?;
            let lengths = list.offsets().lengths();
            let first = list.offsets()[0] as usize;
            let items = items.slice(first, items.len() - first);
            plain(Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths), items, list.nulls().cloned())))
        }
        DataType::FixedSizeList(item, size) => {
            let list = array.as_fixed_size_list();
            let (item, items) = convert(item, list.values())?;
            let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(*size as usize, list.len()));
            plain(Arc::new(ListArray::new(item, offsets, items, list.nulls().cloned())))
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let (pair, pairs) = struct_members(map.entries())?;
            let entries = Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(pair.clone())));
            let pairs = StructArray::new(pair, pairs, map.entries().nulls().cloned());
            plain(Arc::new(MapArray::new(entries, map.offsets().clone(), pairs, map.nulls().cloned(), *sorted)))
        }
        DataType::Struct(_) => {
            let structs = array.as_struct();
            let (fields, columns) = struct_members(structs)?;
            let nulls = structs.nulls().cloned();
            let array = StructArray::try_new_with_length(fields, columns, nulls, structs.len());
            plain(Arc::new(array.map_err(|error| error.to_string())?))
        }
        other => Err(format!("Couldn't translate unsupported schema type {other}.")),
    }
}

fn struct_members(structs: &StructArray) -> Result<(arrow_schema::Fields, Vec<ArrayRef>), String> {
    let members = structs.fields().iter().zip(structs.columns());
    let (fields, columns): (Vec<_>, Vec<_>) =
        members.map(|(field, column)| convert(field, column)).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok((fields.into(), columns))
}

fn numbers<From: ArrowPrimitiveType, To: ArrowPrimitiveType>(
    array: &ArrayRef,
    value: impl Fn(From::Native) -> Result<To::Native, String>,
) -> Result<ArrayRef, String> {
    let from = array.as_primitive::<From>();
    Ok(Arc::new(from.try_unary::<_, To, String>(value)?) as ArrayRef)
}

fn day(value: i64) -> Result<i32, String> {
    value.try_into().map_err(|_| format!("{value} is too large for a date or time"))
}

fn decimal(field: &Field, scale: i8, array: BinaryArray) -> Result<(FieldRef, ArrayRef), String> {
    let mut named = logical::named(field.clone(), logical::DECIMAL).with_data_type(DataType::Binary);
    let mut metadata = field.metadata().clone();
    metadata.extend(named.metadata().iter().map(|(key, value)| (key.clone(), value.clone())));
    metadata.insert(SCHEMA_PARAMETERS.to_owned(), format!("{{\"scale\":\"{scale}\"}}"));
    named.set_metadata(metadata);
    Ok((Arc::new(named), Arc::new(array)))
}

/// Two's complement without the leading bytes that say nothing.
fn shortest(bytes: &[u8]) -> Vec<u8> {
    let mut from = 0;
    while from + 1 < bytes.len() {
        let (first, sign) = (bytes[from], bytes[from + 1] & 0x80 != 0);
        if first == 0 && !sign || first == 0xff && sign {
            from += 1;
        } else {
            break;
        }
    }
    bytes[from..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        Decimal128Array, DictionaryArray, Int32Array, LargeStringArray, TimestampNanosecondArray, UInt8Array,
        UInt64Array,
    };

    use crate::converter::{Converter, JsonConverter};

    fn json(name: &str, array: ArrayRef) -> Result<String, String> {
        let field = Arc::new(Field::new(name, array.data_type().clone(), true));
        let structs = StructArray::from(vec![(field, array)]);
        let column = Column::new(Field::new("", structs.data_type().clone(), true), Arc::new(structs));
        let mut converter = JsonConverter::default();
        let config = [("schemas.enable", "false"), ("decimal.format", "NUMERIC")].into_iter().collect();
        converter.configure(&config, false).unwrap();
        let answer = converter.from_connect("t", &column);
        match answer.failures.into_iter().next() {
            Some(failure) => Err(failure.message),
            None => Ok(String::from_utf8(answer.data.value(0).to_vec()).unwrap()),
        }
    }

    #[test]
    fn foreign_types_become_connects() {
        let dictionary: DictionaryArray<arrow_array::types::Int8Type> = ["x", "y"].into_iter().collect();
        let list = ListArray::from_iter_primitive::<UInt32Type, _, _>([Some([Some(1), None])]);
        for (array, expected) in [
            (Arc::new(UInt8Array::from(vec![255])) as ArrayRef, r#"{"f":255}"#),
            (Arc::new(LargeStringArray::from(vec!["x"])), r#"{"f":"x"}"#),
            (Arc::new(TimestampNanosecondArray::from(vec![1_500_000_999])), r#"{"f":1500}"#),
            (
                Arc::new(Decimal128Array::from(vec![-12345]).with_precision_and_scale(10, 3).unwrap()),
                r#"{"f":-12.345}"#,
            ),
            (Arc::new(dictionary), r#"{"f":"x"}"#),
            (Arc::new(list), r#"{"f":[1,null]}"#),
            (Arc::new(Int32Array::from(vec![1])), r#"{"f":1}"#),
        ] {
            assert_eq!(json("f", array).unwrap(), expected);
        }
        assert_eq!(
            json("f", Arc::new(UInt64Array::from(vec![u64::MAX]))).unwrap_err(),
            "18446744073709551615 of field f is beyond int64"
        );
        let duration = Arc::new(arrow_array::DurationSecondArray::from(vec![1]));
        assert_eq!(json("f", duration).unwrap_err(), "Couldn't translate unsupported schema type Duration(s).");
    }
}
