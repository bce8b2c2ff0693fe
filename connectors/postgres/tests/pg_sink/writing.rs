//! Insert, upsert, update, delete, truncate, and where keys come from.

use serde_json::{Value, json};
use tributary_sdk::arrow::array::{Int64Array, StringArray};
use tributary_sdk::arrow::schema::{DataType, Field};
use tributary_sdk::{Batch, Column, Record, Records};

use crate::common::Database;
use crate::{json_batch, put, refused, start, struct_column};

const UPSERT: [(&str, &str); 3] =
    [("insert.mode", "upsert"), ("primary.key.mode", "record_key"), ("delete.enabled", "true")];

fn fields() -> Vec<Field> {
    vec![
        Field::new("id", DataType::Int32, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]
}

fn keyed(rows: &[(i32, Value)]) -> Batch {
    let keys: Vec<Value> = rows.iter().map(|(id, _)| json!({"id": id})).collect();
    let values: Vec<Value> = rows.iter().map(|(_, value)| value.clone()).collect();
    let mut batch = Batch::new("orders", struct_column(fields(), &values));
    batch.key = Some(struct_column(vec![Field::new("id", DataType::Int32, false)], &keys));
    batch
}

#[test]
fn the_last_record_of_a_key_wins_and_deletes_are_in_order() {
    let database = Database::new();
    database.sql("CREATE TABLE orders (id int PRIMARY KEY, name text, n bigint DEFAULT 7)");
    let mut run = start(&database.sink_config(&UPSERT), "orders");
    let row = |id: i32, name: &str, n: i64| (id, json!({"id": id, "name": name, "n": n}));
    put(
        &mut run,
        keyed(&[row(1, "a", 1), row(2, "b", 2), row(1, "c", 3), (3, Value::Null), row(4, "d", 4), (4, Value::Null)]),
    );
    assert_eq!(database.sql("SELECT * FROM orders ORDER BY id"), "1|c|3\n2|b|2");
    put(&mut run, keyed(&[(1, Value::Null), row(1, "e", 5), (2, Value::Null), row(5, "f", 6)]));
    assert_eq!(database.sql("SELECT * FROM orders ORDER BY id"), "1|e|5\n5|f|6");
    // Whatever is put twice is the same.
    put(&mut run, keyed(&[(1, Value::Null), row(1, "e", 5), (2, Value::Null), row(5, "f", 6)]));
    assert_eq!(database.sql("SELECT * FROM orders ORDER BY id"), "1|e|5\n5|f|6");
    run.stop().unwrap();
}

#[test]
fn change_events_do_what_they_tell() {
    let database = Database::new();
    database.sql("CREATE TABLE orders (id int PRIMARY KEY, name text)");
    let row = vec![Field::new("id", DataType::Int32, false), Field::new("name", DataType::Utf8, true)];
    let side = |name: &str| Field::new(name, DataType::Struct(row.clone().into()), true);
    let envelope = vec![
        side("before"),
        side("after"),
        Field::new("op", DataType::Utf8, false),
        Field::new("ts_ms", DataType::Int64, true),
    ];
    let event = |op: &str, id: i32, name: Option<&str>| {
        let row = json!({"id": id, "name": name});
        let (before, after) = if op == "d" { (row, Value::Null) } else { (Value::Null, row) };
        let after = if op == "t" { Value::Null } else { after };
        json!({"before": before, "after": after, "op": op, "ts_ms": 1})
    };
    let batch = |events: &[(i32, Value)]| {
        let keys: Vec<Value> = events.iter().map(|(id, _)| json!({"id": id})).collect();
        let values: Vec<Value> = events.iter().map(|(_, value)| value.clone()).collect();
        let mut batch = Batch::new("orders", struct_column(envelope.clone(), &values));
        batch.key = Some(struct_column(vec![Field::new("id", DataType::Int32, false)], &keys));
        batch
    };
    let all = || database.sql("SELECT * FROM orders ORDER BY id");
    let mut run = start(&database.sink_config(&[&UPSERT[..], &[("truncate.enabled", "true")]].concat()), "orders");
    put(
        &mut run,
        batch(&[
            (1, event("r", 1, Some("a"))),
            (2, event("c", 2, Some("b"))),
            (1, event("u", 1, None)),
            (2, event("d", 2, None)),
            (2, Value::Null),
            (3, event("c", 3, Some("c"))),
        ]),
    );
    assert_eq!(all(), "1|\n3|c");
    // A value that has not changed is left as it is.
    put(&mut run, batch(&[(3, event("u", 3, Some("__debezium_unavailable_value")))]));
    assert_eq!(all(), "1|\n3|c");
    put(&mut run, batch(&[(5, event("c", 5, Some("x"))), (0, event("t", 0, None)), (4, event("c", 4, Some("d")))]));
    assert_eq!(all(), "4|d");
    run.stop().unwrap();
    // Without these keys, deletes and truncates are left out.
    let mut run = start(&database.sink_config(&UPSERT[..2]), "orders");
    put(&mut run, batch(&[(4, event("d", 4, None)), (4, Value::Null), (0, event("t", 0, None))]));
    assert_eq!(all(), "4|d");
    // Envelopes without schema.
    let mut run = start(&database.sink_config(&UPSERT), "orders");
    let source = |mut event: Value| {
        event["source"] = json!({"table": "orders"});
        event
    };
    put(
        &mut run,
        json_batch(
            "orders",
            &[(json!({"id": 8}), source(event("c", 8, Some("é\nx")))), (json!({"id": 4}), source(event("d", 4, None)))],
        ),
    );
    assert_eq!(all(), "8|é\nx");
}

#[test]
fn inserts_and_updates() {
    let database = Database::new();
    database.sql("CREATE TABLE orders (id int, name text, n bigint)");
    let row = |id: i32, name: &str| (id, json!({"id": id, "name": name, "n": id}));
    let mut run = start(&database.sink_config(&[("primary.key.mode", "none")]), "orders");
    put(&mut run, keyed(&[row(1, "a"), row(1, "b"), row(2, "c")]));
    assert_eq!(database.sql("SELECT * FROM orders"), "1|a|1\n1|b|1\n2|c|2");
    let mut run =
        start(&database.sink_config(&[("insert.mode", "update"), ("primary.key.mode", "record_key")]), "orders");
    put(&mut run, keyed(&[row(2, "x"), row(3, "y"), row(2, "z")]));
    assert_eq!(database.sql("SELECT * FROM orders"), "1|a|1\n1|b|1\n2|z|2");
    // An insert behind a delete of the same key, and a delete behind an insert.
    let mut run =
        start(&database.sink_config(&[("primary.key.mode", "record_key"), ("delete.enabled", "true")]), "orders");
    put(
        &mut run,
        keyed(&[(1, Value::Null), row(1, "p"), row(4, "q"), (4, Value::Null), row(4, "r"), (2, Value::Null)]),
    );
    assert_eq!(database.sql("SELECT * FROM orders ORDER BY id"), "1|p|1\n4|r|4");
}

#[test]
fn keys_of_all_modes() {
    let database = Database::new();
    let modes = |mode: &'static str, fields: &'static str, table: &'static str| {
        database.sink_config(&[
            ("insert.mode", "upsert"),
            ("schema.evolution", "basic"),
            ("primary.key.mode", mode),
            ("primary.key.fields", fields),
            ("collection.name.format", table),
        ])
    };
    let texts = |topic: &str, keys: &[&str], values: &[Value]| {
        let mut batch = Batch::new(
            topic,
            Column::json(values.iter().map(|value| Some(value.to_string())).collect::<StringArray>()),
        );
        batch.key = Some(Column::text(StringArray::from(keys.to_vec())));
        batch
    };
    // One value as the key.
    let mut run = start(&modes("record_key", "name", "by_key"), "t");
    put(&mut run, texts("t", &["a", "b", "a"], &[json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]));
    assert_eq!(database.sql("SELECT name, n FROM by_key ORDER BY 1"), "a|3\nb|2");
    // Without a name for it there is no column.
    let failures = start(&modes("record_key", "", "by_key"), "t").put(texts("t", &["a"], &[json!({"n": 1})])).unwrap();
    assert!(refused(failures)[0].1.contains("primary.key.fields"));
    // Fields of the value.
    let mut run = start(&modes("record_value", "a,b", "by_value"), "t");
    put(
        &mut run,
        texts(
            "t",
            &["", "", ""],
            &[json!({"a": 1, "b": "x", "c": 1}), json!({"a": 1, "b": "x", "c": 2}), json!({"a": 2, "b": "x", "c": 3})],
        ),
    );
    assert_eq!(database.sql("SELECT * FROM by_value ORDER BY 1"), "1|x|2\n2|x|3");
    // Topic, partition, offset.
    let mut run = start(&modes("kafka", "", "by_place"), "t");
    let mut batch = texts("t", &["", ""], &[json!({"c": 1}), json!({"c": 2})]);
    batch.offsets = tributary_sdk::Offsets::Sink(Int64Array::from(vec![5, 9]));
    put(&mut run, batch.clone());
    put(&mut run, batch);
    assert_eq!(
        database.sql("SELECT __connect_topic, __connect_partition, __connect_offset, c FROM by_place ORDER BY 3"),
        "t|0|5|1\nt|0|9|2"
    );
    // Headers.
    let mut run = start(&modes("record_header", "id", "by_header"), "t");
    let mut records = Records::to("t");
    for (id, n) in [("h1", 1), ("h2", 2), ("h1", 3)] {
        records.push(Record::json(&json!({"n": n})).unwrap().header("id", id)).unwrap();
    }
    let batches = records.finish().unwrap();
    batches.into_iter().for_each(|batch| put(&mut run, batch));
    assert_eq!(database.sql("SELECT id, n FROM by_header ORDER BY 1"), "h1|3\nh2|2");
}

#[test]
fn several_tables_from_one_topic() {
    let database = Database::new();
    database.sql("CREATE SCHEMA eu; CREATE TABLE eu.small (id int PRIMARY KEY, size text, n int); CREATE TABLE eu.large (id int PRIMARY KEY, size text, n int)");
    let config =
        database.sink_config(&[&UPSERT[..], &[("table.name.format", "${header.region}.${value.size}")]].concat());
    let mut run = start(&config, "orders");
    let mut records = Records::to("orders");
    for (id, size, n) in [(1, "small", 1), (2, "large", 2), (1, "small", 3), (3, "none", 4)] {
        let record =
            Record::json(&json!({"id": id, "size": size, "n": n})).unwrap().key_json(&json!({"id": id})).unwrap();
        records.push(record.header("region", "eu")).unwrap();
    }
    records
        .push(Record::json(&json!({"id": 5, "size": "small"})).unwrap().key_json(&json!({"id": 5})).unwrap())
        .unwrap();
    let batch = records.finish().unwrap().remove(0);
    let failures = refused(run.put(batch).unwrap());
    assert_eq!(failures.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [3, 4]);
    assert!(failures[0].1.contains("CREATE TABLE") && failures[1].1.contains("no header region"), "{failures:?}");
    assert_eq!(database.sql("SELECT * FROM eu.small"), "1|small|3");
    assert_eq!(database.sql("SELECT * FROM eu.large"), "2|large|2");
}

#[test]
fn objects_with_different_members() {
    let database = Database::new();
    database.sql("CREATE TABLE orders (id int PRIMARY KEY, a text DEFAULT 'd', b text)");
    let mut run = start(&database.sink_config(&UPSERT), "orders");
    let record = |id: i32, value: Value| (json!({"id": id}), value);
    put(
        &mut run,
        json_batch(
            "orders",
            &[
                record(1, json!({"a": "x"})),
                record(1, json!({"b": "y"})),
                record(2, json!({"b": "z", "a": null})),
                record(3, json!({"b": "only"})),
                record(2, json!({"a": "again"})),
            ],
        ),
    );
    assert_eq!(database.sql("SELECT * FROM orders ORDER BY id"), "1|x|y\n2|again|z\n3|d|only");
}

#[test]
fn a_null_key_is_no_key() {
    let database = Database::new();
    database
        .sql("CREATE TABLE orders (id int PRIMARY KEY, name text, n bigint); INSERT INTO orders VALUES (0, 'zero', 0)");
    let mut run = start(&database.sink_config(&UPSERT), "orders");
    let values =
        [json!({"id": 1, "name": "a", "n": 1}), json!({"id": 2, "name": "b", "n": 2}), Value::Null, Value::Null];
    let mut batch = Batch::new("orders", struct_column(fields(), &values));
    let keys = [json!({"id": 1}), Value::Null, Value::Null, json!({"id": 7})];
    batch.key = Some(struct_column(vec![Field::new("id", DataType::Int32, false)], &keys));
    let failures = refused(run.put(batch).unwrap());
    assert!(failures.len() == 2 && failures.iter().all(|(_, why)| why.contains("id is null")), "{failures:?}");
    assert_eq!((failures[0].0, failures[1].0), (1, 2));
    assert_eq!(database.sql("SELECT * FROM orders ORDER BY 1"), "0|zero|0\n1|a|1");
}

#[test]
fn each_table_has_the_key_of_its_records() {
    let database = Database::new();
    let config = database.sink_config(
        &[&UPSERT[..], &[("collection.name.format", "${value.t}"), ("schema.evolution", "basic")]].concat(),
    );
    let mut run = start(&config, "x");
    let rows = [
        (json!({"id": 1}), json!({"t": "a", "id": 1, "n": 1})),
        (json!({"code": "x"}), json!({"t": "b", "code": "x", "id": 8})),
        (json!({"id": 1}), json!({"t": "a", "id": 1, "n": 2})),
        (json!({"code": "y"}), json!({"t": "b", "code": "y", "id": 9})),
    ];
    put(&mut run, json_batch("x", &rows));
    assert_eq!(database.sql("SELECT id, n FROM a"), "1|2");
    assert_eq!(database.sql("SELECT code, id FROM b ORDER BY 1"), "x|8\ny|9");
    // One whose key has none of the fields of its table's.
    let rows = [
        (json!({"id": 2}), json!({"t": "a", "id": 2})),
        (Value::Null, json!({"t": "a", "id": 3})),
        (Value::Null, json!({"t": "b", "id": 3})),
    ];
    let failures = refused(run.put(json_batch("x", &rows)).unwrap());
    assert_eq!(failures.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2], "{failures:?}");
    assert_eq!(database.sql("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)"), "2|2");
}

/// 1 and 1.0, or texts padded with blanks: deletes and updates keep their order.
#[test]
fn order_of_keys_that_only_the_database_knows_to_be_the_same() {
    let database = Database::new();
    database.sql("CREATE TABLE n (id numeric PRIMARY KEY, v int); CREATE TABLE c (id char(5) PRIMARY KEY, v int)");
    let raw = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (table, one, same) in [("n", "1", "1.0"), ("c", "\"a\"", "\"a  \"")] {
        let mut run = start(&database.sink_config(&[&UPSERT[..], &[("collection.name.format", table)]].concat()), "t");
        let key = |id: &str| raw(&format!("{{\"id\":{id}}}"));
        let row = |id: &str, v: i32| (key(id), raw(&format!("{{\"id\":{id},\"v\":{v}}}")));
        put(&mut run, json_batch("t", &[row(one, 1), (key(same), Value::Null)]));
        assert_eq!(database.sql(&format!("SELECT count(*) FROM {table}")), "0", "{table}");
        put(&mut run, json_batch("t", &[row(one, 1), (key(same), Value::Null), row(same, 2)]));
        assert_eq!(database.sql(&format!("SELECT v FROM {table}")), "2", "{table}");
        let update = [("insert.mode", "update"), ("collection.name.format", table)];
        let mut run = start(&database.sink_config(&[&UPSERT[..], &update].concat()), "t");
        for _ in 0..3 {
            put(&mut run, json_batch("t", &[row(one, 3), row(same, 4), row(one, 5), row(same, 6)]));
            assert_eq!(database.sql(&format!("SELECT v FROM {table}")), "6", "{table}");
        }
    }
}

#[test]
fn values_that_have_not_changed() {
    let database = Database::new();
    database.sql("CREATE TABLE orders (id int PRIMARY KEY, a text, b bytea, c text[], d jsonb); INSERT INTO orders VALUES (1, 'a', '\\x01', '{x}', '{}')");
    let mut run = start(&database.sink_config(&UPSERT), "orders");
    let text = "__debezium_unavailable_value";
    let base64 = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
    let row = (json!({"id": 1}), json!({"a": text, "b": base64, "c": [text], "d": {text: text}}));
    put(&mut run, json_batch("orders", &[row]));
    assert_eq!(database.sql("SELECT * FROM orders"), "1|a|\\x01|{x}|{}");
    let row = (json!({"id": 1}), json!({"a": format!("{text}!"), "c": [text, text], "d": {text: 1}}));
    put(&mut run, json_batch("orders", &[row]));
    assert_eq!(database.sql("SELECT a, cardinality(c), d FROM orders"), format!("{text}!|2|{{\"{text}\": 1}}"));
}
