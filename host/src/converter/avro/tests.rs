//! Schemas both ways, and values through both codecs. The expectations follow what is known of Confluent's mapping; they were
//! not made by running its converter, which is not among the public artifacts.

use std::sync::Arc;

use arrow_array::Array;
use serde_json::{Value, json};
use tributary_sdk::{Column, Config};

use super::AvroFormat;
use crate::converter::json::{Encoder, Options as JsonOptions, field_from_json, field_to_json};
use crate::converter::schema_registry::{Format, Registered, SchemaText};

fn format(pairs: &[(&str, &str)]) -> AvroFormat {
    let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    AvroFormat::new(&Config(pairs.collect())).unwrap()
}

fn registered(schema: &str) -> Registered {
    Registered { id: 1, schema: SchemaText::plain("AVRO", schema.to_owned()), dependencies: Vec::new() }
}

/// The columns of JSON values by a Connect schema in JSON.
fn column(schema: &Value, rows: &[Value]) -> Column {
    let field = field_from_json(schema).unwrap();
    let texts: Vec<_> = rows.iter().map(Value::to_string).collect();
    let texts: Vec<_> = texts.iter().map(|text| (text != "null").then_some(text.as_str())).collect();
    let (array, failures) = crate::converter::json::decode(&field, &texts, &JsonOptions::default()).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    Column::new(field, array)
}

fn written(format: &AvroFormat, schema: &str, column: &Column, strict: bool) -> Result<Vec<Option<Vec<u8>>>, String> {
    let writer = format.writer(&registered(schema), column, strict)?;
    let mut out = vec![None; column.len()];
    let mut why = None;
    format.write(&writer, column, &mut |row, bytes| match bytes {
        Ok(bytes) => out[row] = Some(bytes.to_vec()),
        Err(message) => why = Some(message),
    })?;
    why.map_or(Ok(out), Err)
}

fn read(format: &AvroFormat, schema: &str, rows: &[Option<Vec<u8>>]) -> (Value, Vec<Value>) {
    let reader = format.reader(&registered(schema), &[]).unwrap();
    let rows: Vec<_> = rows.iter().map(Option::as_deref).collect();
    let decoded = format.read(&reader, &rows).unwrap();
    assert!(decoded.failures.is_empty(), "{:?}", decoded.failures);
    let encoder =
        Encoder::new(&decoded.field, &decoded.array, &JsonOptions { numeric_decimals: true, ..JsonOptions::default() })
            .unwrap();
    let json = |row| {
        let mut text = String::new();
        if decoded.array.is_null(row) {
            return Value::Null;
        }
        encoder.write(row, &mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    (serde_json::from_str(&field_to_json(&decoded.field).unwrap()).unwrap(), (0..rows.len()).map(json).collect())
}

fn avro_of(format: &AvroFormat, schema: &Value) -> Value {
    serde_json::from_str(&format.outgoing(&column(schema, &[])).unwrap().schema.text).unwrap()
}

fn everything() -> Value {
    let field = |name: &str, schema: Value| {
        let Value::Object(mut schema) = schema else { unreachable!() };
        schema.insert("field".to_owned(), name.into());
        Value::Object(schema)
    };
    json!({"type": "struct", "name": "shop.Order", "version": 3, "optional": false, "fields": [
        field("b", json!({"type": "boolean", "optional": false})),
        field("i8", json!({"type": "int8", "optional": false})),
        field("i16", json!({"type": "int16", "optional": true})),
        field("i32", json!({"type": "int32", "optional": false, "default": 7})),
        field("i64", json!({"type": "int64", "optional": true, "default": 9})),
        field("f", json!({"type": "float", "optional": false})),
        field("d", json!({"type": "double", "optional": false})),
        field("s", json!({"type": "string", "optional": true, "doc": "what it is"})),
        field("y", json!({"type": "bytes", "optional": false})),
        field("at", json!({"type": "int64", "optional": false, "name": "org.apache.kafka.connect.data.Timestamp", "version": 1})),
        field("on", json!({"type": "int32", "optional": true, "name": "org.apache.kafka.connect.data.Date", "version": 1})),
        field("time", json!({"type": "int32", "optional": false, "name": "org.apache.kafka.connect.data.Time", "version": 1})),
        field("sum", json!({"type": "bytes", "optional": false, "name": "org.apache.kafka.connect.data.Decimal", "version": 1, "parameters": {"scale": "2"}})),
        field("tags", json!({"type": "array", "optional": false, "items": {"type": "string", "optional": true}})),
        field("counts", json!({"type": "map", "optional": true, "keys": {"type": "string", "optional": false}, "values": {"type": "int32", "optional": false}})),
        field("pairs", json!({"type": "map", "optional": false, "keys": {"type": "int32", "optional": false}, "values": {"type": "string", "optional": true}})),
        field("inner", json!({"type": "struct", "optional": true, "name": "shop.Inner", "fields": [field("x", json!({"type": "int32", "optional": true}))]})),
    ]})
}

fn order(seed: i64) -> Value {
    json!({
        "b": seed % 2 == 0, "i8": seed % 100, "i16": null, "i32": -seed, "i64": seed * 1_000_000_007, "f": 0.5, "d": 1e300,
        "s": format!("é{seed}"), "y": "AAH/", "at": 1_700_000_000_000_i64 + seed, "on": 19_000, "time": 86_399_999, "sum": -12.34,
        "tags": ["a", null, ""], "counts": {"one": 1, "two": 2}, "pairs": [[1, "x"], [-70000, null]], "inner": {"x": seed},
    })
}

#[test]
fn every_type_goes_there_and_back() {
    let format = format(&[]);
    let schema = everything();
    let rows = [order(1), order(2), Value::Null, order(-3)];
    let column = column(&schema, &rows);
    let outgoing = format.outgoing(&column).unwrap();
    assert_eq!(outgoing.record.as_deref(), Some("shop.Order"));
    let avro = written(&format, &outgoing.schema.text, &column, true).unwrap();
    assert_eq!(avro[2], None);
    let (found, values) = read(&format, &outgoing.schema.text, &avro);
    assert_eq!(values, rows);
    // The schema comes back whole, name, version, defaults and documentation included.
    let fields = |schema: &Value| schema["fields"].clone();
    for (found, wanted) in fields(&found).as_array().unwrap().iter().zip(fields(&schema).as_array().unwrap()) {
        assert_eq!(found, wanted);
    }
    assert_eq!((&found["name"], &found["version"]), (&json!("shop.Order"), &json!(3)));
}

#[test]
fn schemas_are_those_of_confluents_converter() {
    let format = format(&[]);
    let int = |more: Value| {
        let mut schema = json!({"type": "int32", "optional": false});
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schema
    };
    for (connect, avro) in [
        (int(json!({})), json!("int")),
        (int(json!({"optional": true})), json!(["null", "int"])),
        (json!({"type": "int8"}), json!({"type": "int", "connect.type": "int8"})),
        (
            json!({"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp", "version": 1}),
            json!({"type": "long", "connect.version": 1, "connect.name": "org.apache.kafka.connect.data.Timestamp", "logicalType": "timestamp-millis"}),
        ),
        (
            json!({"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "version": 1, "parameters": {"scale": "2"}}),
            json!({"type": "bytes", "scale": 2, "precision": 64, "connect.version": 1, "connect.parameters": {"scale": "2"},
                "connect.name": "org.apache.kafka.connect.data.Decimal", "logicalType": "decimal"}),
        ),
        (
            json!({"type": "struct", "fields": [
                {"field": "a", "type": "int32", "optional": true, "default": 5},
                {"field": "b", "type": "string", "optional": true},
                {"field": "c", "type": "struct", "fields": [{"field": "x", "type": "boolean"}]},
            ]}),
            json!({"type": "record", "name": "ConnectDefault", "namespace": "io.confluent.connect.avro", "fields": [
                {"name": "a", "type": [{"type": "int", "connect.default": 5}, "null"], "default": 5},
                {"name": "b", "type": ["null", "string"], "default": null},
                {"name": "c", "type": {"type": "record", "name": "ConnectDefault2", "namespace": "io.confluent.connect.avro",
                    "fields": [{"name": "x", "type": "boolean"}]}},
            ]}),
        ),
        (
            json!({"type": "map", "keys": {"type": "int32"}, "values": {"type": "string"}}),
            json!({"type": "array", "items": {"type": "record", "name": "MapEntry", "namespace": "io.confluent.connect.avro",
                "fields": [{"name": "key", "type": "int"}, {"name": "value", "type": "string"}]}}),
        ),
    ] {
        assert_eq!(avro_of(&format, &connect), avro, "{connect}");
    }
    // The same record twice is defined once.
    let inner = json!({"type": "struct", "name": "a.B", "fields": [{"field": "x", "type": "int32"}]});
    let mut twice = Vec::new();
    for name in ["p", "q"] {
        let mut inner = inner.clone();
        inner["field"] = name.into();
        twice.push(inner);
    }
    let avro = avro_of(&format, &json!({"type": "struct", "name": "a.C", "fields": twice}));
    assert_eq!(avro["fields"][1]["type"], "a.B");
}

#[test]
fn enums_unions_and_fixed_become_what_confluents_converter_makes() {
    let schema = json!({"type": "record", "name": "R", "namespace": "n", "fields": [
        {"name": "e", "type": {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}},
        {"name": "u", "type": ["null", "int", "string", {"type": "record", "name": "S", "fields": [{"name": "x", "type": "long"}]}]},
        {"name": "f", "type": {"type": "fixed", "name": "Four", "size": 4}},
    ]})
    .to_string();
    // RED, union branch 3 (record x=5), 4 bytes; BLUE, null, 4 bytes; RED, "hi", 4 bytes.
    let rows = [vec![0, 6, 10, 1, 2, 3, 4], vec![2, 0, 1, 2, 3, 4], vec![0, 4, 4, b'h', b'i', 0, 0, 0, 0]].map(Some);
    let (found, values) = read(&format(&[]), &schema, &rows);
    let fields = &found["fields"];
    assert_eq!(
        fields[0]["parameters"],
        json!({"io.confluent.connect.avro.Enum": "n.Colour",
        "io.confluent.connect.avro.Enum.RED": "RED", "io.confluent.connect.avro.Enum.BLUE": "BLUE"})
    );
    assert_eq!(fields[1]["name"], "io.confluent.connect.avro.Union");
    let names: Vec<_> = fields[1]["fields"].as_array().unwrap().iter().map(|field| field["field"].clone()).collect();
    assert_eq!(names, ["int", "string", "S"]);
    assert_eq!(
        values,
        [
            json!({"e": "RED", "u": {"int": null, "string": null, "S": {"x": 5}}, "f": "AQIDBA=="}),
            json!({"e": "BLUE", "u": null, "f": "AQIDBA=="}),
            json!({"e": "RED", "u": {"int": null, "string": "hi", "S": null}, "f": "AAAAAA=="}),
        ]
    );
    // With the enhanced support what was read is written as it was.
    let enhanced = format(&[("enhanced.avro.schema.support", "true")]);
    let reader = enhanced.reader(&registered(&schema), &[]).unwrap();
    let bytes: Vec<_> = rows.iter().map(Option::as_deref).collect();
    let decoded = enhanced.read(&reader, &bytes).unwrap();
    let column = Column::new(decoded.field, decoded.array);
    let again = enhanced.outgoing(&column).unwrap().schema.text;
    assert_eq!(written(&enhanced, &again, &column, true).unwrap(), rows);
}

#[test]
fn the_registrys_newest_schema_may_be_another() {
    let format = format(&[]);
    let connect = json!({"type": "struct", "name": "R", "fields": [
        {"field": "a", "type": "int32"}, {"field": "extra", "type": "string"}]});
    let column = column(&connect, &[json!({"a": 1, "extra": "x"})]);
    let newer = json!({"type": "record", "name": "R", "fields": [
        {"name": "b", "type": "string", "default": "hi"}, {"name": "a", "type": ["null", "long"]}]})
    .to_string();
    let error = written(&format, &newer, &column, true).unwrap_err();
    assert!(error.contains("no field extra") && error.contains("latest.compatibility.strict"), "{error}");
    assert_eq!(written(&format, &newer, &column, false).unwrap(), [Some(vec![4, b'h', b'i', 2, 2])]);
}

#[test]
fn damaged_values_fail_their_rows_only() {
    let format = format(&[]);
    let schema = everything();
    let column = column(&schema, &[order(1), order(2), order(3)]);
    let text = format.outgoing(&column).unwrap().schema.text;
    let good = written(&format, &text, &column, true).unwrap();
    let reader = format.reader(&registered(&text), &[]).unwrap();
    let whole = good[1].clone().unwrap();
    for cut in 0..whole.len() {
        let rows = [good[0].as_deref(), Some(&whole[..cut]), good[2].as_deref()];
        let decoded = format.read(&reader, &rows).unwrap();
        assert_eq!(decoded.array.len(), 3, "cut at {cut}");
        assert_eq!(decoded.failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [1], "cut at {cut}");
        let encoder = Encoder::new(&decoded.field, &decoded.array, &JsonOptions::default()).unwrap();
        let mut text = String::new();
        encoder.write(2, &mut text).unwrap();
        assert!(text.contains("é3"), "{text}");
    }
}

#[test]
fn schemas_that_cannot_be_used_say_why() {
    // Forty records, each of which has the one before twice.
    let doubling = (0..40).fold("\"int\"".to_owned(), |inner, n| {
        let again = if n == 0 { "int".to_owned() } else { format!("R{}", n - 1) };
        format!(r#"{{"type":"record","name":"R{n}","fields":[{{"name":"a","type":{inner}}},{{"name":"b","type":"{again}"}}]}}"#)
    });
    let format = format(&[]);
    for (schema, part) in [
        ("{", "not JSON"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"next","type":["null","R"]}]}"#,
            "R contains itself; values of such a type have no columns and cannot be converted, in field next of R",
        ),
        (
            r#"{"type":"record","name":"n.A","fields":[{"name":"b","type":{"type":"record","name":"B","fields":[{"name":"back","type":{"type":"map","values":"A"}}]}}]}"#,
            "n.A contains itself; values of such a type have no columns and cannot be converted, in field back of n.B, in field b of n.A",
        ),
        (&doubling, "more than 50000 parts"),
        (r#"{"type":"record","name":"R","fields":[{"name":"x","type":"a.Missing"}]}"#, "a.Missing"),
        (r#"{"type":"record","fields":[]}"#, "no name"),
    ] {
        let error = format.reader(&registered(schema), &[]).err().expect("refused");
        assert!(error.contains(part), "{error}");
    }
    let referring = Registered {
        id: 1,
        schema: SchemaText::plain(
            "AVRO",
            r#"{"type":"record","name":"R","fields":[{"name":"x","type":"a.Other"}]}"#.to_owned(),
        ),
        dependencies: vec![("a.Other".to_owned(), r#"{"type":"enum","name":"a.Other","symbols":["A"]}"#.to_owned())],
    };
    let reader = format.reader(&referring, &[]).unwrap();
    let decoded = format.read(&reader, &[Some(&[0])]).unwrap();
    assert!(decoded.failures.is_empty());
    let _: Arc<dyn Array> = decoded.array;
}
