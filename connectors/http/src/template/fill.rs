//! Records into templates.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tributary_sdk::Cell;

use super::{Part, Place, RecordView, Source, Template};
use crate::client::url;

/// What a placeholder stands for in one record.
enum Found<'a> {
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    /// A JSON value, or a document's text.
    Json(Cow<'a, str>),
}

impl Template {
    /// The text for a record; the error says what the record lacks.
    pub fn fill(&self, record: &RecordView<'_>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field { source, name, quoted } => {
                    let found = found(source, record).map_err(|why| format!("no ${{{name}}}: {why}"))?;
                    self.put(&mut out, found, *quoted).map_err(|why| format!("no ${{{name}}}: {why}"))?;
                }
            }
        }
        Ok(out)
    }

    /// The same as text.
    pub fn fill_text(&self, record: &RecordView<'_>) -> Result<String, String> {
        String::from_utf8(self.fill(record)?).map_err(|_| "it is no UTF-8".to_owned())
    }

    fn put(&self, out: &mut Vec<u8>, found: Found<'_>, quoted: bool) -> Result<(), String> {
        match (self.place, found) {
            (Place::Url, found) => out.extend_from_slice(url::encoded(&plain(found)?).as_bytes()),
            (Place::Plain, found) => out.extend_from_slice(plain(found)?.as_bytes()),
            (Place::Body, Found::Bytes(bytes)) => out.extend_from_slice(bytes),
            (Place::Body, Found::Text(text) | Found::Json(text)) => out.extend_from_slice(text.as_bytes()),
            (Place::JsonBody, found) if quoted => {
                let text = match found {
                    Found::Text(text) => text,
                    Found::Json(json) => serde_json::from_str::<String>(&json).map_or(json, Cow::from),
                    Found::Bytes(bytes) => STANDARD.encode(bytes).into(),
                };
                let string = Value::from(text.as_ref()).to_string();
                out.extend_from_slice(&string.as_bytes()[1..string.len() - 1]);
            }
            (Place::JsonBody, Found::Json(json)) => out.extend_from_slice(json.as_bytes()),
            (Place::JsonBody, Found::Text(text)) => {
                out.extend_from_slice(Value::from(text.as_ref()).to_string().as_bytes())
            }
            (Place::JsonBody, Found::Bytes(bytes)) => {
                out.extend_from_slice(Value::from(STANDARD.encode(bytes)).to_string().as_bytes());
            }
        }
        Ok(())
    }
}

/// For places that hold one word: no objects or arrays, nothing empty.
fn plain(found: Found<'_>) -> Result<Cow<'_, str>, String> {
    let text = match found {
        Found::Text(text) => text,
        Found::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8")?.into(),
        Found::Json(json) => match serde_json::from_str(&json) {
            Ok(Value::String(text)) => text.into(),
            Ok(Value::Object(_) | Value::Array(_)) => {
                return Err("it is an object or array; name a field of it".to_owned());
            }
            Ok(Value::Null) => return Err("it is null".to_owned()),
            Ok(scalar) => scalar.to_string().into(),
            Err(error) => return Err(format!("it is no JSON: {error}")),
        },
    };
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
}

fn found<'a>(source: &Source, record: &'a RecordView<'_>) -> Result<Found<'a>, String> {
    let number = |number: Option<i64>| {
        let number = number.ok_or("the record has none")?;
        Ok(Found::Json(number.to_string().into()))
    };
    match source {
        Source::Topic => Ok(Found::Text(record.row.topic().into())),
        Source::Partition => number(record.partition.map(i64::from)),
        Source::Offset => number(record.row.offset()),
        Source::Timestamp => number(record.row.timestamp()),
        Source::Header(name) => {
            let bytes = record.header(name).ok_or("the record has no such header")?;
            Ok(std::str::from_utf8(bytes).map_or(Found::Bytes(bytes), |text| Found::Text(text.into())))
        }
        Source::Key(path) if path.is_empty() => whole(record.row.key()),
        Source::Value(path) if path.is_empty() => whole(record.row.value()),
        Source::Key(path) => field(record.key()?, path),
        Source::Value(path) => field(record.value()?, path),
    }
}

fn whole(cell: Cell<'_>) -> Result<Found<'_>, String> {
    match cell {
        Cell::Null => Err("it is null".to_owned()),
        Cell::Bytes(bytes) => Ok(Found::Bytes(bytes)),
        Cell::Text(text) => Ok(Found::Text(text.into())),
        Cell::Json(text) => Ok(Found::Json(text.into())),
        Cell::Structured(..) => match cell.to_json() {
            Ok(Value::String(text)) => Ok(Found::Text(text.into())),
            Ok(json) => Ok(Found::Json(json.to_string().into())),
            Err(error) => Err(error.to_string()),
        },
    }
}

fn field<'a>(value: &'a Value, path: &[String]) -> Result<Found<'a>, String> {
    let found = path.iter().try_fold(value, |value, step| match value {
        Value::Object(members) => members.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    });
    match found {
        None => Err("the record has no such field".to_owned()),
        Some(Value::String(text)) => Ok(Found::Text(text.into())),
        Some(other) => Ok(Found::Json(other.to_string().into())),
    }
}
