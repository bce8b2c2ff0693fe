//! Schemas both ways and values, also as another implementation of Protobuf writes them.

use arrow_array::Array;
use serde_json::{Value, json};
use tributary_sdk::{Column, Config};

use super::ProtobufFormat;
use super::wire;
use crate::converter::json::{Encoder, Options as JsonOptions, decode, field_from_json, field_to_json};
use crate::converter::schema_registry::{Format, Registered, SchemaText};

fn format(pairs: &[(&str, &str)]) -> ProtobufFormat {
    let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    ProtobufFormat::new(&Config(pairs.collect())).unwrap()
}

fn registered(schema: &str, dependencies: &[(&str, &str)]) -> Registered {
    let owned = dependencies.iter().map(|(name, schema)| (name.to_string(), schema.to_string()));
    Registered { id: 1, schema: SchemaText::plain("PROTOBUF", schema.to_owned()), dependencies: owned.collect() }
}

fn column(schema: &Value, rows: &[&str]) -> Column {
    let field = field_from_json(schema).unwrap();
    let texts: Vec<_> = rows.iter().map(|text| Some(*text)).collect();
    let (array, failures) = decode(&field, &texts, &JsonOptions::default()).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    Column::new(field, array)
}

fn written(format: &ProtobufFormat, schema: &Registered, column: &Column) -> Result<Vec<Vec<u8>>, String> {
    let writer = format.writer(schema, column, true)?;
    let mut out = Vec::new();
    let mut why = None;
    format.write(&writer, column, &mut |_, bytes| match bytes {
        Ok(bytes) => out.push(bytes.to_vec()),
        Err(message) => why = Some(message),
    })?;
    why.map_or(Ok(out), Err)
}

/// The schema and the values, as JSON, of values with their index lists.
fn read(format: &ProtobufFormat, schema: &Registered, rows: &[Vec<u8>]) -> (Value, Vec<Value>) {
    let prefix = format.prefix_len(&rows[0]).unwrap();
    let reader = format.reader(schema, &rows[0][..prefix]).unwrap();
    let values: Vec<_> = rows.iter().map(|row| Some(&row[prefix..])).collect();
    let decoded = format.read(&reader, &values).unwrap();
    assert!(decoded.failures.is_empty(), "{:?}", decoded.failures);
    let options = JsonOptions { numeric_decimals: true, ..JsonOptions::default() };
    let encoder = Encoder::new(&decoded.field, &decoded.array, &options).unwrap();
    let json = |row| {
        let mut text = String::new();
        encoder.write(row, &mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    (serde_json::from_str(&field_to_json(&decoded.field).unwrap()).unwrap(), (0..rows.len()).map(json).collect())
}

#[test]
fn every_type_goes_there_and_back() {
    let schema = json!({"type": "struct", "name": "shop.Order", "fields": [
        {"field": "b", "type": "boolean", "optional": true},
        {"field": "i8", "type": "int8", "optional": true},
        {"field": "i32", "type": "int32", "optional": true},
        {"field": "i64", "type": "int64", "optional": true},
        {"field": "f", "type": "float", "optional": true},
        {"field": "d", "type": "double", "optional": true},
        {"field": "s", "type": "string", "optional": true},
        {"field": "y", "type": "bytes", "optional": true},
        {"field": "at", "type": "int64", "optional": true, "name": "org.apache.kafka.connect.data.Timestamp", "version": 1},
        {"field": "on", "type": "int32", "optional": true, "name": "org.apache.kafka.connect.data.Date", "version": 1},
        {"field": "time", "type": "int32", "optional": true, "name": "org.apache.kafka.connect.data.Time", "version": 1},
        {"field": "sum", "type": "bytes", "optional": true, "name": "org.apache.kafka.connect.data.Decimal", "version": 1, "parameters": {"scale": "2"}},
        {"field": "tags", "type": "array", "optional": true, "items": {"type": "string"}},
        {"field": "numbers", "type": "array", "optional": true, "items": {"type": "int64"}},
        {"field": "counts", "type": "map", "optional": true, "keys": {"type": "string"}, "values": {"type": "int32"}},
        {"field": "inner", "type": "struct", "optional": true, "name": "shop.Inner", "fields": [{"field": "x", "type": "int32", "optional": true}]},
        {"field": "more", "type": "array", "optional": true, "items": {"type": "struct", "name": "shop.Inner", "fields": [{"field": "x", "type": "int32", "optional": true}]}},
    ]});
    let row = r#"{"b":true,"i8":-3,"i32":-70000,"i64":9000000000,"f":0.5,"d":1e300,"s":"é","y":"AAH/","at":-1,"on":-1,"time":86399999,"sum":"+y4=","tags":["","a"],"numbers":[1,-1],"counts":{"one":1,"zero":0},"inner":{"x":7},"more":[{"x":1},{"x":0}]}"#;
    let column = column(&schema, &[row]);
    for pairs in [&[][..], &[("optional.for.nullables", "true")], &[("wrapper.for.nullables", "true")]] {
        let format = format(pairs);
        let outgoing = format.outgoing(&column).unwrap();
        assert_eq!(outgoing.record.as_deref(), Some("shop.Order"));
        let schema = registered(&outgoing.schema.text, &[]);
        let bytes = written(&format, &schema, &column).unwrap();
        let (found, values) = read(&format, &schema, &bytes);
        let mut wanted: Value = serde_json::from_str(row).unwrap();
        wanted["sum"] = json!(-12.34);
        assert_eq!(values[0], wanted, "{}", outgoing.schema.text);
        assert_eq!(found["fields"][0]["parameters"], json!({"io.confluent.connect.protobuf.Tag": "1"}));
    }
}

#[test]
fn the_wire_is_protobufs() {
    // From the documentation of the encoding: field 1 = 150, field 2 = "testing", packed field 6 = [3, 270, 86942].
    let schema = registered(
        "syntax = \"proto3\"; /* a */ package p; // b\n message Test { int32 a = 1; string b = 2; repeated int32 f = 6; sint32 z = 7;\n\
         message Deep { enum E { NONE = 0; SOME = 2; } E e = 1; oneof one { string s = 3; int64 n = 4; } optional bool o = 5; } }",
        &[],
    );
    let format = format(&[]);
    let bytes = [&[0, 8, 0x96, 1, 0x12, 7][..], b"testing", &[0x32, 6, 3, 0x8e, 2, 0x9e, 0xa7, 5, 0x38, 3]].concat();
    let (_, values) = read(&format, &schema, &[bytes]);
    assert_eq!(values, [json!({"a": 150, "b": "testing", "f": [3, 270, 86942], "z": -2})]);
    // The nested message: index list [0, 0].
    let head = [4_u8, 0, 0];
    let (found, values) = read(
        &format,
        &schema,
        &[[&head[..], &[8, 2, 0x20, 9]].concat(), [&head[..], &[0x1a, 0, 0x28, 0]].concat(), head.to_vec()],
    );
    assert_eq!(
        values,
        [
            json!({"e": "SOME", "one_0": {"s": null, "n": 9}, "o": null}),
            json!({"e": "NONE", "one_0": {"s": "", "n": null}, "o": false}),
            json!({"e": "NONE", "one_0": null, "o": null}),
        ]
    );
    assert_eq!(found["name"], "Deep");
    assert_eq!(found["fields"][1]["name"], "io.confluent.connect.protobuf.Union.one");
    for list in [vec![0], vec![1], vec![0, 0], vec![3, 200, 0]] {
        let mut bytes = Vec::new();
        wire::put_indexes(&mut bytes, &list);
        assert_eq!(wire::indexes(&bytes).unwrap(), (list, bytes.len()));
    }
}

#[test]
fn imports_are_found_and_what_has_no_columns_is_refused() {
    let format = format(&[]);
    let schema = "syntax = \"proto3\"; import \"other.proto\"; import \"google/protobuf/timestamp.proto\"; \
                  message M { o.Other x = 1; google.protobuf.Timestamp t = 2; google.protobuf.Timestamp u = 3; }";
    let other = "syntax = \"proto3\"; package o; message Other { int64 n = 1; }";
    let (_, values) =
        read(&format, &registered(schema, &[("other.proto", other)]), &[vec![0, 0x0a, 2, 8, 5, 0x12, 2, 8, 1]]);
    assert_eq!(values, [json!({"x": {"n": 5}, "t": 1000, "u": null})]);
    for (schema, part) in [
        (schema, "other.proto"),
        ("syntax = \"proto3\"; message M { M next = 1; }", "contains itself"),
        ("syntax = \"proto3\"; message M { Gone x = 1; }", "Gone"),
        ("message M { int32 x = ; }", "="),
        ("syntax = \"proto3\"; enum E { A = 0; }", "no message"),
    ] {
        let error = format.reader(&registered(schema, &[]), &[0]).err().expect("refused");
        assert!(error.contains(part) || part == "=", "{error}");
    }
}

#[test]
fn damaged_values_fail_their_rows_only() {
    let format = format(&[]);
    let schema = registered(
        "syntax = \"proto3\"; message M { repeated N n = 1; string s = 2; map<string, N> m = 3; message N { double d = 1; } }",
        &[],
    );
    let good = [&[0x0a, 9, 9][..], &1.5_f64.to_le_bytes(), &[0x12, 1, b'x', 0x1a, 3, 0x0a, 1, b'k']].concat();
    let reader = format.reader(&schema, &[0]).unwrap();
    for cut in 0..good.len() {
        let decoded = format.read(&reader, &[Some(&good), Some(&good[..cut]), Some(&good)]).unwrap();
        assert_eq!(decoded.array.len(), 3);
        // A value may end between two fields.
        assert!(decoded.failures.iter().all(|failure| failure.row == 1));
        let mut text = String::new();
        Encoder::new(&decoded.field, &decoded.array, &JsonOptions::default()).unwrap().write(2, &mut text).unwrap();
        assert_eq!(text, r#"{"n":[{"d":1.5}],"s":"x","m":{"k":{"d":0.0}}}"#);
    }
}

#[test]
fn plain_values_stand_in_the_messages_that_protobuf_has_for_them() {
    let format = format(&[]);
    for (kind, rows, place, bytes) in [
        ("string", &[r#""a""#, r#""""#][..], 7, &[10, 1, b'a'][..]),
        ("int64", &["5", "0"], 2, &[8, 5]),
        ("int8", &["5", "0"], 4, &[8, 5]),
        ("boolean", &["true", "false"], 6, &[8, 1]),
        ("bytes", &[r#""AQ==""#, r#""""#], 8, &[10, 1, 1]),
    ] {
        let column = column(&json!({"type": kind, "optional": true}), rows);
        let outgoing = format.outgoing(&column).unwrap();
        let schema = registered(&outgoing.schema.text, &[]);
        let out = written(&format, &schema, &column).unwrap();
        // One index, in zigzag, then the message.
        assert_eq!(out[0], [&[2, place * 2][..], bytes].concat(), "{kind}");
        assert_eq!(out[1].len(), 2, "{kind}: a default is not written");
        let (connect, values) = read(&format, &schema, &out);
        assert_eq!(
            (&connect["type"], &connect["optional"]),
            (&json!(if kind == "int8" { "int32" } else { kind }), &json!(true))
        );
        let expected: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        assert_eq!(values, expected);
        let reader = format.reader(&schema, &[2, place * 2]).unwrap();
        let decoded = format.read(&reader, &[None, Some(&out[0][2..]), Some(&[0xff])]).unwrap();
        assert!(decoded.array.is_null(0) && decoded.array.is_valid(1));
        assert_eq!(decoded.failures[0].row, 2);
    }
    let off = self::format(&[("wrapper.for.raw.primitives", "false")]);
    let refused = off.outgoing(&column(&json!({"type": "string"}), &[r#""a""#])).err().unwrap();
    assert!(refused.contains("HoistField"), "{refused}");
}

#[test]
fn the_fields_of_a_oneof_may_be_those_of_the_message() {
    let schema =
        registered("syntax = \"proto3\"; message M { int32 a = 1; oneof o { string b = 2; int64 c = 3; } }", &[]);
    let rows = [vec![0, 8, 1, 18, 1, b'x'], vec![0, 24, 0]];
    let (connect, values) = read(&format(&[("flatten.unions", "true")]), &schema, &rows);
    assert_eq!(values, [json!({"a": 1, "b": "x", "c": null}), json!({"a": 0, "b": null, "c": 0})]);
    assert_eq!(connect["fields"][1]["optional"], true);
    let (_, values) = read(&format(&[]), &schema, &rows);
    assert_eq!(values[0], json!({"a": 1, "o_0": {"b": "x", "c": null}}));
}

#[test]
fn nulls_become_the_defaults_that_the_records_schema_has() {
    let schema = json!({"type": "struct", "name": "D", "fields": [
        {"field": "a", "type": "string", "optional": true, "default": "none"},
        {"field": "b", "type": "int32", "optional": true, "default": 7},
        {"field": "c", "type": "array", "optional": true, "items": {"type": "int32"}, "default": [1, 2]},
        {"field": "d", "type": "int32", "optional": true, "default": 0},
        {"field": "e", "type": "string", "optional": true}]});
    let field = field_from_json(&schema).unwrap();
    let keep = JsonOptions { replace_null_with_default: false, ..JsonOptions::default() };
    let (array, _) = decode(&field, &[Some(r#"{"a":null,"b":null,"c":null,"d":null,"e":null}"#)], &keep).unwrap();
    let column = Column::new(field, array);
    for (options, expected) in [
        (&[][..], json!({"a": "none", "b": 7, "c": [1, 2], "d": 0, "e": ""})),
        (&[("ignore.default.for.nullables", "true")], json!({"a": "", "b": 0, "c": [], "d": 0, "e": ""})),
        (&[("optional.for.nullables", "true")], json!({"a": "none", "b": 7, "c": [1, 2], "d": 0, "e": null})),
    ] {
        let format = format(options);
        let text = format.outgoing(&column).unwrap().schema.text;
        let schema = registered(&text, &[]);
        let rows = written(&format, &schema, &column).unwrap();
        assert_eq!(read(&format, &schema, &rows).1[0], expected, "{options:?}");
    }
}

#[test]
fn what_was_not_written_is_null_or_its_default() {
    let proto2 = r#"syntax = "proto2";
        message M { optional int32 a = 1 [default = 5]; optional string b = 2 [default = "x"]; optional bool c = 3; optional M2 m = 4; }
        message M2 { optional int64 n = 1; }"#;
    let proto3 = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
        message M { int32 a = 1; optional string b = 2; M2 m = 4; google.protobuf.Timestamp t = 5; oneof o { int32 x = 6; M2 y = 7; } }
        message M2 { int64 n = 1; }"#;
    let empty = [vec![0_u8]];
    for (text, options, expected) in [
        (proto2, &[][..], json!({"a": null, "b": null, "c": null, "m": null})),
        (proto2, &[("optional.for.proto2", "false")], json!({"a": 5, "b": "x", "c": false, "m": null})),
        (proto2, &[("generate.struct.for.nulls", "true")], json!({"a": 5, "b": "x", "c": false, "m": {"n": 0}})),
        (proto3, &[], json!({"a": 0, "b": null, "m": null, "t": null, "o_0": null})),
        (
            proto3,
            &[("generate.struct.for.nulls", "true")],
            json!({"a": 0, "b": "", "m": {"n": 0}, "t": 0, "o_0": null}),
        ),
    ] {
        let (_, values) = read(&format(options), &registered(text, &[]), &empty);
        assert_eq!(values[0], expected, "{options:?} of {text}");
    }
}

#[test]
fn messages_that_contain_each_other_or_grow_without_bounds_are_refused() {
    let levels: String = (0..50).map(|n| format!("message L{n} {{ L{} a = 1; L{} b = 2; }}\n", n + 1, n + 1)).collect();
    let growing = format!("syntax = \"proto3\"; {levels} message L50 {{ int32 x = 1; }}");
    let mutual = r#"syntax = "proto3"; message A { repeated B list = 1; } message B { map<string, C> by_name = 1; } message C { oneof o { A back = 2; } }"#;
    for (text, part) in [
        (growing.as_str(), "more than 20000 fields"),
        (
            mutual,
            "A contains itself; values of such a type have no columns and cannot be converted, in field back of C, in field by_name of B, in field list of A",
        ),
    ] {
        let refused = format(&[]).reader(&registered(text, &[]), &[0]).err().expect("refused");
        assert!(refused.contains(part), "{refused}");
    }
}
