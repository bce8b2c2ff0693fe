//! What an expression gives.

use arrow_schema::{DataType, Field};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString,
    CelTimestamp, CelUInt,
};
use cel::common::value::Val;
use tributary_sdk::batch::SCHEMA_NAME;

use crate::converter::json::{decimal, logical, text};
use crate::transform::json::{Json, Key};

/// A value that an expression gave.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Answer {
    Null,
    /// `optional.none()`: no value, where null would be one.
    Missing,
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    /// Milliseconds.
    Duration(i64),
    List(Vec<Answer>),
    /// Names in the order in which the expression has them; others behind, sorted.
    Map(Vec<(String, Answer)>),
}

impl Answer {
    pub(super) fn of(value: &dyn Val, order: &[String]) -> Result<Self, String> {
        if let Some(text) = value.downcast_ref::<CelString<'_>>() {
            return Ok(Self::Text(text.inner().to_owned()));
        }
        if let Some(number) = value.downcast_ref::<CelInt>() {
            return Ok(Self::Integer(*number.inner()));
        }
        if let Some(answer) = value.downcast_ref::<CelBool>() {
            return Ok(Self::Boolean(*answer.inner()));
        }
        if let Some(number) = value.downcast_ref::<CelDouble>() {
            return Ok(Self::Double(*number.inner()));
        }
        if value.downcast_ref::<CelNull>().is_some() {
            return Ok(Self::Null);
        }
        if let Some(number) = value.downcast_ref::<CelUInt>() {
            return Ok(Self::Unsigned(*number.inner()));
        }
        if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
            return Ok(Self::Bytes(bytes.inner().to_owned()));
        }
        if let Some(time) = value.downcast_ref::<CelTimestamp>() {
            return Ok(Self::Timestamp(time.inner().timestamp_millis()));
        }
        if let Some(length) = value.downcast_ref::<CelDuration>() {
            return Ok(Self::Duration(length.inner().num_milliseconds()));
        }
        if let Some(optional) = value.downcast_ref::<CelOptional<'_>>() {
            return optional.inner().map_or(Ok(Self::Missing), |inner| Self::of(inner, order));
        }
        if let Some(list) = value.downcast_ref::<CelList<'_>>() {
            return Ok(Self::List(
                list.inner().iter().map(|item| Self::of(item.as_ref(), order)).collect::<Result<_, _>>()?,
            ));
        }
        if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
            let mut entries = Vec::with_capacity(map.inner().len());
            for (key, value) in map.inner() {
                let name = match key {
                    CelMapKey::String(name) => name.inner().to_owned(),
                    CelMapKey::Int(number) => number.inner().to_string(),
                    CelMapKey::UInt(number) => number.inner().to_string(),
                    CelMapKey::Bool(answer) => answer.inner().to_string(),
                };
                entries.push((name, Self::of(value.as_ref(), order)?));
            }
            let place = |name: &String| order.iter().position(|known| known == name).unwrap_or(usize::MAX);
            entries.sort_by(|(a, _), (b, _)| (place(a), a).cmp(&(place(b), b)));
            return Ok(Self::Map(entries));
        }
        Err(format!("the result is of type {}, which is no value of a record", value.get_type().name()))
    }

    /// The type's name in CEL.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Missing => "optional.none()",
            Self::Boolean(_) => "bool",
            Self::Integer(_) => "int",
            Self::Unsigned(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "timestamp",
            Self::Duration(_) => "duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// As a schemaless value: integers and texts as they are, bytes in base64, timestamps and durations as milliseconds.
    pub fn to_json(&self) -> Json<'static> {
        match self {
            Self::Null | Self::Missing => Json::NULL,
            Self::Boolean(answer) => Json::text(if *answer { "true" } else { "false" }),
            Self::Integer(number) | Self::Timestamp(number) | Self::Duration(number) => Json::integer(*number),
            Self::Unsigned(number) => Json::Text(number.to_string().into()),
            // JSON has no NaN; Kafka Connect writes a text.
            Self::Double(number) if !number.is_finite() => Json::string(&text::java_double(*number)),
            Self::Double(number) => Json::Text(text::java_double(*number).into()),
            Self::Text(text) => Json::string(text),
            Self::Bytes(bytes) => Json::string(&STANDARD.encode(bytes)),
            Self::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(entries) => {
                let member = |(name, value): &(String, Self)| (Key::new(name), value.to_json());
                Json::Object(entries.iter().filter(|(_, value)| *value != Self::Missing).map(member).collect())
            }
        }
    }

    /// As Kafka Connect's JSON converter writes a value of a type, to be read as a column of it.
    pub fn to_payload(&self, field: &Field) -> Result<String, String> {
        let mut out = String::new();
        self.write_payload(field, &mut out)?;
        Ok(out)
    }

    fn write_payload(&self, field: &Field, out: &mut String) -> Result<(), String> {
        let wrong = || {
            let of = if field.name().is_empty() { String::new() } else { format!(" of {}", field.name()) };
            Err(format!(
                "the value{of} is of type {} here, and the expression's type is {}",
                self.type_name(),
                field.data_type()
            ))
        };
        let is_decimal = field.metadata().get(SCHEMA_NAME).is_some_and(|name| name == logical::DECIMAL);
        match (self, field.data_type()) {
            (Self::Null | Self::Missing, _) => out.push_str("null"),
            (Self::Boolean(answer), DataType::Boolean) => out.push_str(if *answer { "true" } else { "false" }),
            (
                Self::Integer(number),
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Timestamp(..),
            ) => text::write_integer(out, *number),
            (Self::Unsigned(number), DataType::Int64) => out.push_str(&number.to_string()),
            (Self::Integer(number), DataType::Float32 | DataType::Float64) => {
                text::write_java_double(out, *number as f64)
            }
            (Self::Double(number), DataType::Float32 | DataType::Float64) => match number.is_finite() {
                true => text::write_java_double(out, *number),
                false => text::write_string(out, &text::java_double(*number)),
            },
            (Self::Double(number), DataType::Binary) if is_decimal => {
                let digits = decimal::from_text(&number.to_string(), decimal::scale(field)?)?;
                text::write_string(out, &STANDARD.encode(digits));
            }
            (Self::Text(value), DataType::Utf8) => text::write_string(out, value),
            (Self::Bytes(bytes), DataType::Binary) if !is_decimal => text::write_string(out, &STANDARD.encode(bytes)),
            (Self::Timestamp(ms), DataType::Timestamp(..)) => text::write_integer(out, *ms),
            (Self::Timestamp(ms), DataType::Date32) => text::write_integer(out, ms.div_euclid(86_400_000)),
            (Self::Duration(ms), DataType::Time32(_) | DataType::Int64) => text::write_integer(out, *ms),
            (Self::List(items), DataType::List(item)) => {
                out.push('[');
                for (i, value) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    value.write_payload(item, out)?;
                }
                out.push(']');
            }
            (Self::Map(entries), DataType::Struct(fields)) => {
                if let Some((name, _)) =
                    entries.iter().find(|(name, _)| !fields.iter().any(|field| field.name() == name))
                {
                    return Err(format!(
                        "the field {name} is not among those that the expression has in other records"
                    ));
                }
                out.push('{');
                for (i, field) in fields.iter().enumerate() {
                    out.push_str(if i > 0 { ",\"" } else { "\"" });
                    text::write_escaped(out, field.name());
                    out.push_str("\":");
                    match entries.iter().find(|(name, _)| name == field.name()) {
                        Some((_, value)) => value.write_payload(field, out)?,
                        None => out.push_str("null"),
                    }
                }
                out.push('}');
            }
            (Self::Map(entries), DataType::Map(pair, _)) => {
                let DataType::Struct(pair) = pair.data_type() else { return wrong() };
                if *pair[0].data_type() != DataType::Utf8 {
                    return Err("only maps whose keys are texts can be the result of an expression".to_owned());
                }
                out.push('{');
                for (i, (name, value)) in entries.iter().enumerate() {
                    out.push_str(if i > 0 { ",\"" } else { "\"" });
                    text::write_escaped(out, name);
                    out.push_str("\":");
                    value.write_payload(&pair[1], out)?;
                }
                out.push('}');
            }
            _ => return wrong(),
        }
        Ok(())
    }
}
