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
        format.write(&(), &column, &mut |_, bytes| out.push(bytes.unwrap().to_vec())).unwrap();
        assert_eq!(out.len(), 1);
        let reader = format.reader(&registered(&outgoing.schema.text, &[]), &[]).unwrap();
        let found: Value = serde_json::from_str(&field_to_json(&reader).unwrap()).unwrap();
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
    let found: Value = serde_json::from_str(&field_to_json(&reader).unwrap()).unwrap();
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

#[test]
fn what_has_no_columns_is_refused() {
    let format = format(&[]);
    for (schema, part) in [
        (json!({"type": "object", "properties": {"n": {"$ref": "#"}}}), "contains itself"),
        (json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}), "2 alternatives"),
        (json!({"$ref": "gone.json"}), "gone.json"),
        (json!({}), "no type"),
    ] {
        let error = format.reader(&registered(&schema.to_string(), &[]), &[]).expect_err("refused");
        assert!(error.contains(part), "{error}");
    }
}
