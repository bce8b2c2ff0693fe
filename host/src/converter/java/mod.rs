//! The converters beside Kafka Connect's own: a table of cases goes through both.
//!
//! Values have to be equal, and so has what is written, byte by byte. Of failures only that there are any is compared, and a few
//! messages. Where the two differ on purpose, [`differences`] has a rule with its reason; a rule that nothing needs fails the test.

mod cases;
mod differences;

use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, ListArray, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field;
use serde_json::{Value, json};
use tributary_harness::{ClassPath, java_with_compiler};
use tributary_sdk::{Column, Config};

use super::{RowFailure, converter, header_converter};

const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
const STRING: &str = "org.apache.kafka.connect.storage.StringConverter";
const BYTES: &str = "org.apache.kafka.connect.converters.ByteArrayConverter";
const SIMPLE: &str = "org.apache.kafka.connect.storage.SimpleHeaderConverter";

/// What one converter has to do.
struct Case {
    class: &'static str,
    config: Value,
    /// `read`, `write`, `header-read` or `header-write`.
    what: &'static str,
    /// Bytes as text, or as `{"hex": …}`; to be written: an envelope.
    input: Value,
}

impl Case {
    fn job(&self) -> Value {
        json!({"class": self.class, "config": self.config, "do": self.what, "in": self.input})
    }

    fn run(&self) -> Value {
        let config: Config =
            self.config.as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let header = self.what.starts_with("header");
        let bytes = match &self.input {
            Value::Null => None,
            Value::Object(object) => Some(unhex(object["hex"].as_str().unwrap())),
            other => Some(other.as_str().unwrap().as_bytes().to_vec()),
        };
        let done = match (header, self.what.ends_with("read")) {
            (false, true) => read(self.class, &config, bytes).and_then(|column| envelope(column.as_ref())),
            (false, false) => read(JSON, &Config::default(), bytes)
                .and_then(|column| write(self.class, &config, column.as_ref()))
                .map(|bytes| json!({"hex": bytes.map(hex)})),
            (true, true) => through_headers(self.class, &config, JSON, &Config::default(), bytes)
                .map(|bytes| json!({"value": bytes.map(|bytes| parsed(&bytes))})),
            (true, false) => through_headers(JSON, &Config::default(), self.class, &config, bytes)
                .map(|bytes| json!({"hex": bytes.map(hex)})),
        };
        done.unwrap_or_else(|error| json!({"error": error}))
    }
}

fn first(failures: Vec<RowFailure>) -> Result<(), String> {
    failures.into_iter().next().map_or(Ok(()), |failure| Err(failure.message))
}

fn read(class: &str, config: &Config, bytes: Option<Vec<u8>>) -> Result<Option<Column>, String> {
    let mut converter = converter(class, config, false).map_err(|error| error.to_string())?;
    let answer = converter.to_connect("t", &BinaryArray::from(vec![bytes.as_deref()]));
    first(answer.failures)?;
    let column = answer.runs.into_iter().next().unwrap().column;
    Ok(column.array().is_valid(0).then_some(column))
}

fn write(class: &str, config: &Config, column: Option<&Column>) -> Result<Option<Vec<u8>>, String> {
    let Some(column) = column else { return Ok(None) };
    let mut converter = converter(class, config, false).map_err(|error| error.to_string())?;
    let answer = converter.from_connect("t", column);
    first(answer.failures)?;
    Ok(answer.data.is_valid(0).then(|| answer.data.value(0).to_vec()))
}

fn envelope(column: Option<&Column>) -> Result<Value, String> {
    let bytes = write(JSON, &[("replace.null.with.default", "false")].into_iter().collect(), column)?;
    Ok(json!({"value": bytes.map(|bytes| parsed(&bytes))}))
}

fn through_headers(
    reader: &str,
    reader_config: &Config,
    writer: &str,
    writer_config: &Config,
    bytes: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, String> {
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["h"]));
    let values: ArrayRef = Arc::new(BinaryArray::from(vec![bytes.as_deref()]));
    let items = StructArray::new(crate::log::HEADER_FIELDS.clone(), vec![keys, values], None);
    let item = Arc::new(Field::new("item", items.data_type().clone(), false));
    let headers = ListArray::new(item, OffsetBuffer::from_lengths([1]), Arc::new(items), None);
    let made = |class, config| header_converter(class, config).map_err(|error| error.to_string());
    let there = made(reader, reader_config)?.to_connect("t", &headers);
    first(there.failures)?;
    let back = made(writer, writer_config)?.from_connect("t", &there.headers);
    first(back.failures)?;
    let items = back.headers.values().as_struct();
    let values = items.column(items.num_columns() - 1).as_binary::<i32>();
    Ok(values.is_valid(0).then(|| values.value(0).to_vec()))
}

/// Text that is no JSON stays text.
fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| json!(format!("not JSON: {}", String::from_utf8_lossy(bytes))))
}

fn hex(bytes: Vec<u8>) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Whether both say the same: numbers by value; a null is a null whatever its schema; both fail.
fn same(java: &Value, here: &Value) -> bool {
    match (java.get("error"), here.get("error")) {
        (None, None) => {}
        (java, here) => return java.is_some() && here.is_some(),
    }
    if let (Some(java), Some(here)) = (java.get("value"), here.get("value")) {
        let null = |value: &Value| value.is_null() || value.get("payload").is_some_and(Value::is_null);
        return null(java) && null(here) || equal(java, here);
    }
    java == here
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn converters_do_what_kafka_connects_do() {
    let cases = cases::all();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cases.json");
    std::fs::write(&file, Value::Array(cases.iter().map(Case::job).collect()).to_string()).unwrap();
    let output = Command::new(java_with_compiler().unwrap().program)
        .args(["-XX:+UseSerialGC", "-cp", &ClassPath::Connect.resolve().unwrap()])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/converter/java/Converters.java"))
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let line = printed.lines().find(|line| line.starts_with('[')).expect("an array");
    let java: Vec<Value> = serde_json::from_str(line).unwrap();
    assert_eq!(java.len(), cases.len());
    let mut wrong = Vec::new();
    let mut used = vec![0; differences::ALL.len()];
    for (case, java) in cases.iter().zip(&java) {
        let here = case.run();
        let message = here["error"].as_str().unwrap_or_default();
        // Users know Connect's types, not Arrow's.
        let foreign = ["Utf8", "Int8", "Int16", "Int32", "Int64", "Float", "Binary", "Date32", "Struct("];
        let fine = same(java, &here) && !foreign.iter().any(|name| message.contains(name));
        let known = differences::ALL.iter().position(|difference| (difference.is)(case, java, &here));
        match known {
            Some(known) if !fine => used[known] += 1,
            _ if fine => {}
            _ => wrong.push(format!("{}\n  java {java}\n  here {here}", case.job())),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 3000, "only {} cases", cases.len());
    for (difference, count) in differences::ALL.iter().zip(used) {
        assert!(count > 0, "no case differs any more: {}", difference.why);
    }
}

#[test]
fn failures_name_what_is_wrong_as_kafka_connect_does() {
    let text = r#"{"schema":{"type":"string"},"payload":"x"}"#;
    let number = "org.apache.kafka.connect.converters.IntegerConverter";
    let envelope = |schema: &str, payload: &str| format!("{{\"schema\":{schema},\"payload\":{payload}}}");
    for (class, what, input, message) in [
        (BYTES, "write", text, "Invalid schema type for ByteArrayConverter: STRING"),
        (BYTES, "header-write", text, "Invalid schema type for ByteArrayConverter: STRING"),
        (number, "write", text, "Failed to serialize to integer (was STRING)"),
        (JSON, "read", "1", "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields"),
        (JSON, "read", "{", "Converting byte[] to Kafka Connect data failed due to serialization error"),
        (JSON, "read", &envelope(r#"{"type":"x"}"#, "1"), "Unknown schema type: x"),
        (JSON, "read", &envelope(r#"{"type":"int32"}"#, "null"), "Invalid null value for required INT32 field"),
    ] {
        let case = Case { class, config: json!({}), what, input: input.into() };
        let here = case.run();
        assert!(here["error"].as_str().is_some_and(|error| error.starts_with(message)), "{here}");
    }
}
