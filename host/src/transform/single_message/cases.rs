//! Runs the tables in `cases/`: each case's output was printed by the Java transform of Kafka Connect 4.3.1.
//!
//! How: `tests/transforms/Cases.java` reads the cases' inputs with `JsonConverter` (`schemas.enable=true`; a schemaless value is an envelope
//! with the schema `null`), calls `configure` and `apply`, and writes key and value with `JsonConverter` and headers with
//! `SimpleHeaderConverter` (time zone UTC), or the exception's message. The test `transforms` does that again and compares.
//! `ours`, with `why`, stands where Tributary differs on purpose. Where Java gave a header no schema, any will do.

use arrow_array::{Array, BinaryArray, Int32Array, Int64Array};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tributary_sdk::{Batch, Column, Config, Offsets};

use crate::converter::{Converter, JsonConverter};
use crate::transform::headers::{Header, Headers, HeadersBuilder};
use crate::transform::merge::merge;
use crate::transform::part::{Outcome, Part};
use crate::transform::registry;

/// Rows that each case's record is repeated in, so that columns are more than one value.
const ROWS: usize = 3;

/// Runs a table; panics with all cases that differ.
pub fn check(table: &str) {
    let cases: Vec<Value> = serde_json::from_str(table).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let mut expected = case.get("ours").unwrap_or(&case["out"]).clone();
        tombstone(&mut expected);
        let expected = &expected;
        let mut got = run(case);
        for i in 0..expected["headers"].as_array().map_or(0, Vec::len) {
            if expected["headers"][i][1].is_null() && got["headers"][i].is_array() {
                got["headers"][i][1] = Value::Null;
            }
        }
        if !same(expected, &got) {
            wrong.push(format!("{}\n  expected {expected}\n  got      {got}", case_line(case)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// JsonConverter writes a null that has a schema as an envelope; here a null is a tombstone, whatever its schema.
fn tombstone(expected: &mut Value) {
    for side in ["key", "value"] {
        if expected.get(side).and_then(|side| side.get("payload")).is_some_and(Value::is_null) {
            expected[side] = Value::Null;
        }
    }
}

fn case_line(case: &Value) -> String {
    format!("{} {} {}", case["class"].as_str().unwrap(), case["config"], case["in"])
}

/// Numbers are equal by value: Java writes 1.0 where the input had 1.00.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && a.is_f64() == b.is_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn run(case: &Value) -> Value {
    let config: Config =
        case["config"].as_object().unwrap().iter().map(|(key, value)| (key, value.as_str().unwrap())).collect();
    if case.get("predicate").is_some() {
        let predicate = match registry::predicate(case["class"].as_str().unwrap(), &config).expect("a known class") {
            Ok(predicate) => predicate,
            Err(error) => return json!({"config_error": error.to_string()}),
        };
        let batch = batch(&case["in"]);
        let answers = predicate.test(&Part::whole(&batch));
        assert!(answers.values().iter().all(|answer| answer == answers.value(0)));
        return json!({"answer": answers.value(0)});
    }
    let transform = match registry::transform(case["class"].as_str().unwrap(), &config).expect("a known class") {
        Ok((_, transform)) => transform,
        Err(error) => return json!({"config_error": error.to_string()}),
    };
    let batch = batch(&case["in"]);
    let mut outcome = Outcome::default();
    transform.apply(Part::whole(&batch), &mut outcome);
    if !outcome.failures.is_empty() {
        let messages: Vec<_> = outcome.failures.iter().map(|(_, message)| message.clone()).collect();
        assert_eq!(messages, vec![messages[0].clone(); ROWS], "{}", case_line(case));
        return json!({"error": messages[0]});
    }
    if outcome.dropped > 0 {
        return json!({"dropped": true});
    }
    let merged = merge(outcome.parts);
    assert_eq!(merged.len(), 1, "{}", case_line(case));
    let batch = &merged[0].batch;
    assert_eq!(batch.len(), ROWS);
    let rows: Vec<Value> = (0..ROWS).map(|row| record(batch, row)).collect();
    assert!(rows.iter().all(|row| *row == rows[0]), "{rows:?}");
    rows.into_iter().next().unwrap()
}

fn batch(record: &Value) -> Batch {
    let column = |side: &Value| -> Option<Column> {
        let text = side.to_string();
        let rows: BinaryArray = (0..ROWS).map(|_| (!side.is_null()).then_some(text.as_bytes())).collect();
        let mut converter = JsonConverter::default();
        converter.configure(&Config::default(), false).unwrap();
        let mut answer = converter.to_connect("topic", &rows);
        assert_eq!(answer.failures, [], "{side}");
        Some(answer.runs.remove(0).column)
    };
    let topic = record.get("topic").and_then(Value::as_str).unwrap_or("topic");
    let mut batch = Batch::new(topic, column(&record["value"]).unwrap());
    batch.key = column(&record["key"]).filter(|_| !record["key"].is_null());
    batch.timestamps = record["timestamp"].as_i64().map(|ms| Int64Array::from(vec![ms; ROWS]));
    let partition = record["partition"].as_i64().map(|partition| partition as i32);
    match record.get("offset").and_then(Value::as_i64) {
        Some(offset) => {
            batch.partition = partition;
            batch.offsets = Offsets::Sink(Int64Array::from(vec![offset; ROWS]));
        }
        None => batch.partitions = partition.map(|partition| Int32Array::from(vec![partition; ROWS])),
    }
    let mut headers = HeadersBuilder::new(ROWS);
    for _ in 0..ROWS {
        for header in record.get("headers").and_then(Value::as_array).into_iter().flatten() {
            let typed = header[1].as_str().and_then(crate::converter::values::parse);
            headers.push(Header {
                key: header[0].as_str().unwrap(),
                schema: typed.as_ref().map(|typed| &*typed.schema),
                value: typed.as_ref().map(|typed| typed.text.as_bytes()),
            });
        }
        headers.end_row();
    }
    batch.headers = headers.finish();
    batch
}

fn record(batch: &Batch, row: usize) -> Value {
    let side = |column: Option<&Column>| match column {
        Some(column) => {
            let mut converter = JsonConverter::default();
            converter.configure(&Config::default(), false).unwrap();
            let answer = converter.from_connect("topic", column);
            assert_eq!(answer.failures, []);
            if answer.data.is_null(row) { Value::Null } else { serde_json::from_slice(answer.data.value(row)).unwrap() }
        }
        None => Value::Null,
    };
    let header = |header: Header<'_>| {
        // Bytes are raw in a batch; SimpleHeaderConverter writes them as base64.
        let schema = header.schema.map(crate::converter::header_schema::type_name);
        let text = header.value.map(|value| match schema {
            Some("bytes") => STANDARD.encode(value),
            _ => String::from_utf8(value.to_vec()).unwrap(),
        });
        json!([header.key, schema, text])
    };
    json!({
        "topic": &*batch.topic,
        "key": side(batch.key.as_ref()),
        "value": side(Some(&batch.value)),
        "headers": Headers::of(batch.headers.as_ref()).row(row).map(header).collect::<Vec<_>>(),
    })
}
