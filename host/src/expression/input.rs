//! From a record to CEL's values: only what an expression needs of it.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field};
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp,
    CelUInt,
};
use cel::common::value::Val;
use tributary_sdk::batch::SCHEMA_NAME;

use super::need::Need;
use crate::converter::header_schema::type_name;
use crate::converter::json::syntax::{Items, Kind, Members};
use crate::converter::json::{self, decimal, logical, text};
use crate::transform::headers::Header;
use crate::transform::json::Json;

/// Longest list or map in an expression that nests macros.
const MAX_NESTED: usize = 1000;

/// A name that expressions may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Variable {
    Value,
    Key,
    Headers,
    Topic,
    Timestamp,
    Partition,
    Offset,
}

impl Variable {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "v" | "value" => Self::Value,
            "k" | "key" => Self::Key,
            "h" | "headers" => Self::Headers,
            "topic" => Self::Topic,
            "timestamp" => Self::Timestamp,
            "partition" => Self::Partition,
            "offset" => Self::Offset,
            _ => return None,
        })
    }

    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Value => &["v", "value"],
            Self::Key => &["k", "key"],
            Self::Headers => &["h", "headers"],
            Self::Topic => &["topic"],
            Self::Timestamp => &["timestamp"],
            Self::Partition => &["partition"],
            Self::Offset => &["offset"],
        }
    }
}

/// Where a key or value comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'r> {
    /// A schemaless document; `None` is null.
    Json(Option<&'r Json<'r>>),
    /// A row of a column.
    Column(&'r Field, &'r ArrayRef, usize),
}

/// A record, as an expression sees it. Each is asked for only if the expression names it.
pub trait Record {
    /// The value.
    fn value(&self) -> Source<'_>;
    /// The key.
    fn key(&self) -> Source<'_>;
    /// The headers.
    fn headers(&self) -> Box<dyn Iterator<Item = Header<'_>> + '_>;
    /// The topic.
    fn topic(&self) -> &str;
    /// Milliseconds since the epoch.
    fn timestamp(&self) -> Option<i64>;
    /// Kafka's partition.
    fn partition(&self) -> Option<i32>;
    /// Kafka's offset.
    fn offset(&self) -> Option<i64>;
}

pub(super) type Cel<'v> = Box<dyn Val + 'v>;

/// A variable's value.
pub(super) fn variable<'v>(
    record: &'v dyn Record,
    variable: Variable,
    need: &Need,
    nested: bool,
) -> Result<Cel<'v>, String> {
    let limits = Limits { nested };
    let source = |source: Source<'v>| match source {
        Source::Json(None) => Ok(Box::new(CelNull) as Cel<'v>),
        Source::Json(Some(document)) => limits.json(document, need),
        Source::Column(field, array, row) => limits.column(field, array, row, need),
    };
    let integer = |number: Option<i64>| match number {
        Some(number) => Box::new(CelInt::from(number)) as Cel<'v>,
        None => Box::new(CelNull),
    };
    Ok(match variable {
        Variable::Value => source(record.value())?,
        Variable::Key => source(record.key())?,
        Variable::Headers => {
            let mut map: HashMap<CelMapKey<'v>, Cel<'v>> = HashMap::new();
            for found in record.headers() {
                if need.of(found.key).is_some() {
                    map.insert(CelMapKey::from(found.key), header(&found));
                }
            }
            Box::new(CelMap::from(map))
        }
        Variable::Topic => Box::new(CelString::from(record.topic())),
        Variable::Timestamp => match record.timestamp() {
            Some(ms) => time(ms)?,
            None => Box::new(CelNull),
        },
        Variable::Partition => integer(record.partition().map(i64::from)),
        Variable::Offset => integer(record.offset()),
    })
}

fn time<'v>(ms: i64) -> Result<Cel<'v>, String> {
    let time = chrono::DateTime::from_timestamp_millis(ms)
        .ok_or_else(|| format!("the time {ms} ms is beyond what expressions can hold"))?;
    Ok(Box::new(CelTimestamp::from(time.fixed_offset())))
}

/// By its schema; text and bytes where it has none.
fn header<'v>(header: &Header<'v>) -> Cel<'v> {
    let Some(bytes) = header.value else { return Box::new(CelNull) };
    let Ok(text) = std::str::from_utf8(bytes) else { return Box::new(CelBytes::from(bytes)) };
    match header.schema.map(type_name) {
        Some("int8" | "int16" | "int32" | "int64") => {
            if let Ok(number) = text.parse::<i64>() {
                return Box::new(CelInt::from(number));
            }
        }
        Some("float32" | "float64") => {
            if let Ok(number) = text.parse::<f64>() {
                return Box::new(CelDouble::from(number));
            }
        }
        Some("boolean") if text == "true" || text == "false" => return Box::new(CelBool::from(text == "true")),
        _ => {}
    }
    Box::new(CelString::from(text))
}

fn string(text: Cow<'_, str>) -> CelString<'_> {
    CelString::from(text)
}

fn map_key(name: Cow<'_, str>) -> CelMapKey<'_> {
    match name {
        Cow::Borrowed(name) => CelMapKey::from(name),
        Cow::Owned(name) => CelMapKey::from(name),
    }
}

struct Limits {
    nested: bool,
}

impl Limits {
    fn check(&self, entries: usize) -> Result<(), String> {
        if self.nested && entries > MAX_NESTED {
            return Err(format!(
                "a list or map of {entries} entries is too long for an expression that nests macros (limit {MAX_NESTED})"
            ));
        }
        Ok(())
    }

    fn json<'v>(&self, value: &'v Json<'v>, need: &Need) -> Result<Cel<'v>, String> {
        match value {
            Json::Text(text) => self.json_text(text, need),
            Json::Object(object) => {
                let mut map: HashMap<CelMapKey<'v>, Cel<'v>> = HashMap::new();
                for (key, value) in object.members() {
                    let name = key.name();
                    if let Some(need) = need.of(&name) {
                        map.insert(map_key(name), self.json(value, need)?);
                    }
                }
                self.check(map.len())?;
                Ok(Box::new(CelMap::from(map)))
            }
            Json::Array(items) => {
                self.check(items.len())?;
                let items: Result<Vec<_>, _> = items.iter().map(|item| self.json(item, Need::WHOLE)).collect();
                Ok(Box::new(CelList::from(items?)))
            }
        }
    }

    fn json_text<'v>(&self, raw: &'v str, need: &Need) -> Result<Cel<'v>, String> {
        let broken = |error: crate::converter::json::syntax::SyntaxError| crate::transform::part::not_json(error);
        Ok(match Kind::of(raw) {
            Kind::Null => Box::new(CelNull),
            Kind::Boolean => Box::new(CelBool::from(raw == "true")),
            Kind::String => Box::new(string(text::string_value(raw))),
            Kind::Number => {
                if let Ok(whole) = raw.parse::<i64>() {
                    Box::new(CelInt::from(whole))
                } else if let Ok(whole) = raw.parse::<u64>() {
                    Box::new(CelUInt::from(whole))
                } else {
                    let double = raw.parse::<f64>().map_err(|_| format!("{raw} is not a number"))?;
                    Box::new(CelDouble::from(double))
                }
            }
            Kind::Array => {
                let mut list: Vec<Cel<'v>> = Vec::new();
                for item in Items::of(raw).into_iter().flatten() {
                    // A list is used as a whole or not at all.
                    list.push(self.json_text(item.map_err(broken)?.trim_ascii(), Need::WHOLE)?);
                }
                self.check(list.len())?;
                Box::new(CelList::from(list))
            }
            Kind::Object => {
                let mut map: HashMap<CelMapKey<'v>, Cel<'v>> = HashMap::new();
                for member in Members::of(raw).into_iter().flatten() {
                    let member = member.map_err(broken)?;
                    let name = if member.escaped { text::unescape(member.key) } else { Cow::Borrowed(member.key) };
                    if let Some(need) = need.of(&name) {
                        map.insert(map_key(name), self.json_text(member.value.trim_ascii(), need)?);
                    }
                }
                self.check(map.len())?;
                Box::new(CelMap::from(map))
            }
        })
    }

    fn column<'v>(&self, field: &Field, array: &'v ArrayRef, row: usize, need: &Need) -> Result<Cel<'v>, String> {
        if array.is_null(row) {
            return Ok(Box::new(CelNull));
        }
        let integer = |number: i64| Ok(Box::new(CelInt::from(number)) as Cel<'v>);
        match field.data_type() {
            DataType::Boolean => Ok(Box::new(CelBool::from(array.as_boolean().value(row)))),
            DataType::Int8 => integer(array.as_primitive::<Int8Type>().value(row).into()),
            DataType::Int16 => integer(array.as_primitive::<Int16Type>().value(row).into()),
            DataType::Int32 => integer(array.as_primitive::<Int32Type>().value(row).into()),
            DataType::Int64 => integer(array.as_primitive::<Int64Type>().value(row)),
            DataType::Float32 => {
                Ok(Box::new(CelDouble::from(f64::from(array.as_primitive::<Float32Type>().value(row)))))
            }
            DataType::Float64 => Ok(Box::new(CelDouble::from(array.as_primitive::<Float64Type>().value(row)))),
            DataType::Utf8 => Ok(Box::new(CelString::from(array.as_string::<i32>().value(row)))),
            DataType::Date32 => time(i64::from(array.as_primitive::<Date32Type>().value(row)) * 86_400_000),
            DataType::Timestamp(..) => time(array.as_primitive::<TimestampMillisecondType>().value(row)),
            DataType::Time32(_) => {
                let ms = array.as_primitive::<Time32MillisecondType>().value(row);
                Ok(Box::new(CelDuration::from(chrono::Duration::milliseconds(ms.into()))))
            }
            DataType::Binary if field.metadata().get(SCHEMA_NAME).is_some_and(|name| name == logical::DECIMAL) => {
                let digits = decimal::to_text(array.as_binary::<i32>().value(row), decimal::scale(field)?);
                let double = digits.parse::<f64>().map_err(|_| format!("{digits} is not a number"))?;
                Ok(Box::new(CelDouble::from(double)))
            }
            DataType::Binary => Ok(Box::new(CelBytes::from(array.as_binary::<i32>().value(row)))),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
                self.check(to - from)?;
                let items: Result<Vec<_>, _> =
                    (from..to).map(|i| self.column(item, list.values(), i, Need::WHOLE)).collect();
                Ok(Box::new(CelList::from(items?)))
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let map = array.as_map();
                let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
                self.check(to - from)?;
                let mut found: HashMap<CelMapKey<'v>, Cel<'v>> = HashMap::new();
                for i in from..to {
                    let key = self.column(&pair[0], map.keys(), i, Need::WHOLE)?;
                    let key = CelMapKey::try_from(key).map_err(|error| error.to_string())?;
                    found.insert(key, self.column(&pair[1], map.values(), i, Need::WHOLE)?);
                }
                Ok(Box::new(CelMap::from(found)))
            }
            DataType::Struct(fields) => {
                let structs = array.as_struct();
                let mut found: HashMap<CelMapKey<'v>, Cel<'v>> = HashMap::new();
                for (i, member) in fields.iter().enumerate() {
                    if let Some(need) = need.of(member.name()) {
                        let name = CelMapKey::from(member.name().clone());
                        found.insert(name, self.column(member, structs.column(i), row, need)?);
                    }
                }
                Ok(Box::new(CelMap::from(found)))
            }
            other => Err(format!("expressions cannot read values of type {}", json::type_name(other))),
        }
    }
}
