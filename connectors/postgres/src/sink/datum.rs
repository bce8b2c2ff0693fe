//! Single values on their way into a table, and the columns that they come from.

use std::borrow::Cow;

use serde_json::value::RawValue;
use tributary_sdk::arrow::array::cast::AsArray;
use tributary_sdk::arrow::array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMicrosecondType, TimestampMillisecondType,
};
use tributary_sdk::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
    StringArray, StructArray,
};
use tributary_sdk::arrow::schema::{DataType, FieldRef, TimeUnit};
use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_PARAMETERS};
use tributary_sdk::{Cell, Error, Result};

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Datum<'a> {
    Null,
    Bool(bool),
    Int(i64),
    F32(f32),
    F64(f64),
    Str(&'a str),
    /// A text that is a JSON document.
    Document(&'a str),
    Bytes(&'a [u8]),
    /// Two's complement, and how many digits stand behind the point.
    Decimal(&'a [u8], i32),
    /// Days since 1970.
    Date(i64),
    /// Microseconds of the day.
    Time(i64),
    /// Microseconds since 1970, UTC.
    ///
    /// The ends of the range are infinity.
    Timestamp(i64),
    /// A time that 64 bits of microseconds do not hold.
    Beyond,
    /// Microseconds.
    Duration(i64),
    /// Bits, the least first, and how many there are, if that is known.
    Bits(&'a [u8], Option<usize>),
    /// A value of a JSON document, as it stands there.
    Json(&'a str),
    Point(f64, f64),
    /// Items of a column.
    List(&'a Values, std::ops::Range<usize>),
    /// A structure or a map, in its column.
    Nested(&'a ArrayRef, &'a FieldRef, usize),
}

/// Sorts of columns that make a difference for how their values go to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
    Str,
    Zoned,
    Bytes,
    Decimal,
    Date,
    Time,
    Timestamp,
    Duration,
    Bits,
    Point,
    List,
    Nested,
    /// Each value tells.
    Json,
}

/// A column of values.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Bool(BooleanArray),
    Int8(tributary_sdk::arrow::array::Int8Array),
    Int16(tributary_sdk::arrow::array::Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    F32(Float32Array),
    F64(Float64Array),
    Str(StringArray),
    /// Texts that are JSON documents.
    Documents(StringArray),
    /// Texts that are timestamps with their zone.
    Zoned(StringArray),
    Bytes(BinaryArray),
    Decimal(BinaryArray, i32),
    /// Scale and value.
    VariableDecimal(StructArray, Int32Array, BinaryArray),
    Date(Int32Array),
    /// Times of day in milliseconds.
    TimeMs(Int32Array),
    /// In microseconds, multiplied by the one and divided by the other number.
    Time(Int64Array, i64),
    Timestamp(Int64Array, i64, i64),
    Duration(Int64Array, i64),
    Bits(BinaryArray, Option<usize>),
    Point(StructArray, Float64Array, Float64Array),
    List(ListArray, Box<Values>),
    Nested(ArrayRef, FieldRef),
    /// Documents, and where in each of them the value stands.
    Json(StringArray, Vec<Option<(u32, u32)>>),
    /// The same for all rows.
    Constant(String),
    ConstantInt(i64),
    /// Nothing but null.
    Nothing,
}

impl Values {
    /// The values of a structured column, by its schema.
    pub fn of(array: &ArrayRef, field: &FieldRef) -> Result<Self> {
        let name = field.metadata().get(SCHEMA_NAME).map_or("", String::as_str);
        let millis = |array: &ArrayRef| array.as_primitive::<Int32Type>().clone();
        let long = |array: &ArrayRef| array.as_primitive::<Int64Type>().clone();
        Ok(match (array.data_type(), name) {
            (DataType::Boolean, _) => Self::Bool(array.as_boolean().clone()),
            (DataType::Int8, _) => Self::Int8(array.as_primitive::<Int8Type>().clone()),
            (DataType::Int16, _) => Self::Int16(array.as_primitive::<Int16Type>().clone()),
            (DataType::Int32, "io.debezium.time.Date") => Self::Date(millis(array)),
            (DataType::Int32, "io.debezium.time.Time") => Self::TimeMs(millis(array)),
            (DataType::Int32, _) => Self::Int32(millis(array)),
            (DataType::Int64, "io.debezium.time.Timestamp") => Self::Timestamp(long(array), 1000, 1),
            (DataType::Int64, "io.debezium.time.MicroTimestamp") => Self::Timestamp(long(array), 1, 1),
            (DataType::Int64, "io.debezium.time.NanoTimestamp") => Self::Timestamp(long(array), 1, 1000),
            (DataType::Int64, "io.debezium.time.MicroTime") => Self::Time(long(array), 1),
            (DataType::Int64, "io.debezium.time.NanoTime") => Self::Time(long(array), 1000),
            (DataType::Int64, "io.debezium.time.MicroDuration") => Self::Duration(long(array), 1),
            (DataType::Int64, "io.debezium.time.NanoDuration") => Self::Duration(long(array), 1000),
            (DataType::Int64, _) => Self::Int64(long(array)),
            (DataType::Float32, _) => Self::F32(array.as_primitive::<Float32Type>().clone()),
            (DataType::Float64, _) => Self::F64(array.as_primitive::<Float64Type>().clone()),
            (DataType::Utf8, "io.debezium.data.Json") => Self::Documents(array.as_string::<i32>().clone()),
            (DataType::Utf8, "io.debezium.time.ZonedTimestamp") => Self::Zoned(array.as_string::<i32>().clone()),
            (DataType::Utf8, _) => Self::Str(array.as_string::<i32>().clone()),
            (DataType::Binary, DECIMAL) => {
                Self::Decimal(array.as_binary::<i32>().clone(), parameter(field, "scale").unwrap_or(0))
            }
            (DataType::Binary, "io.debezium.data.Bits") => {
                let length = parameter::<usize>(field, "length").filter(|length| *length < i32::MAX as usize);
                Self::Bits(array.as_binary::<i32>().clone(), length)
            }
            (DataType::Binary, _) => Self::Bytes(array.as_binary::<i32>().clone()),
            (DataType::Date32, _) => Self::Date(array.as_primitive::<Date32Type>().reinterpret_cast::<Int32Type>()),
            (DataType::Time32(TimeUnit::Millisecond), _) => {
                Self::TimeMs(array.as_primitive::<Time32MillisecondType>().reinterpret_cast::<Int32Type>())
            }
            (DataType::Timestamp(TimeUnit::Millisecond, _), _) => Self::Timestamp(
                array.as_primitive::<TimestampMillisecondType>().reinterpret_cast::<Int64Type>(),
                1000,
                1,
            ),
            (DataType::Timestamp(TimeUnit::Microsecond, _), _) => {
                Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>(), 1, 1)
            }
            (DataType::Struct(_), "io.debezium.data.VariableScaleDecimal") => {
                let parts = array.as_struct();
                let member = |name: &str| parts.column_by_name(name);
                match (member("scale"), member("value")) {
                    (Some(scale), Some(value))
                        if *scale.data_type() == DataType::Int32 && *value.data_type() == DataType::Binary =>
                    {
                        Self::VariableDecimal(parts.clone(), millis(scale), value.as_binary::<i32>().clone())
                    }
                    _ => Self::Nested(array.clone(), field.clone()),
                }
            }
            (DataType::Struct(_), "io.debezium.data.geometry.Point") => {
                let parts = array.as_struct();
                match (parts.column_by_name("x"), parts.column_by_name("y")) {
                    (Some(x), Some(y))
                        if *x.data_type() == DataType::Float64 && *y.data_type() == DataType::Float64 =>
                    {
                        Self::Point(
                            parts.clone(),
                            x.as_primitive::<Float64Type>().clone(),
                            y.as_primitive::<Float64Type>().clone(),
                        )
                    }
                    _ => Self::Nested(array.clone(), field.clone()),
                }
            }
            (DataType::List(item), _) => {
                let list = array.as_list::<i32>();
                Self::List(list.clone(), Box::new(Self::of(list.values(), item)?))
            }
            (DataType::Struct(_) | DataType::Map(..), _) => Self::Nested(array.clone(), field.clone()),
            (DataType::Null, _) => Self::Nothing,
            (other, _) => {
                return Err(Error::failed(format!(
                    "the field {} has the type {other}, which cannot be written to PostgreSQL",
                    field.name()
                )));
            }
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::Int8(_) | Self::Int16(_) | Self::Int32(_) | Self::Int64(_) | Self::ConstantInt(_) => Kind::Int,
            Self::F32(_) | Self::F64(_) => Kind::Float,
            Self::Str(_) | Self::Documents(_) | Self::Constant(_) | Self::Nothing => Kind::Str,
            Self::Zoned(_) => Kind::Zoned,
            Self::Bytes(_) => Kind::Bytes,
            Self::Decimal(..) | Self::VariableDecimal(..) => Kind::Decimal,
            Self::Date(_) => Kind::Date,
            Self::TimeMs(_) | Self::Time(..) => Kind::Time,
            Self::Timestamp(..) => Kind::Timestamp,
            Self::Duration(..) => Kind::Duration,
            Self::Bits(..) => Kind::Bits,
            Self::Point(..) => Kind::Point,
            Self::List(..) => Kind::List,
            Self::Nested(..) => Kind::Nested,
            Self::Json(..) => Kind::Json,
        }
    }

    /// Whether the row has a value here at all, be it null.
    pub fn has(&self, row: usize) -> bool {
        match self {
            Self::Json(_, places) => places[row].is_some(),
            _ => true,
        }
    }

    /// Whether the value is what sources write for one that has not changed.
    pub fn is(&self, row: usize, placeholder: &Placeholder) -> bool {
        if placeholder.text.is_empty() {
            return false;
        }
        match self {
            // The length first, which needs no look at the text.
            Self::Str(array) | Self::Documents(array) | Self::Zoned(array) => {
                let length = array.value_length(row) as usize;
                placeholder.lengths.contains(&length) && array.is_valid(row) && placeholder.is_text(array.value(row))
            }
            Self::Bytes(array) => {
                array.value_length(row) as usize == placeholder.text.len()
                    && array.value(row) == placeholder.text.as_bytes()
                    && array.is_valid(row)
            }
            Self::Json(..) => matches!(self.get(row), Datum::Json(raw) if placeholder.is_json(raw)),
            Self::List(array, items) => {
                let (from, to) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                array.is_valid(row) && to == from + 1 && items.is(from, placeholder)
            }
            Self::Nested(array, _) if matches!(array.data_type(), DataType::Map(..)) && array.is_valid(row) => {
                let entries = array.as_map().value(row);
                let text = |column: &ArrayRef| {
                    let texts = column.as_string_opt::<i32>();
                    texts.is_some_and(|texts| texts.is_valid(0) && texts.value(0) == placeholder.text)
                };
                entries.len() == 1 && entries.columns().iter().all(text)
            }
            _ => false,
        }
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Datum<'_> {
        macro_rules! of {
            ($array:expr, $make:expr) => {
                if $array.is_valid(row) { $make($array.value(row)) } else { Datum::Null }
            };
        }
        match self {
            Self::Bool(array) => of!(array, Datum::Bool),
            Self::Int8(array) => of!(array, |n| Datum::Int(i64::from(n))),
            Self::Int16(array) => of!(array, |n| Datum::Int(i64::from(n))),
            Self::Int32(array) => of!(array, |n| Datum::Int(i64::from(n))),
            Self::Int64(array) => of!(array, Datum::Int),
            Self::F32(array) => of!(array, Datum::F32),
            Self::F64(array) => of!(array, Datum::F64),
            Self::Str(array) | Self::Zoned(array) => of!(array, Datum::Str),
            Self::Documents(array) => of!(array, Datum::Document),
            Self::Bytes(array) => of!(array, Datum::Bytes),
            Self::Decimal(array, scale) => of!(array, |bytes| Datum::Decimal(bytes, *scale)),
            Self::VariableDecimal(parts, scale, value) => {
                if parts.is_valid(row) && value.is_valid(row) && scale.is_valid(row) {
                    Datum::Decimal(value.value(row), scale.value(row))
                } else {
                    Datum::Null
                }
            }
            Self::Date(array) => of!(array, |n| Datum::Date(i64::from(n))),
            Self::TimeMs(array) => of!(array, |n| Datum::Time(i64::from(n) * 1000)),
            Self::Time(array, divisor) => of!(array, |n: i64| Datum::Time(n.div_euclid(*divisor))),
            Self::Timestamp(array, factor, divisor) => {
                of!(array, |n: i64| timestamp(n, *factor, *divisor))
            }
            Self::Duration(array, divisor) => of!(array, |n: i64| Datum::Duration(n.div_euclid(*divisor))),
            Self::Bits(array, length) => of!(array, |bytes| Datum::Bits(bytes, *length)),
            Self::Point(parts, x, y) => {
                if parts.is_valid(row) && x.is_valid(row) && y.is_valid(row) {
                    Datum::Point(x.value(row), y.value(row))
                } else {
                    Datum::Null
                }
            }
            Self::List(array, items) if array.is_valid(row) => {
                let offsets = array.value_offsets();
                Datum::List(items, offsets[row] as usize..offsets[row + 1] as usize)
            }
            Self::List(..) => Datum::Null,
            Self::Nested(array, field) => {
                if array.is_valid(row) {
                    Datum::Nested(array, field, row)
                } else {
                    Datum::Null
                }
            }
            Self::Json(documents, places) => match places[row] {
                Some((from, to)) => match &documents.value(row)[from as usize..to as usize] {
                    "null" => Datum::Null,
                    raw => Datum::Json(raw),
                },
                None => Datum::Null,
            },
            Self::Constant(text) => Datum::Str(text),
            Self::ConstantInt(number) => Datum::Int(*number),
            Self::Nothing => Datum::Null,
        }
    }
}

/// What stands for a value that has not changed, in the forms that sources and converters give it.
#[derive(Debug, Clone)]
pub(super) struct Placeholder {
    text: String,
    /// What it is as a text: itself; its bytes in base64, also with - and _, and in hexadecimal; the map of `hstore` as JSON.
    texts: Vec<String>,
    lengths: Vec<usize>,
}

impl Placeholder {
    /// Of the text; empty: there is none.
    pub fn new(text: &str) -> Self {
        use base64::Engine;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE};
        let mut texts = vec![
            text.to_owned(),
            STANDARD.encode(text),
            URL_SAFE.encode(text),
            text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            serde_json::json!({ text: text }).to_string(),
        ];
        texts.dedup();
        let lengths = texts.iter().map(String::len).collect();
        Self { text: text.to_owned(), texts, lengths }
    }

    fn is_text(&self, text: &str) -> bool {
        self.texts.iter().any(|form| form == text)
    }

    /// Whether a value of a JSON document is it, or a list or an object of nothing else.
    fn is_json(&self, raw: &str) -> bool {
        // Whatever is shorter or much longer is something else, and need not be read.
        if raw.len() < self.text.len() + 2 || raw.len() > 8 * self.text.len() + 64 {
            return false;
        }
        match raw.as_bytes().first() {
            Some(b'"') => unquoted(raw).is_some_and(|text| self.is_text(&text)),
            Some(b'[') => {
                let items: Result<Vec<&RawValue>, _> = serde_json::from_str(raw);
                items.is_ok_and(|items| items.len() == 1 && self.is_json(items[0].get()))
            }
            Some(b'{') => {
                let members: Result<Members<'_>, _> = serde_json::from_str(raw);
                members.is_ok_and(|members| {
                    let only = |(name, value): &(Cow<'_, str>, &RawValue)| {
                        *name == self.text && unquoted(value.get()).is_some_and(|text| text == self.text)
                    };
                    members.0.len() == 1 && members.0.iter().all(only)
                })
            }
            _ => false,
        }
    }
}

/// A timestamp in some unit.
fn timestamp(number: i64, factor: i64, divisor: i64) -> Datum<'static> {
    // What sources make of infinity, in the unit of the column: Java's own infinite dates.
    const INFINITY: (i64, i64) = (-9_223_372_036_832_400_000, 9_223_372_036_825_200_000);
    match number {
        number if number >= INFINITY.1 => Datum::Timestamp(i64::MAX),
        number if number <= INFINITY.0 => Datum::Timestamp(i64::MIN),
        number => {
            number.checked_mul(factor).map_or(Datum::Beyond, |micros| Datum::Timestamp(micros.div_euclid(divisor)))
        }
    }
}

/// A parameter of a field's schema.
pub(super) fn parameter<T: std::str::FromStr>(field: &FieldRef, name: &str) -> Option<T> {
    let parameters: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(field.metadata().get(SCHEMA_PARAMETERS)?).ok()?;
    parameters.get(name)?.as_str()?.parse().ok()
}

/// A text of a JSON document, without its quotes and escapes.
pub(super) fn unquoted(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

/// A structure as JSON.
pub(super) fn nested_json(array: &ArrayRef, field: &FieldRef, row: usize) -> Result<String, String> {
    Cell::Structured(array, field, row).to_json().map(|value| value.to_string()).map_err(|error| error.to_string())
}

/// The members of a JSON object, with their values as they stand there.
pub(super) struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// A member's name, not copied where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
