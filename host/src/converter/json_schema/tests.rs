//! Schemas both ways and values.

use serde_json::{Value, json};
use tributary_sdk::{Column, Config};

use super::JsonSchemaFormat;
use crate::converter::json::{Options as JsonOptions, decode, field_from_json, field_to_json};
use crate::converter::schema_registry::{Format, Registered, SchemaText};

fn format(pairs: &[(&str, &str)]) -> JsonSchemaFormat {
    let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    JsonSchemaFormat::new(&Config(pairs.collect())).unwrap()
}

fn registered(schema: &str, dependencies: &[(&str, Value)]) -> Registered {
    let owned = dependencies.iter().map(|(name, schema)| (name.to_string(), schema.to_string()));
    Registered { id: 1, schema: SchemaText::plain("JSON", schema.to_owned()), dependencies: owned.collect() }
}

fn order() -> Value {
    json!({"type": "struct", "name": "shop.Order", "version": 2, "optional": false, "fields": [
        {"field": "id", "type": "int64", "optional": false},
        {"field": "small", "type": "int8", "optional": true},
        {"field": "text", "type": "string", "optional": true, "default": "none", "doc": "what it is"},
        {"field": "ratio", "type": "float", "optional": false},
        {"field": "at", "type": "int64", "optional": false, "name": "org.apache.kafka.connect.data.Timestamp", "version": 1},
        {"field": "sum", "type": "bytes", "optional": false, "name": "org.apache.kafka.connect.data.Decimal", "version": 1, "parameters": {"scale": "2"}},
        {"field": "tags", "type": "array", "items": {"type": "string", "optional": false}, "optional": false},
        {"field": "counts", "type": "map", "keys": {"type": "string", "optional": false}, "values": {"type": "int32", "optional": false}, "optional": false},
        {"field": "inner", "type": "struct", "name": "shop.Inner", "fields": [{"field": "x", "type": "boolean", "optional": false}], "optional": true},
    ]})
}

#[test]
fn schemas_and_values_go_there_and_back() {
    for pairs in [&[][..], &[("decimal.format", "NUMERIC")]] {
        let format = format(pairs);
        let field = field_from_json(&order()).unwrap();
        let rows = [
            r#"{"id":1,"small":-3,"text":"é","ratio":0.5,"at":1700000000000,"sum":"BNI=","tags":["a"],"counts":{"k":1},"inner":{"x":true}}"#,
        ];
        let (array, failures) = decode(&field, &[Some(rows[0]), None], &JsonOptions::default()).unwrap();
        assert!(failures.is_empty());
        let column = Column::new(field.clone(), array);
        let outgoing = format.outgoing(&column).unwrap();
        assert_eq!(outgoing.record.as_deref(), Some("shop.Order"));
        let mut out = Vec::new();
        let writer = format.writer(&registered(&outgoing.schema.text, &[]), &column, true).unwrap();
        format.write(&writer, &column, &mut |_, bytes| out.push(bytes.unwrap().to_vec())).unwrap();
        assert_eq!(out.len(), 1);
        let reader = format.reader(&registered(&outgoing.schema.text, &[]), &[]).unwrap();
        let found: Value = serde_json::from_str(&field_to_json(&reader.field).unwrap()).unwrap();
        assert_eq!(found, order());
        let decoded = format.read(&reader, &[Some(&out[0]), None, Some(b"{")]).unwrap();
        assert_eq!(decoded.failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [2]);
        assert_eq!(decoded.array.slice(0, 1).to_data(), column.array().slice(0, 1).to_data());
    }
}

#[test]
fn schemas_are_those_of_confluents_converter() {
    let format = format(&[]);
    let field = field_from_json(&order()).unwrap();
    let column = Column::new(field.clone(), arrow_array::new_empty_array(field.data_type()));
    let schema: Value = serde_json::from_str(&format.outgoing(&column).unwrap().schema.text).unwrap();
    assert_eq!(schema["title"], "shop.Order");
    assert_eq!(schema["connect.version"], 2);
    let property = |name: &str| schema["properties"][name].clone();
    assert_eq!(property("id"), json!({"type": "integer", "connect.type": "int64", "connect.index": 0}));
    assert_eq!(
        property("small"),
        json!({"oneOf": [{"type": "null"}, {"type": "integer", "connect.type": "int8"}], "connect.index": 1})
    );
    assert_eq!(
        property("counts"),
        json!({"type": "object", "additionalProperties": {"type": "integer", "connect.type": "int32"}, "connect.type": "map", "connect.index": 7})
    );
}

#[test]
fn schemas_of_others_are_read_with_their_references() {
    let format = format(&[("use.optional.for.nonrequired", "true")]);
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"$ref": "#/definitions/id"}, "b": {"$ref": "other.json"}, "c": {"type": ["null", "number"]},
        "d": {"type": "string", "enum": ["X", "Y"]}, "e": {"type": "object", "additionalProperties": {"type": "string"}}},
        "definitions": {"id": {"type": "integer"}}});
    let other = json!({"type": "array", "items": {"type": "string"}});
    let reader = format.reader(&registered(&schema.to_string(), &[("other.json", other)]), &[]).unwrap();
    let found: Value = serde_json::from_str(&field_to_json(&reader.field).unwrap()).unwrap();
    let kinds: Vec<_> =
        found["fields"].as_array().unwrap().iter().map(|f| (f["type"].clone(), f["optional"].clone())).collect();
    assert_eq!(
        kinds,
        [
            (json!("int64"), json!(false)),
            (json!("array"), json!(true)),
            (json!("double"), json!(true)),
            (json!("string"), json!(true)),
            (json!("map"), json!(true)),
        ]
    );
    let decoded = format.read(&reader, &[Some(br#"{"a":1,"zzz":{}}"#)]).unwrap();
    assert!(decoded.failures.is_empty(), "{:?}", decoded.failures);
}

/// Twenty definitions, each of which uses the next one twice.
fn doubling() -> Value {
    let mut definitions = serde_json::Map::new();
    for n in 0..20 {
        let next = json!({"$ref": format!("#/definitions/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"type": "object", "properties": {"a": next, "b": next}}));
    }
    definitions.insert("d20".to_owned(), json!({"type": "integer"}));
    json!({"definitions": definitions, "$ref": "#/definitions/d0"})
}

#[test]
fn what_has_no_columns_is_refused() {
    let format = format(&[]);
    for (schema, part) in [
        (
            json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "object", "properties": {"n": {"$ref": "#"}}}}}}),
            "# contains itself; values of such a type have no columns and cannot be converted, in field list.item.n.list.item.n",
        ),
        (
            json!({"definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}}, "$ref": "#/definitions/a"}),
            "#/definitions/a contains itself",
        ),
        (
            json!({"definitions": {"node": {"type": "object", "properties": {"next": {"allOf": [{"$ref": "#/definitions/node"}, {"description": "x"}]}}}},
                "$ref": "#/definitions/node"}),
            "#/definitions/node contains itself; values of such a type have no columns and cannot be converted, in field next",
        ),
        (
            json!({"definitions": {"node": {"oneOf": [{"type": "null"}, {"type": "object", "properties": {"next": {"$ref": "#/definitions/node"}}}]}},
                "type": "object", "properties": {"first": {"$ref": "#/definitions/node"}}}),
            "#/definitions/node contains itself; values of such a type have no columns and cannot be converted, in field first.next",
        ),
        (doubling(), "more than 50000 parts"),
        (json!({"oneOf": [{"type": "string"}, {}]}), "no type"),
        (json!({"allOf": [{"maximum": 3}]}), "no part with a type"),
        (json!({"$ref": "gone.json"}), "gone.json"),
        (json!({}), "no type"),
    ] {
        let error = format.reader(&registered(&schema.to_string(), &[]), &[]).expect_err("refused");
        assert!(error.contains(part), "{error}");
    }
}

/// What a schema becomes, and values that are read by it and written again.
fn there_and_back(format: &JsonSchemaFormat, schema: &Value, rows: &[&str]) -> (Value, Vec<String>, Value) {
    let reader = format.reader(&registered(&schema.to_string(), &[]), &[]).unwrap();
    let values: Vec<_> = rows.iter().map(|row| Some(row.as_bytes())).collect();
    let decoded = format.read(&reader, &values).unwrap();
    assert!(decoded.failures.is_empty(), "{:?}", decoded.failures);
    let column = Column::new(reader.field.clone(), decoded.array);
    let made: Value = serde_json::from_str(&format.outgoing(&column).unwrap().schema.text).unwrap();
    let writer = format.writer(&registered(&made.to_string(), &[]), &column, true).unwrap();
    let mut out = Vec::new();
    format
        .write(&writer, &column, &mut |_, bytes| out.push(String::from_utf8(bytes.unwrap().to_vec()).unwrap()))
        .unwrap();
    (serde_json::from_str(&field_to_json(&reader.field).unwrap()).unwrap(), out, made)
}

#[test]
fn values_of_several_types_are_structs_with_a_member_each() {
    let schema = json!({"type": "object", "properties": {
        "v": {"oneOf": [{"type": "null"}, {"type": "string"}, {"type": "integer"}, {"type": "number"},
            {"type": "object", "title": "A", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}},
            {"type": "object", "title": "B", "properties": {"x": {"type": "integer"}, "z": {"type": "integer"}}}]},
        "w": {"type": ["boolean", "string", "null"]}}});
    let rows = [
        r#"{"v":"text","w":true}"#,
        r#"{"v":7,"w":"x"}"#,
        r#"{"v":7.5,"w":null}"#,
        r#"{"v":{"x":1,"z":2},"w":null}"#,
        r#"{"v":{"y":1,"x":2},"w":null}"#,
        r#"{"v":null,"w":null}"#,
    ];
    let plain = format(&[]);
    let (connect, out, made) = there_and_back(&plain, &schema, &rows);
    let v = &connect["fields"][0];
    assert_eq!((&v["name"], &v["optional"]), (&json!("io.confluent.connect.json.OneOf"), &json!(true)));
    let names: Vec<_> = v["fields"].as_array().unwrap().iter().map(|field| field["field"].as_str().unwrap()).collect();
    let expected: Vec<_> = (0..5).map(|i| format!("io.confluent.connect.json.OneOf.field.{i}")).collect();
    assert_eq!(names, expected);
    assert_eq!(out[3], r#"{"v":{"x":1,"z":2},"w":null}"#);
    assert_eq!(out[4], r#"{"v":{"x":2,"y":1},"w":null}"#);
    assert_eq!([&out[..3], &out[5..]].concat(), [&rows[..3], &rows[5..]].concat());
    let alternatives = made["properties"]["v"]["oneOf"].as_array().unwrap();
    assert_eq!(alternatives[0], json!({"type": "null"}));
    assert_eq!(alternatives[1], json!({"type": "string", "connect.index": 0}));
    assert_eq!(alternatives.len(), 6);
    // What this converter writes it reads the same way.
    assert_eq!(there_and_back(&plain, &made, &[rows[1]]).0, connect);

    let general = format(&[("generalized.sum.type.support", "true")]);
    let (connect, out, _) = there_and_back(&general, &schema, &rows[..2]);
    assert_eq!(out, rows[..2]);
    let v = &connect["fields"][0];
    assert_eq!(v["name"], "connect_union_0");
    assert_eq!(v["parameters"], json!({"org.apache.kafka.connect.data.Union": "connect_union_0"}));
    assert_eq!(v["fields"][1]["field"], "connect_union_field_1");

    let reader = plain.reader(&registered(&schema.to_string(), &[]), &[]).unwrap();
    let failures = plain.read(&reader, &[Some(br#"{"v":[1]}"#)]).unwrap().failures;
    assert!(failures[0].message.contains("Did not find matching oneof field"), "{failures:?}");
}

#[test]
fn all_of_is_one_struct_with_the_members_of_all() {
    let schema = json!({"$defs": {"base": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}},
        "allOf": [{"$ref": "#/$defs/base"}, {"type": "object", "properties": {"name": {"type": "string"}}},
            {"properties": {"kind": {"allOf": [{"type": "string"}, {"enum": ["A", "B"]}]}}}]});
    let required = format(&[("use.optional.for.nonrequired", "true")]);
    let (connect, out, _) = there_and_back(&required, &schema, &[r#"{"id":1,"kind":"B"}"#]);
    let fields: Vec<_> = connect["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["field"].as_str().unwrap(), field["type"].as_str().unwrap(), field["optional"] == true))
        .collect();
    assert_eq!(fields, [("id", "int64", false), ("name", "string", true), ("kind", "string", true)]);
    assert_eq!(out, [r#"{"id":1,"name":null,"kind":"B"}"#]);
}

#[test]
fn rules_beyond_types_count_where_they_are_asked_for() {
    let schema =
        json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}, "o": {"$ref": "other.json"}}});
    let registered = registered(&schema.to_string(), &[("other.json", json!({"type": "string", "minLength": 2}))]);
    let rows = [Some(&br#"{"n":9,"o":"ab"}"#[..]), None, Some(br#"{"n":10,"o":"ab"}"#), Some(br#"{"n":1,"o":"a"}"#)];
    let failures = |pairs: &[(&str, &str)]| {
        let format = format(pairs);
        let reader = format.reader(&registered, &[]).unwrap();
        let failures = format.read(&reader, &rows).unwrap().failures;
        let column = Column::new(
            reader.field.clone(),
            decode(&reader.field, &[Some(r#"{"n":10,"o":"ab"}"#)], &JsonOptions::default()).unwrap().0,
        );
        let writer = format.writer(&registered, &column, true).unwrap();
        let mut written = Vec::new();
        format.write(&writer, &column, &mut |_, bytes| written.extend(bytes.err())).unwrap();
        (failures, written)
    };
    assert_eq!(failures(&[]), (Vec::new(), Vec::new()));
    let (read, written) = failures(&[("json.fail.invalid.schema", "true")]);
    assert_eq!(read.iter().map(|failure| failure.row).collect::<Vec<_>>(), [2, 3]);
    assert!(read[0].message.contains("at /n: 10 is greater than the maximum of 9"), "{read:?}");
    assert!(read[1].message.contains("at /o"), "{read:?}");
    assert!(written[0].contains("/n"), "{written:?}");
}
