//! What converters write others read, and what others write converters read.

use serde_json::{Value, json};
use tributary_harness::{KafkaBroker, Result, SchemaRegistry};

use super::{
    AVRO, JSON_SCHEMA, PROTOBUF, converter, judge, lines, merged, orders, produce, schema_of, to_file, unique,
};
use super::{values, worker};

const ORDERS: usize = 400;

/// Schemas and values of the other side, and what comes out of them.
fn foreign() -> Vec<(&'static str, &'static str, String, Vec<Value>, Vec<Value>)> {
    let avro = json!({"type": "record", "name": "Item", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"},
        {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "note", "type": ["null", "string"], "default": null},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "size", "type": {"type": "record", "name": "Size", "fields": [{"name": "x", "type": "float"}]}},
        {"name": "either", "type": ["null", "string", "long"], "default": null}]});
    let item = |note: Value, either: Value| {
        json!({"id": 5, "colour": "BLUE", "at": 1_700_000_000_123_i64, "price": "12.50", "note": note,
            "tags": ["a", "é"], "counts": {"k": 3}, "size": {"x": 0.5}, "either": either})
    };
    let came = |note: Value, either: Value| {
        json!({"id": 5, "colour": "BLUE", "at": 1_700_000_000_123_i64, "price": 12.5, "note": note,
            "tags": ["a", "é"], "counts": {"k": 3}, "size": {"x": 0.5}, "either": either})
    };
    let proto = "syntax = \"proto3\"; package shop; import \"google/protobuf/timestamp.proto\"; \
        message Item { sint64 id = 1; enum Colour { RED = 0; BLUE = 1; } Colour colour = 2; google.protobuf.Timestamp at = 3; \
        optional string note = 4; repeated int32 numbers = 5; map<string, double> ratios = 6; message Size { uint32 x = 1; } Size size = 7; \
        oneof either { string text = 8; bool flag = 9; } bytes raw = 10; }";
    let json_schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": "Item", "type": "object",
        "properties": {"id": {"type": "integer"}, "ratio": {"type": "number"}, "colour": {"enum": ["RED", "BLUE"], "type": "string"},
            "note": {"oneOf": [{"type": "null"}, {"type": "string"}]}, "tags": {"type": "array", "items": {"type": "string"}},
            "either": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}});
    vec![
        (
            "AVRO",
            AVRO,
            avro.to_string(),
            vec![item(json!("n"), json!("t")), item(Value::Null, json!(9)), item(Value::Null, Value::Null)],
            vec![
                came(json!("n"), json!({"string": "t", "long": null})),
                came(Value::Null, json!({"string": null, "long": 9})),
                came(Value::Null, Value::Null),
            ],
        ),
        (
            "PROTOBUF",
            PROTOBUF,
            proto.to_owned(),
            vec![
                json!({"id": -5, "colour": "BLUE", "at": "2023-11-14T22:13:20.123Z", "note": "", "numbers": [1, -2], "ratios": {"r": 0.5},
                    "size": {"x": 7}, "flag": true, "raw": "AQI="}),
                json!({}),
            ],
            vec![
                json!({"id": -5, "colour": "BLUE", "at": 1_700_000_000_123_i64, "note": "", "numbers": [1, -2], "ratios": {"r": 0.5},
                    "size": {"x": 7}, "either_0": {"text": null, "flag": true}, "raw": "AQI="}),
                json!({"id": 0, "colour": "RED", "at": null, "note": null, "numbers": [], "ratios": {}, "size": null, "either_0": null, "raw": ""}),
            ],
        ),
        (
            "JSON",
            JSON_SCHEMA,
            json_schema.to_string(),
            vec![
                json!({"id": 1, "ratio": 0.25, "colour": "RED", "note": null, "tags": [], "either": "x"}),
                json!({"id": 2, "ratio": 3, "colour": "BLUE", "note": "n", "tags": ["é"], "either": 4}),
            ],
            vec![
                json!({"id": 1, "ratio": 0.25, "colour": "RED", "note": null, "tags": [],
                    "either": {"io.confluent.connect.json.OneOf.field.0": "x", "io.confluent.connect.json.OneOf.field.1": null}}),
                json!({"id": 2, "ratio": 3.0, "colour": "BLUE", "note": "n", "tags": ["é"],
                    "either": {"io.confluent.connect.json.OneOf.field.0": null, "io.confluent.connect.json.OneOf.field.1": 4}}),
            ],
        ),
    ]
}

#[test]
fn what_one_side_writes_the_other_reads() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let registry = SchemaRegistry::shared()?;
    let worker = worker(&broker)?;
    let put = |name: &str, config: Value| worker.rest().put_connector(name, &config).map(drop);

    // The same orders as JSON: what they are.
    let reference = unique("orders-plain");
    let plain = json!({"value.converter": "JsonConverter", "value.converter.schemas.enable": "false"});
    put(&reference, merged(orders(&reference, ORDERS), plain))?;
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let expected = values(&broker, &reference, ORDERS)?;
    let mut expected: Vec<Value> = expected.iter().map(|value| parse(&String::from_utf8_lossy(value))).collect();
    let by_id = |value: &Value| value["order_id"].to_string();
    expected.sort_by_key(by_id);

    for (kind, class, schema, written, came) in foreign() {
        // Out.
        let topic = unique(&format!("orders-{}", kind.to_lowercase()));
        put(&topic, merged(orders(&topic, ORDERS), converter(class, &registry.url(), json!({}))))?;
        let found = values(&broker, &topic, ORDERS)
            .map_err(|error| worker.with_log(format!("{error}; {:?}", worker.rest().status(&topic))))?;
        let registered = schema_of(&registry, &format!("{topic}-value"))?;
        let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let job = json!({"do": "read", "kind": kind, "id": registered["id"], "schema": registered["schema"],
            "values": found.iter().map(hex).collect::<Vec<_>>()});
        let mut read: Vec<Value> = judge(&worker, &job)?.iter().map(|line| parse(line)).collect();
        read.sort_by_key(by_id);
        assert_eq!(read.len(), expected.len(), "{kind}");
        for (read, expected) in read.iter().zip(&expected) {
            assert_eq!(read, expected, "{kind}");
        }

        // And in.
        let topic = unique(&format!("items-{}", kind.to_lowercase()));
        let subject = format!("/subjects/{topic}-value/versions");
        let id = registry.rest().post(&subject, &json!({"schemaType": kind, "schema": schema}))?.ok()?["id"].clone();
        let job =
            json!({"do": "write", "kind": kind, "id": id, "schema": schema, "message": "Item", "values": written});
        let bytes = |line: &String| {
            (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("hex")).collect()
        };
        produce(&broker, &topic, &judge(&worker, &job)?.iter().map(bytes).collect::<Vec<Vec<u8>>>())?;
        let file = worker.dir().join(&topic);
        put(&topic, merged(to_file(&topic, &file), converter(class, &registry.url(), json!({}))))?;
        let out: Vec<Value> = lines(&worker, &topic, &file, came.len())?.iter().map(|line| parse(line)).collect();
        assert_eq!(out, came, "{kind}");
    }
    Ok(())
}
