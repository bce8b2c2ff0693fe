//! Rows into batches and back.

use std::sync::Arc;

use serde_json::{Value, json};
use tributary_sdk::arrow::array::{Array, BinaryArray, DictionaryArray, Int32Array, StringArray, StructArray};
use tributary_sdk::arrow::schema::{DataType, Field, Fields, TimeUnit};
use tributary_sdk::*;

fn batches(records: impl IntoIterator<Item = Record>) -> Vec<Batch> {
    let mut builder = Records::to("t").from(&json!({"p": 1}));
    for record in records {
        builder.push(record).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn a_batch_has_only_the_columns_it_needs() {
    let plain = batches([Record::text("a"), Record::tombstone(), Record::text("")]).remove(0);
    assert_eq!(plain.value.form(), Form::Text);
    assert!(plain.key.is_none() && plain.headers.is_none() && plain.timestamps.is_none() && plain.partitions.is_none());
    assert!(matches!(plain.offsets, Offsets::None));
    let values: Vec<_> = plain.rows().map(|row| (row.value().is_null(), row.value().as_str())).collect();
    assert_eq!(values, [(false, Some("a")), (true, None), (false, Some(""))]);

    let full = batches([
        Record::bytes([255u8, 0]),
        Record::bytes("b")
            .key("k")
            .header("h", "1")
            .header("h", "2")
            .header_bytes("n", None)
            .timestamp(5)
            .partition(3)
            .offset(&json!({"at": 2})),
    ])
    .remove(0);
    let rows: Vec<Row<'_>> = full.rows().collect();
    assert_eq!(rows[0].value().as_bytes(), Some(&[255u8, 0][..]));
    assert!(rows[0].key().is_null() && rows[0].timestamp().is_none() && rows[0].headers().next().is_none());
    assert_eq!((rows[1].key().as_str(), rows[1].timestamp(), rows[1].index()), (Some("k"), Some(5), 1));
    let headers: Vec<_> = rows[1].headers().collect();
    assert_eq!(headers, [("h", Some(&b"1"[..])), ("h", Some(b"2")), ("n", None)]);
    assert_eq!(full.partitions.as_ref().map(|partitions| partitions.value(1)), Some(3));
    assert_eq!((full.resume_point(), full.source_partition.as_deref()), (Some("{\"at\":2}"), Some("{\"p\":1}")));
    let part = full.slice(1, 1);
    assert_eq!(part.rows().next().unwrap().headers().count(), 3);
}

#[test]
fn a_change_begins_a_new_batch() {
    let made = batches([
        Record::text("1"),
        Record::text("2").topic("u"),
        Record::text("3").topic("u").source_partition(&json!({"p": 2})),
        Record::raw_json("4").topic("u").source_partition(&json!({"p": 2})),
        Record::tombstone().topic("u").source_partition(&json!({"p": 2})),
        Record::raw_json("5").topic("u").source_partition(&json!({"p": 2})).key("k"),
        Record::raw_json("6").topic("u").source_partition(&json!({"p": 2})).key_bytes("k"),
    ]);
    let shapes: Vec<_> = made.iter().map(|batch| (&*batch.topic, batch.len(), batch.value.form())).collect();
    use Form::{Json, Text};
    assert_eq!(shapes, [("t", 1, Text), ("u", 1, Text), ("u", 1, Text), ("u", 3, Json), ("u", 1, Json)]);
    assert_eq!(batches([Record::tombstone(), Record::tombstone()])[0].value.len(), 2);
    assert!(batches([]).is_empty());
}

#[test]
fn structured_rows_infer_their_schema() {
    let row = |value: Value| Record::row(&value).unwrap();
    let made = batches([
        row(json!({"id": 1, "name": null, "tags": ["a"], "at": {"x": 1}})),
        row(json!({"id": 2.5, "name": "n", "new": true, "at": {"x": null, "y": "z"}})),
        Record::tombstone(),
        row(json!({"id": "text now"})),
    ]);
    assert_eq!(made.len(), 2, "a text does not go with numbers");
    assert_eq!(made[0].value.form(), Form::Structured);
    let DataType::Struct(fields) = made[0].value.field().data_type() else { panic!() };
    let types: Vec<_> = fields.iter().map(|field| (field.name().as_str(), field.data_type().to_string())).collect();
    assert_eq!(types[0], ("id", "Float64".into()));
    assert_eq!(types[4].0, "new");
    let rows: Vec<Value> = made[0].rows().map(|row| row.value().to_json().unwrap()).collect();
    assert_eq!(rows[0], json!({"id": 1.0, "name": null, "tags": ["a"], "at": {"x": 1, "y": null}, "new": null}));
    assert_eq!(rows[1], json!({"id": 2.5, "name": "n", "tags": null, "at": {"x": null, "y": "z"}, "new": true}));
    assert_eq!(rows[2], Value::Null);
    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Typed {
        id: f64,
        name: Option<String>,
    }
    let typed: Typed = made[0].rows().next().unwrap().value().parse().unwrap();
    assert_eq!(typed, Typed { id: 1.0, name: None });
    let mut records = Records::to("t");
    let error = records.push(Record::row(&5).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "a structured value must be an object, not 5");
}

#[test]
fn a_declared_schema_is_kept_to() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int16, false)));
    let entries =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
    let fields = Fields::from(vec![
        Field::new("id", DataType::UInt8, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("raw", DataType::Binary, true),
        Field::new("list", list, true),
        Field::new("map", map, true),
    ]);
    let mut records = Records::to("t").with_value_schema(fields);
    let good = json!({"id": 255, "at": 9, "raw": [1, 255], "list": [1, 2], "map": {"a": 1, "b": null}, "extra": 1});
    records.push(Record::row(&good).unwrap()).unwrap();
    records.push(Record::row(&json!({"id": 0, "raw": "AQI="})).unwrap()).unwrap();
    let mut refused = |row: Value| records.push(Record::row(&row).unwrap()).unwrap_err().to_string();
    assert_eq!(refused(json!({})), "id is required by the schema, and a row does not have it");
    assert_eq!(refused(json!({"id": 256})), "id must be an integer within UInt8 and is a number that does not fit");
    assert_eq!(refused(json!({"id": 1, "list": [null]})).split(':').next().unwrap(), "malformed columns");
    assert_eq!(records.len(), 2);
    let batch = records.finish().unwrap().remove(0);
    let rows: Vec<Value> = batch.rows().map(|row| row.value().to_json().unwrap()).collect();
    assert_eq!(rows[0], json!({"id": 255, "at": 9, "raw": "Af8=", "list": [1, 2], "map": {"a": 1, "b": null}}));
    assert_eq!(rows[1], json!({"id": 0, "at": null, "raw": "AQI=", "list": null, "map": null}));
}

#[test]
fn offsets_need_their_partition() {
    let mut records = Records::to("t");
    let error = records.push(Record::text("x").offset(&json!({"a": 1}))).unwrap_err().to_string();
    assert!(error.contains("no source partition"), "{error}");
    let mut records = Records::to("t").from(&json!({"p": 1}));
    assert!(records.push(Record::text("x").offset(&json!(5))).is_err());
}

#[test]
fn other_columns_are_shown_as_connect_shows_them() {
    let shown = |column: Column| -> Vec<Value> {
        Batch::new("t", column).rows().map(|row| row.value().to_json().unwrap()).collect()
    };
    let decimal = |scale: &str| {
        let metadata = [
            (batch::SCHEMA_NAME.to_owned(), "org.apache.kafka.connect.data.Decimal".to_owned()),
            (batch::SCHEMA_PARAMETERS.to_owned(), format!("{{\"scale\":\"{scale}\"}}")),
        ];
        Field::new("", DataType::Binary, true).with_metadata(metadata)
    };
    let unscaled = || Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0x01, 0x00]), Some(&[0xFF]), None]));
    assert_eq!(shown(Column::new(decimal("2"), unscaled())), [json!("2.56"), json!("-0.01"), Value::Null]);
    assert_eq!(shown(Column::new(decimal("0"), unscaled()))[1], json!("-1"));
    assert_eq!(shown(Column::new(decimal("-2"), unscaled()))[0], json!("25600"));
    let dictionary = DictionaryArray::new(Int32Array::from(vec![1, 0]), Arc::new(StringArray::from(vec!["a", "b"])));
    let field = Field::new("", dictionary.data_type().clone(), true);
    assert_eq!(shown(Column::new(field, Arc::new(dictionary))), [json!("b"), json!("a")]);
    let empty = StructArray::new_empty_fields(1, None);
    let field = Field::new("", empty.data_type().clone(), true);
    assert_eq!(shown(Column::new(field, Arc::new(empty))), [json!({})]);
    assert_eq!(shown(Column::json(StringArray::from(vec!["[1]"]))), [json!([1])]);
    let broken = Batch::new("t", Column::json(StringArray::from(vec!["[1"])));
    assert!(broken.rows().next().unwrap().value().to_json().is_err());
}
