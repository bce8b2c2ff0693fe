//! Header converters: between headers in Kafka (key and bytes) and those of a batch (key, Connect type, serialized form).
//!
//! A header of a batch is serialized in one way whatever its type (see [`super::HeaderText`]). `SimpleHeaderConverter` passes what
//! comes from Kafka through, its type unknown until something asks. A header that cannot be converted fails its record.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, ListArray, StringArray, StructArray, new_null_array};
use arrow_schema::{DataType, Field};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::{Config, Result};

use super::header_text::{HeaderText, time_format};
use super::json::{decimal, logical, text};
use super::{Converter, RowFailure, values};

/// Between the two kinds of header columns.
#[allow(clippy::wrong_self_convention)] // Kafka Connect's words.
pub trait HeaderConverter: Send {
    /// Takes the converter's own config, without the `header.converter.` prefix.
    fn configure(&mut self, config: &Config) -> Result<()>;
    /// From a [`crate::log::LogRecords`]'s headers to a [`tributary_sdk::Batch`]'s.
    fn to_connect(&mut self, topic: &str, headers: &ListArray) -> HeaderConversion;
    /// From a [`tributary_sdk::Batch`]'s headers to a [`crate::log::LogRecords`]'s.
    fn from_connect(&mut self, topic: &str, headers: &ListArray) -> HeaderConversion;
}

/// Converted headers, one list a row.
#[derive(Debug)]
pub struct HeaderConversion {
    /// Of failed rows, some list.
    pub headers: ListArray,
    /// By row, increasing.
    pub failures: Vec<RowFailure>,
}

/// How values become headers in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// As text; bytes as base64.
    Text,
    /// As they are; only bytes and headers of no known type.
    Bytes,
    /// As JSON, with or without envelopes.
    Json { envelopes: bool },
    /// As a primitive value.
    Number,
}

/// A header converter, made of a value converter.
pub(super) struct ColumnHeaders {
    /// Reads headers from Kafka; `None`: they are passed through, of no known type.
    pub incoming: Option<Box<dyn Converter>>,
    /// Writes headers to Kafka.
    pub outgoing: Outgoing,
}

impl HeaderConverter for ColumnHeaders {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.incoming.as_mut().map_or(Ok(()), |converter| converter.configure(config, false))
    }

    fn to_connect(&mut self, topic: &str, headers: &ListArray) -> HeaderConversion {
        let items = headers.values().as_struct();
        let (keys, values) = (items.column(0).clone(), items.column(1).as_binary::<i32>());
        let (schemas, values, failures): (ArrayRef, ArrayRef, _) = match &mut self.incoming {
            None => (new_null_array(&DataType::Utf8, keys.len()), Arc::new(values.clone()), Vec::new()),
            Some(converter) => read(&mut **converter, topic, values),
        };
        let fields = tributary_sdk::batch::HEADER_FIELDS.clone();
        finish(headers, StructArray::new(fields, vec![keys, schemas, values], None), failures)
    }

    fn from_connect(&mut self, topic: &str, headers: &ListArray) -> HeaderConversion {
        let items = headers.values().as_struct();
        let (keys, schemas) = (items.column(0).clone(), items.column(1).as_string::<i32>());
        let values = items.column(2).as_binary::<i32>();
        let unchanged = match self.outgoing {
            Outgoing::Text => !schemas.iter().any(|schema| schema == Some("bytes")),
            Outgoing::Bytes => schemas.iter().all(|schema| schema.is_none_or(|schema| schema == "bytes")),
            _ => false,
        };
        let (values, failures): (ArrayRef, _) = match unchanged {
            true => (Arc::new(values.clone()), Vec::new()),
            false => self.write(topic, schemas, values),
        };
        let fields = crate::log::HEADER_FIELDS.clone();
        finish(headers, StructArray::new(fields, vec![keys, values], None), failures)
    }
}

impl ColumnHeaders {
    fn write(&mut self, topic: &str, schemas: &StringArray, values: &BinaryArray) -> (ArrayRef, Vec<RowFailure>) {
        let mut failures = Vec::new();
        let mut out = BinaryBuilder::with_capacity(values.len(), values.value_data().len());
        for item in 0..values.len() {
            if values.is_null(item) {
                out.append_null();
                continue;
            }
            let schema = schemas.is_valid(item).then(|| schemas.value(item));
            match self.write_value(topic, schema, values.value(item)) {
                Ok(bytes) => out.append_value(bytes),
                Err(message) => {
                    out.append_null();
                    failures.push(RowFailure { row: item, message });
                }
            }
        }
        (Arc::new(out.finish()), failures)
    }

    fn write_value(&mut self, topic: &str, schema: Option<&str>, value: &[u8]) -> std::result::Result<Vec<u8>, String> {
        match (self.outgoing, schema) {
            (Outgoing::Text, Some("bytes")) => Ok(STANDARD.encode(value).into_bytes()),
            (Outgoing::Text, _) | (Outgoing::Bytes, None | Some("bytes")) => Ok(value.to_vec()),
            (Outgoing::Bytes, Some(schema)) => Err(format!("Invalid schema type for ByteArrayConverter: {schema}")),
            (Outgoing::Json { envelopes }, schema) => {
                let (schema, payload) = as_json(schema, value)?;
                Ok(match envelopes {
                    true => format!("{{\"schema\":{schema},\"payload\":{payload}}}").into_bytes(),
                    false => payload.into_bytes(),
                })
            }
            (Outgoing::Number, schema) => {
                let (_, payload) = as_json(schema, value)?;
                let column = tributary_sdk::Column::json(StringArray::from(vec![payload]));
                let converter = self.incoming.as_mut().ok_or("a number converter without its converter")?;
                let answer = converter.from_connect(topic, &column);
                match answer.failures.into_iter().next() {
                    Some(failure) => Err(failure.message),
                    None => Ok(answer.data.value(0).to_vec()),
                }
            }
        }
    }
}

/// A header's schema and value as JSON. Of headers without a known type, the text tells it.
fn as_json(schema: Option<&str>, value: &[u8]) -> std::result::Result<(String, String), String> {
    if schema == Some("bytes") {
        return Ok((schema_json("bytes", ""), text::string(&STANDARD.encode(value))));
    }
    let value = std::str::from_utf8(value).map_err(|_| "the header is not valid UTF-8".to_owned())?;
    let typed = match schema {
        Some(_) => None,
        None => match values::parse(value) {
            Some(typed) => Some(typed),
            None => return Ok(("null".to_owned(), "null".to_owned())),
        },
    };
    let (schema, value) = match &typed {
        Some(typed) => (typed.schema, &*typed.text),
        None => (schema.unwrap_or("string"), value),
    };
    Ok(match schema {
        "boolean" | "int8" | "int16" | "int32" | "int64" => (schema_json(schema, ""), value.to_owned()),
        "float32" => (schema_json("float", ""), value.to_owned()),
        "float64" => (schema_json("double", ""), value.to_owned()),
        "array" | "map" | "struct" => ("null".to_owned(), value.to_owned()),
        logical::DATE | logical::TIME | logical::TIMESTAMP => {
            let (format, unit) = time_format(schema).ok_or("no format for a time")?;
            let ms = format.parse(value).ok_or_else(|| format!("the header {value} is no {schema}"))?;
            let kind = if schema == logical::TIMESTAMP { "int64" } else { "int32" };
            (schema_json(kind, &format!(",\"name\":\"{schema}\",\"version\":1")), (ms / unit).to_string())
        }
        logical::DECIMAL => {
            let scale = value.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let unscaled = decimal::from_text(value, scale as i32)?;
            let facts = format!(",\"name\":\"{schema}\",\"version\":1,\"parameters\":{{\"scale\":\"{scale}\"}}");
            (schema_json("bytes", &facts), text::string(&STANDARD.encode(unscaled)))
        }
        _ => (schema_json("string", ""), text::string(value)),
    })
}

fn schema_json(kind: &str, facts: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"optional\":false{facts}}}")
}

/// Types and serialized forms of values from Kafka; failures are by item.
fn read(converter: &mut dyn Converter, topic: &str, values: &BinaryArray) -> (ArrayRef, ArrayRef, Vec<RowFailure>) {
    let answer = converter.to_connect(topic, values);
    let mut failures = answer.failures;
    let mut schemas = StringBuilder::new();
    let mut out = BinaryBuilder::with_capacity(values.len(), values.value_data().len());
    let mut bytes = Vec::new();
    let mut at = 0;
    let skip_to = |to: usize, at: &mut usize, schemas: &mut StringBuilder, out: &mut BinaryBuilder| {
        for _ in *at..to {
            schemas.append_null();
            out.append_null();
        }
        *at = to;
    };
    for run in answer.runs {
        skip_to(run.rows.start, &mut at, &mut schemas, &mut out);
        let json = run.column.as_text().filter(|_| run.column.form() == tributary_sdk::Form::Json);
        let writer = HeaderText::new(run.column.field(), run.column.array());
        for (i, item) in run.rows.clone().enumerate() {
            if run.column.array().is_null(i) {
                schemas.append_null();
                out.append_null();
                continue;
            }
            bytes.clear();
            let schema = match (json, &writer) {
                (Some(texts), _) => {
                    let (schema, text) = of_json(texts.value(i).trim_ascii());
                    bytes.extend_from_slice(text.as_bytes());
                    Ok(schema)
                }
                (None, Ok(writer)) => writer.write(i, &mut bytes).map(|()| writer.schema()),
                (None, Err(message)) => Err(message.clone()),
            };
            match schema {
                Ok(schema) => {
                    schemas.append_value(schema);
                    out.append_value(&bytes);
                }
                Err(message) => {
                    schemas.append_null();
                    out.append_null();
                    failures.push(RowFailure { row: item, message });
                }
            }
        }
        at = run.rows.end;
    }
    skip_to(values.len(), &mut at, &mut schemas, &mut out);
    (Arc::new(schemas.finish()), Arc::new(out.finish()), failures)
}

/// Type and serialized form of a schemaless JSON value, as Kafka Connect's JSON converter types them.
pub(crate) fn of_json(value: &str) -> (&'static str, String) {
    use super::json::syntax::Kind;
    match Kind::of(value) {
        Kind::String => ("string", text::string_value(value).into_owned()),
        Kind::Boolean => ("boolean", value.to_owned()),
        Kind::Number if !value.contains(['.', 'e', 'E']) => ("int64", value.to_owned()),
        Kind::Number => ("float64", value.parse().map_or_else(|_| value.to_owned(), text::java_double)),
        Kind::Array => ("array", value.to_owned()),
        _ => ("map", value.to_owned()),
    }
}

/// New items in the lists that were there; failures by item become failures by row.
fn finish(headers: &ListArray, items: StructArray, failed: Vec<RowFailure>) -> HeaderConversion {
    let item = Field::new("item", items.data_type().clone(), false);
    let offsets = headers.offsets().clone();
    let mut failures: Vec<RowFailure> = failed
        .into_iter()
        .filter_map(|failure| {
            let row = offsets.partition_point(|&offset| offset as usize <= failure.row).checked_sub(1)?;
            (row < headers.len()).then_some(RowFailure { row, message: failure.message })
        })
        .collect();
    failures.sort_by_key(|failure| failure.row);
    failures.dedup_by_key(|failure| failure.row);
    let headers = ListArray::new(Arc::new(item), offsets, Arc::new(items), headers.nulls().cloned());
    HeaderConversion { headers, failures }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::converter::header_converter;
    use arrow_buffer::OffsetBuffer;

    fn from_kafka(values: &[&str]) -> ListArray {
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..values.len()).map(|i| format!("k{i}"))));
        let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(values));
        let items = StructArray::new(crate::log::HEADER_FIELDS.clone(), vec![keys, bytes], None);
        let item = Arc::new(Field::new("item", items.data_type().clone(), false));
        ListArray::new(item, OffsetBuffer::from_lengths(values.iter().map(|_| 1)), Arc::new(items), None)
    }

    fn show(headers: &ListArray) -> Vec<String> {
        let items = headers.values().as_struct();
        let texts = items.column(items.num_columns() - 1).as_binary::<i32>();
        let schemas = (items.num_columns() == 3).then(|| items.column(1).as_string::<i32>());
        let shown = |i: usize| {
            let schema = schemas.map_or("", |schemas| if schemas.is_null(i) { "?" } else { schemas.value(i) });
            let text = if texts.is_null(i) { "-".into() } else { String::from_utf8_lossy(texts.value(i)) };
            format!("{schema} {text}").trim_start().to_owned()
        };
        (0..texts.len()).map(shown).collect()
    }

    fn convert(class: &str, config: &[(&str, &str)], values: &[&str]) -> (Vec<String>, Vec<String>, Vec<RowFailure>) {
        let mut converter = header_converter(class, &config.iter().copied().collect()).unwrap();
        let there = converter.to_connect("t", &from_kafka(values));
        let back = converter.from_connect("t", &there.headers);
        assert_eq!(back.failures, []);
        (show(&there.headers), show(&back.headers), there.failures)
    }

    #[test]
    fn each_converter_types_and_writes_headers() {
        let (there, back, _) = convert("SimpleHeaderConverter", &[], &["12", "x"]);
        assert_eq!((there, back), (vec!["? 12".to_owned(), "? x".to_owned()], vec!["12".to_owned(), "x".to_owned()]));
        let (there, back, _) = convert("StringConverter", &[], &["12"]);
        assert_eq!((&*there[0], &*back[0]), ("string 12", "12"));
        let (there, back, _) = convert("ByteArrayConverter", &[], &["12"]);
        assert_eq!((&*there[0], &*back[0]), ("bytes 12", "12"));
        let (there, back, _) = convert("IntegerConverter", &[], &["\0\0\0\x0c"]);
        assert_eq!((&*there[0], &*back[0]), ("int32 12", "\0\0\0\x0c"));
        let values = [r#"{"a":1}"#, "5", "\"q\\\"x\"", "1.5"];
        let (there, back, _) = convert("JsonConverter", &[("schemas.enable", "false")], &values);
        assert_eq!(there, ["map {\"a\":1}", "int64 5", "string q\"x", "float64 1.5"]);
        assert_eq!(back, values);
        let date = r#"{"schema":{"type":"int32","optional":false,"name":"org.apache.kafka.connect.data.Date","version":1},"payload":19000}"#;
        let values = [date, r#"{"schema":{"type":"int8","optional":false},"payload":7}"#, "oops"];
        let (there, back, failures) = convert("JsonConverter", &[], &values);
        assert_eq!(there, ["org.apache.kafka.connect.data.Date 2022-01-08", "int8 7", "? -"]);
        assert_eq!(back[..2], values[..2]);
        assert_eq!(failures[0].row, 2);
    }
}
