//! Header converters: between headers in Kafka (key and bytes) and those of a batch (key, Connect type, serialized form).
//!
//! A header of a batch is serialized in one way whatever its type (see [`super::HeaderText`]). `SimpleHeaderConverter` passes what
//! comes from Kafka through, its type unknown until something asks. A header that cannot be converted fails its record.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, ListArray, StringArray, StructArray, new_null_array};
use arrow_schema::{DataType, Field};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::{Column, Config, Result};

use super::header_schema;
use super::header_text::{HeaderText, time_format};
use super::json::{Options, SchemaCache, decimal, decode, logical, syntax, text};
use super::values::{self, Typed};
use super::{Converter, RowFailure};

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
    /// As the converter writes values of their types.
    Typed(TypedForm),
}

/// What a header's value is for its converter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TypedForm {
    /// A value of its schema.
    Json,
    /// A number that goes if it fits.
    Number,
}

/// A header converter, made of a value converter.
pub(super) struct ColumnHeaders {
    /// Of the values; `None`: headers from Kafka are passed through, of no known type.
    converter: Option<Box<dyn Converter>>,
    /// How headers are written to Kafka.
    outgoing: Outgoing,
    /// Schemas of headers that were written.
    schemas: SchemaCache,
}

impl ColumnHeaders {
    /// Headers as the converter reads them, written as `outgoing` says.
    pub fn new(converter: Option<Box<dyn Converter>>, outgoing: Outgoing) -> Self {
        Self { converter, outgoing, schemas: SchemaCache::new(1000) }
    }
}

impl HeaderConverter for ColumnHeaders {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.converter.as_mut().map_or(Ok(()), |converter| converter.configure(config, false))
    }

    fn to_connect(&mut self, topic: &str, headers: &ListArray) -> HeaderConversion {
        let items = headers.values().as_struct();
        let (keys, values) = (items.column(0).clone(), items.column(1).as_binary::<i32>());
        let (schemas, values, failures): (ArrayRef, ArrayRef, _) = match &mut self.converter {
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
            Outgoing::Text => !schemas.iter().flatten().any(header_schema::is_bytes),
            Outgoing::Bytes => schemas.iter().flatten().all(header_schema::is_bytes),
            Outgoing::Typed(_) => false,
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
        let out: BinaryArray = match (self.outgoing, &mut self.converter) {
            (Outgoing::Typed(form), Some(converter)) => {
                write_typed(&mut **converter, form, &mut self.schemas, topic, (schemas, values), &mut failures)
            }
            (outgoing, _) => {
                let item = |item: usize| {
                    let value = values.is_valid(item).then(|| values.value(item))?;
                    let kind = schemas.is_valid(item).then(|| header_schema::type_name(schemas.value(item)));
                    match (outgoing, kind) {
                        (Outgoing::Text, Some("bytes")) => Some(STANDARD.encode(value).into_bytes()),
                        (Outgoing::Text, _) | (_, None | Some("bytes")) => Some(value.to_vec()),
                        (_, Some(kind)) => {
                            let kind = kind.rsplit('.').next().unwrap_or(kind).to_ascii_uppercase();
                            let message = format!("Invalid schema type for ByteArrayConverter: {kind}");
                            failures.push(RowFailure { row: item, message });
                            None
                        }
                    }
                };
                (0..values.len()).map(item).collect()
            }
        };
        (Arc::new(out), failures)
    }
}

/// Headers whose types count: those of one schema become a column, which the converter writes.
fn write_typed(
    converter: &mut dyn Converter,
    form: TypedForm,
    known: &mut SchemaCache,
    topic: &str,
    (schemas, values): (&StringArray, &BinaryArray),
    failures: &mut Vec<RowFailure>,
) -> BinaryArray {
    let mut groups: HashMap<String, (Vec<usize>, Vec<String>)> = HashMap::new();
    for item in (0..values.len()).filter(|&item| values.is_valid(item)) {
        let schema = schemas.is_valid(item).then(|| schemas.value(item));
        match as_json(schema, values.value(item)) {
            Ok(None) => {}
            Ok(Some((schema, payload))) => {
                let group = groups.entry(schema).or_default();
                group.0.push(item);
                group.1.push(payload);
            }
            Err(message) => failures.push(RowFailure { row: item, message }),
        }
    }
    let mut out: Vec<Option<Vec<u8>>> = vec![None; values.len()];
    for (schema, (items, payloads)) in groups {
        let column = match form {
            TypedForm::Number => Ok((Column::json(payloads.into()), Vec::new())),
            TypedForm::Json => column_of(known, &schema, payloads),
        };
        let (answer, refused) = match column {
            Ok((column, refused)) => (converter.from_connect(topic, &column), refused),
            Err(message) => {
                failures.extend(items.into_iter().map(|row| RowFailure { row, message: message.clone() }));
                continue;
            }
        };
        for (at, &item) in items.iter().enumerate() {
            out[item] = answer.data.is_valid(at).then(|| answer.data.value(at).to_vec());
        }
        let moved = |failure: RowFailure| RowFailure { row: items[failure.row], ..failure };
        failures.extend(refused.into_iter().chain(answer.failures).map(moved));
    }
    out.into_iter().collect()
}

/// Values of one schema, and those that do not fit it.
fn column_of(
    known: &mut SchemaCache,
    schema: &str,
    payloads: Vec<String>,
) -> std::result::Result<(Column, Vec<RowFailure>), String> {
    let Some(field) = known.get(schema)? else { return Ok((Column::json(payloads.into()), Vec::new())) };
    let rows: Vec<_> = payloads.iter().map(|payload| Some(&**payload)).collect();
    let (array, refused) = decode(&field, &rows, &Options::default())?;
    Ok((Column::new(field, array), refused))
}

/// A header's schema and value as JSON; `None` for the text `null`. Of headers without a known type, the text tells it.
fn as_json(schema: Option<&str>, value: &[u8]) -> std::result::Result<Option<(String, String)>, String> {
    let value = match schema.map(header_schema::type_name) {
        Some("bytes") => {
            let schema = header_schema::as_json(schema.unwrap_or("bytes"), 0).into_owned();
            return Ok(Some((schema, text::string(&STANDARD.encode(value)))));
        }
        // As Java reads text.
        None => String::from_utf8_lossy(value),
        Some(_) => std::str::from_utf8(value).map_err(|_| "the header is not valid UTF-8".to_owned())?.into(),
    };
    let typed = match schema {
        Some(schema) => Typed { schema: schema.into(), text: value },
        None => match values::parse(&value) {
            Some(typed) => Typed { schema: typed.schema, text: typed.text.into_owned().into() },
            None => return Ok(None),
        },
    };
    let (kind, value) = (header_schema::type_name(&typed.schema), &*typed.text);
    let wrong = || format!("the header's value {value} is no {kind}");
    let mut scale = 0;
    let payload = match kind {
        "float32" | "float64" if matches!(value, "NaN" | "Infinity" | "-Infinity") => text::string(value),
        "boolean" | "int8" | "int16" | "int32" | "int64" | "float32" | "float64" | "array" | "map" | "struct" => {
            syntax::check(value.as_bytes()).map_err(|_| wrong())?;
            value.trim_ascii().to_owned()
        }
        logical::DATE | logical::TIME | logical::TIMESTAMP => {
            let (format, unit) = time_format(kind).ok_or("no format for a time")?;
            (format.parse(value).ok_or_else(wrong)? / unit).to_string()
        }
        logical::DECIMAL => {
            scale = decimal::scale_of_text(value).ok_or_else(wrong)?;
            value.to_owned()
        }
        _ => text::string(value),
    };
    Ok(Some((header_schema::as_json(&typed.schema, scale).into_owned(), payload)))
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
        assert_eq!((&*there[0], &*back[0]), (r#"{"type":"string","optional":true} 12"#, "12"));
        let (there, back, _) = convert("ByteArrayConverter", &[], &["12"]);
        assert_eq!((&*there[0], &*back[0]), (r#"{"type":"bytes","optional":true} 12"#, "12"));
        let (there, back, _) = convert("IntegerConverter", &[], &["\0\0\0\x0c"]);
        assert_eq!((&*there[0], &*back[0]), (r#"{"type":"int32","optional":true} 12"#, "\0\0\0\x0c"));
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
