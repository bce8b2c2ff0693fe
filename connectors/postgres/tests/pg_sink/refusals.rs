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
        assert!(!why.contains("Failing row contains") && !why.contains("no day"), "{why} shows the row");
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

const KEYED: [(&str, &str); 4] = [
    ("insert.mode", "upsert"),
    ("primary.key.mode", "record_key"),
    ("delete.enabled", "true"),
    ("errors.tolerance", "all"),
];

/// The parts of a batch need what its whole did not.
#[test]
fn parts_write_what_the_whole_left_out() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (3); \
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF old.id = 3 THEN RAISE 'not three'; END IF; RETURN old; END $$; \
         CREATE TRIGGER no BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION no()",
    );
    let mut run = start(&database.sink_config(&KEYED), "t");
    let row = |id: i32| (json!({"id": id}), json!({"id": id}));
    let gone = |id: i32| (json!({"id": id}), Value::Null);
    let failures = refused(run.put(json_batch("t", &[row(1), gone(1), gone(3)])).unwrap());
    assert!(failures.len() == 1 && failures[0].0 == 2 && failures[0].1.contains("not three"), "{failures:?}");
    assert_eq!(database.sql("SELECT * FROM t"), "3");
}

/// What cannot be encoded, and what only the commit refuses, in one batch.
#[test]
fn deferred_constraints_beside_what_cannot_be_encoded() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1); \
         CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    );
    let mut run = start(&database.sink_config(&[("errors.tolerance", "all")]), "t");
    let row = |id: Value, parent: i32| (Value::Null, json!({"id": id, "parent": parent}));
    let rows = [row(json!(1), 1), row(json!("x"), 1), row(json!(2), 2), row(json!(3), 1)];
    let failures = refused(run.put(json_batch("t", &rows)).unwrap());
    assert_eq!(failures.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2], "{failures:?}");
    assert_eq!(database.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "1,3");
}

/// Good records are not blamed for what stands elsewhere in their batch.
#[test]
fn records_of_tables_that_refer_to_each_other() {
    let database = Database::new();
    database.sql("CREATE TABLE p (id int PRIMARY KEY, r int); CREATE TABLE c (id int PRIMARY KEY, r int REFERENCES p)");
    let config = database.sink_config(&[&KEYED[..], &[("collection.name.format", "${value.t}")]].concat());
    let mut run = start(&config, "t");
    let row = |t: &str, id: i32, r: i32| (json!({"id": id}), json!({"t": t, "id": id, "r": r}));
    database.sql("ALTER TABLE p ADD t text; ALTER TABLE c ADD t text");
    let rows = [
        row("c", 1, 1),
        row("p", 1, 0),
        row("c", 2, 1),
        row("p", 2, 0),
        row("c", 3, 9),
        row("c", 4, 2),
        row("c", 5, 1),
    ];
    let failures = refused(run.put(json_batch("t", &rows)).unwrap());
    assert_eq!(failures.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [4], "{failures:?}");
    assert_eq!(database.sql("SELECT id, r FROM c ORDER BY 1"), "1|1\n2|1\n4|2\n5|1");
}

/// No record ends the task by the names that it has.
#[test]
fn names_that_no_column_or_table_has() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY)");
    let more = [("primary.key.fields", "id"), ("schema.evolution", "basic")];
    let config = database.sink_config(&[&KEYED[..], &more, &[("collection.name.format", "${value.t}")]].concat());
    let mut run = start(&config, "t");
    let key = |id: i32| json!({"id": id});
    let long: serde_json::Map<String, Value> =
        (0..1700).map(|n| (format!("m{n}"), json!(n))).chain([("t".into(), json!("t"))]).collect();
    let rows = [
        (key(1), json!({"t": "t", "a": 1})),
        (key(2), json!({"t": "t", "a": 1, "A": 2})),
        (key(3), json!({"t": "t", "": 1})),
        (key(4), json!({"t": "t", "n\0": 1})),
        (key(5), json!({"t": "nowhere.t", "b": 1})),
        (key(6), json!({"t": "x\0", "b": 1})),
        (key(7), json!({"t": "public.", "b": 1})),
        (key(8), Value::Object(long)),
        (key(9), json!({"t": "t", "a": 9})),
    ];
    let failures = refused(run.put(json_batch("t", &rows)).unwrap());
    assert_eq!(failures.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7], "{failures:#?}");
    assert_eq!(database.sql("SELECT id, a FROM t ORDER BY 1"), "1|1\n9|9");
    // Spelt otherwise in another record is good.
    let rows = [
        (key(10), json!({"t": "t", "A": 10})),
        (key(11), json!({"t": "t", "a": 11})),
        (key(12), json!({"t": "t", "A": null})),
    ];
    let failures = refused(run.put(json_batch("t", &rows)).unwrap());
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(database.sql("SELECT id, a FROM t WHERE id > 9 ORDER BY 1"), "10|10\n11|11\n12|");
}

#[test]
fn a_truncate_of_a_table_that_others_refer_to() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE c (id int REFERENCES t)");
    let mut run = start(&database.sink_config(&[&KEYED[..], &[("truncate.enabled", "true")]].concat()), "t");
    let event = |op: &str, id: i32| (json!({"id": id}), json!({"before": null, "after": {"id": id}, "op": op}));
    let failures = refused(run.put(json_batch("t", &[event("c", 1), event("t", 0), event("c", 2)])).unwrap());
    assert!(failures.len() == 1 && failures[0].0 == 1 && failures[0].1.contains("0A000"), "{failures:?}");
    assert_eq!(database.sql("SELECT * FROM t ORDER BY 1"), "1\n2");
}

/// Numbers are not changed in silence.
#[test]
fn numbers_that_do_not_fit() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY, r real, d double precision, a numeric[], at timestamp, c time)");
    let mut run = start(&database.sink_config(&KEYED), "t");
    let row = |id: i32, rest: &str| {
        (
            json!({"id": id}),
            serde_json::from_str::<Box<serde_json::value::RawValue>>(&format!("{{\"id\":{id},{rest}}}")).unwrap(),
        )
    };
    let rows = [
        row(1, "\"r\": 1.5, \"d\": 1e308, \"a\": [1.10, 12345678901234567890.123456789012345678901]"),
        row(2, "\"r\": 1e39"),
        row(3, "\"d\": 1e400"),
        row(4, "\"r\": 1e-60"),
        row(5, "\"at\": 31536000000000"),
        row(6, "\"c\": 3600000"),
        row(7, "\"at\": 1700000000000, \"c\": \"01:00\""),
    ];
    let values = rows.iter().map(|(_, value)| Some(value.get().to_owned()));
    let mut batch = Batch::new("t", tributary_sdk::Column::json(values.collect()));
    batch.key = Some(crate::json_column(rows.iter().map(|(key, _)| key)));
    let failures = refused(run.put(batch).unwrap());
    assert_eq!(failures.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2, 3, 4, 5], "{failures:#?}");
    assert_eq!(
        database.sql("SELECT id, r, d, a, at, c FROM t ORDER BY 1"),
        "1|1.5|1e+308|{1.10,12345678901234567890.123456789012345678901}||\n7||||2023-11-14 22:13:20|01:00:00"
    );
}

/// Texts with a zone in columns without one are UTC's; texts that look like JSON are texts.
#[test]
fn texts_of_times_and_documents() {
    let database = Database::new();
    database.sql("SET TimeZone = 'Asia/Tokyo'; CREATE TABLE t (id int PRIMARY KEY, at timestamp, day date, plain jsonb, document jsonb)");
    database.sql(&format!("ALTER DATABASE {} SET TimeZone = 'Asia/Tokyo'", database.name));
    let named = |name: &str, schema: &str| {
        let metadata = [(tributary_sdk::batch::SCHEMA_NAME.to_owned(), schema.to_owned())];
        Field::new(name, DataType::Utf8, true).with_metadata(metadata)
    };
    let zoned = "io.debezium.time.ZonedTimestamp";
    let fields = vec![
        Field::new("id", DataType::Int32, false),
        named("at", zoned),
        named("day", zoned),
        Field::new("plain", DataType::Utf8, true),
        named("document", "io.debezium.data.Json"),
    ];
    let time = "2026-11-30T23:30:00-02:00";
    let values = [
        json!({"id": 1, "at": time, "day": time, "plain": "42", "document": "42"}),
        json!({"id": 2, "at": null, "day": null, "plain": "{\"a\":1}", "document": "\"x\""}),
    ];
    let mut run = start(&database.sink_config(&UPSERT), "t");
    let failures = run.put(Batch::new("t", struct_column(fields, &values))).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(
        database.sql("SELECT * FROM t ORDER BY 1"),
        "1|2026-12-01 01:30:00|2026-12-01|\"42\"|42\n2|||{\"a\": 1}|\"x\""
    );
}

#[test]
fn texts_that_extensions_do_not_read() {
    let database = Database::new();
    database
        .sql("CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE TABLE t (id int PRIMARY KEY, h hstore, l ltree)");
    let mut run = start(&database.sink_config(&KEYED), "t");
    let row = |id: i32, h: &str, l: &str| (json!({"id": id}), json!({"id": id, "h": h, "l": l}));
    let rows = [row(1, "a=>1", "a.b"), row(2, "a=>", "a.b"), row(3, "a=>1", "a..b"), row(4, "", "c")];
    let failures = refused(run.put(json_batch("t", &rows)).unwrap());
    assert_eq!(failures.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2], "{failures:?}");
    assert_eq!(database.sql("SELECT * FROM t ORDER BY 1"), "1|\"a\"=>\"1\"|a.b\n4||c");
}
