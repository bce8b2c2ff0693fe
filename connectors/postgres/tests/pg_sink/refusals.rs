//! Records that the database or the table's types do not take.

use serde_json::{Value, json};
use tributary_sdk::Batch;
use tributary_sdk::arrow::schema::{DataType, Field};

use crate::common::Database;
use crate::{Run, json_batch, refused, start, struct_column};

const UPSERT: [(&str, &str); 4] = [
    ("insert.mode", "upsert"),
    ("primary.key.mode", "record_value"),
    ("primary.key.fields", "id"),
    ("errors.tolerance", "all"),
];

fn rows(values: &[Value]) -> Batch {
    let fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("parent", DataType::Int32, true),
        Field::new("day", DataType::Utf8, true),
    ];
    Batch::new("t", struct_column(fields, values))
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name varchar(5) NOT NULL UNIQUE, parent int REFERENCES t, day date CHECK (day > '2000-01-01'))";

#[test]
fn each_with_its_reason_and_without_its_neighbours() {
    let database = Database::new();
    database.sql(TABLE);
    let mut run = start(&database.sink_config(&UPSERT), "t");
    let mut values: Vec<Value> =
        (0..500).map(|id| json!({"id": id, "name": format!("n{id}"), "parent": null, "day": "2026-11-30"})).collect();
    let spoil = [
        (3, "name", json!("too long"), "value too long"),
        (50, "name", Value::Null, "null value in column \"name\""),
        (51, "name", json!("n52"), "duplicate key value"),
        (100, "parent", json!(100_000), "foreign key"),
        (101, "day", json!("no day"), "invalid input syntax for type date"),
        (102, "day", json!("1999-01-01"), "check constraint"),
        (200, "id", json!(1i64 << 40), "beyond the range"),
        (201, "id", Value::Null, "the key field id is null"),
        (499, "name", json!("a\0b"), "character of code 0"),
    ];
    for (at, field, value, _) in &spoil {
        values[*at][*field] = value.clone();
    }
    // The one with the same name as its neighbour comes first, so that is the one that is refused.
    let failures = refused(run.put(rows(&values)).unwrap());
    let expected: Vec<usize> = spoil.iter().map(|(at, ..)| if *at == 51 { 52 } else { *at }).collect();
    assert_eq!(failures.iter().map(|(row, _)| *row).collect::<Vec<_>>(), expected, "{failures:#?}");
    for ((_, why), (.., reason)) in failures.iter().zip(&spoil) {
        assert!(why.contains(reason), "{why} and not {reason}");
        assert!(!why.contains("Failing row contains"), "{why} shows the row");
    }
    assert_eq!(database.sql("SELECT count(*) FROM t"), (500 - spoil.len()).to_string());
    run.stop().unwrap();
}

#[test]
fn a_batch_of_bad_records_ends() {
    let database = Database::new();
    database.sql(TABLE);
    let mut run = start(&database.sink_config(&UPSERT), "t");
    let values: Vec<Value> =
        (0..1000).map(|id| json!({"id": id, "name": "much too long", "parent": null, "day": null})).collect();
    assert_eq!(refused(run.put(rows(&values)).unwrap()).len(), 1000);
    assert_eq!(database.sql("SELECT count(*) FROM t"), "0");
    run.stop().unwrap();
}

#[test]
fn triggers_and_deferred_constraints() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1); \
         CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES p DEFERRABLE INITIALLY DEFERRED, at timestamp); \
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', repeat('x', 1000); IF new.id = 3 THEN RAISE 'not three'; END IF; new.at = now(); RETURN new; END $$; \
         CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()",
    );
    let config = database.sink_config(&[("errors.tolerance", "all")]);
    let mut run = start(&config, "t");
    let batch = |ids: std::ops::Range<i32>, parent: fn(i32) -> i32| {
        let rows: Vec<(Value, Value)> = ids.map(|id| (Value::Null, json!({"id": id, "parent": parent(id)}))).collect();
        json_batch("t", &rows)
    };
    let failures = refused(run.put(batch(0..2000, |_| 1)).unwrap());
    assert!(failures.len() == 1 && failures[0].0 == 3 && failures[0].1.contains("not three"), "{failures:?}");
    let failures = refused(run.put(batch(2000..2010, |id| if id == 2005 { 2 } else { 1 })).unwrap());
    assert!(failures.len() == 1 && failures[0].0 == 5 && failures[0].1.contains("foreign key"), "{failures:?}");
    assert_eq!(database.sql("SELECT count(*), count(at) FROM t"), "2008|2008");
}

#[test]
fn keys_that_only_the_database_knows_to_be_the_same() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id numeric PRIMARY KEY, n int)");
    let mut run: Run = start(&database.sink_config(&UPSERT[..3]), "t");
    let record = |id: &str, n: i32| (Value::Null, serde_json::from_str(&format!("{{\"id\":{id},\"n\":{n}}}")).unwrap());
    let failures =
        run.put(json_batch("t", &[record("1", 1), record("1.0", 2), record("2", 3), record("1e0", 4)])).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(database.sql("SELECT id::int, n FROM t ORDER BY 1"), "1|4\n2|3");
}

#[test]
fn views_policies_and_keys_that_are_not_there() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE VIEW v AS SELECT id, n FROM t; ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
         CREATE TABLE g (n int, id int GENERATED ALWAYS AS (n * 2) STORED PRIMARY KEY)",
    );
    let record = |id: Value, n: i32| (Value::Null, json!({"id": id, "n": n}));
    for (table, id) in [("t", 1), ("v", 2)] {
        let mut run = start(&database.sink_config(&[("collection.name.format", table)]), "t");
        assert!(run.put(json_batch("t", &[record(json!(id), id)])).unwrap().is_empty());
    }
    assert_eq!(database.sql("SELECT * FROM t ORDER BY 1"), "1|1\n2|2");
    let mut run = start(&database.sink_config(&[&UPSERT[..3], &[("collection.name.format", "g")]].concat()), "t");
    let error = run.put(json_batch("t", &[record(json!(1), 1)])).unwrap_err().to_string();
    assert!(error.contains("cannot be a key"), "{error}");
    database.sql("CREATE TABLE k (n int)");
    let config = database
        .sink_config(&[&UPSERT[..3], &[("collection.name.format", "k"), ("schema.evolution", "basic")]].concat());
    let failures = refused(start(&config, "t").put(json_batch("t", &[record(Value::Null, 1)])).unwrap());
    assert_eq!(failures[0].1, "the key field id is null");
}
