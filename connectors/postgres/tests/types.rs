//! Every type: the same value from the snapshot and from the log, in Debezium's type.

mod common;

use common::{Database, take};
use serde_json::{Value, json};
use tributary_sdk::arrow::schema::{DataType, Field};

/// Type, a value in SQL, what the record has (structs, lists and bytes as JSON shows them), Connect's type and its name.
type Case = (&'static str, &'static str, Value, &'static str);

fn cases() -> Vec<Case> {
    vec![
        ("boolean", "true", json!(true), "Boolean"),
        ("smallint", "-32768", json!(-32768), "Int16"),
        ("integer", "2147483647", json!(2_147_483_647), "Int32"),
        ("bigint", "-9223372036854775808", json!(i64::MIN), "Int64"),
        ("oid", "4294967295", json!(4_294_967_295i64), "Int64"),
        ("real", "0.1", json!(0.1), "Float32"),
        ("double precision", "1e300", json!(1e300), "Float64"),
        ("numeric(10,2)", "-12345678.9", json!("-12345678.90"), "Binary org.apache.kafka.connect.data.Decimal"),
        ("numeric", "123.450", json!({"scale": 2, "value": "MDk="}), "Struct io.debezium.data.VariableScaleDecimal"),
        ("text", "'a\tb\\c\nÄ€😀'", json!("a\tb\\c\nÄ€😀"), "Utf8"),
        ("varchar(5)", "'abc'", json!("abc"), "Utf8"),
        ("char(5)", "'abc'", json!("abc  "), "Utf8"),
        ("bytea", "'\\x00ff5c'", json!("AP9c"), "Binary"),
        (
            "uuid",
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            "Utf8 io.debezium.data.Uuid",
        ),
        ("json", "'{\"a\": [1, null]}'", json!("{\"a\": [1, null]}"), "Utf8 io.debezium.data.Json"),
        ("jsonb", "'{\"b\":1,\"a\":\"x\"}'", json!("{\"a\": \"x\", \"b\": 1}"), "Utf8 io.debezium.data.Json"),
        ("xml", "'<a>1</a>'", json!("<a>1</a>"), "Utf8 io.debezium.data.Xml"),
        ("mood", "'it''s, ok'", json!("it's, ok"), "Utf8 io.debezium.data.Enum"),
        ("amount", "5.5", json!("5.500"), "Binary org.apache.kafka.connect.data.Decimal"),
        ("date", "'2026-11-30'", json!(20_787), "Int32 io.debezium.time.Date"),
        ("date", "'0044-03-15 BC'", json!(-735_160), "Int32 io.debezium.time.Date"),
        ("time", "'13:51:30.123456'", json!(49_890_123_456i64), "Int64 io.debezium.time.MicroTime"),
        ("time(3)", "'13:51:30.123'", json!(49_890_123), "Int32 io.debezium.time.Time"),
        ("timetz", "'13:51:30.123456+02:30'", json!("11:21:30.123456Z"), "Utf8 io.debezium.time.ZonedTime"),
        (
            "timestamp",
            "'2026-11-30 13:51:30.123456'",
            json!(1_796_046_690_123_456i64),
            "Int64 io.debezium.time.MicroTimestamp",
        ),
        ("timestamp(3)", "'1969-12-31 23:59:59.999'", json!(-1), "Int64 io.debezium.time.Timestamp"),
        (
            "timestamptz",
            "'2026-11-30 13:51:30.120+02'",
            json!("2026-11-30T11:51:30.120000Z"),
            "Utf8 io.debezium.time.ZonedTimestamp",
        ),
        ("interval", "'1 month 2 days -3 hours'", json!(2_791_800_000_000i64), "Int64 io.debezium.time.MicroDuration"),
        ("bit(1)", "B'1'", json!(true), "Boolean"),
        ("bit varying(12)", "B'100000001'", json!("AQE="), "Binary io.debezium.data.Bits"),
        ("inet", "'10.0.0.1/8'", json!("10.0.0.1/8"), "Utf8"),
        ("macaddr", "'08:00:2B:01:02:03'", json!("08:00:2b:01:02:03"), "Utf8"),
        ("int4range", "'[1,5)'", json!("[1,5)"), "Utf8"),
        ("tstzrange", "'[2026-01-01 00:00+00,)'", json!("[\"2026-01-01 00:00:00+00\",)"), "Utf8"),
        (
            "point",
            "'(1.5,-2)'",
            json!({"x": 1.5, "y": -2.0, "wkb": "AQEAAAAAAAAAAAD4PwAAAAAAAADA", "srid": null}),
            "Struct io.debezium.data.geometry.Point",
        ),
        ("integer[]", "'{1,NULL,-3}'", json!([1, null, -3]), "List"),
        ("text[]", "ARRAY['a,b', NULL, 'c\"d', '']", json!(["a,b", null, "c\"d", ""]), "List"),
        ("numeric(6,1)[]", "'{1.5,-2}'", json!(["1.5", "-2.0"]), "List"),
        ("uuid[]", "'{}'", json!([]), "List"),
        ("mood[]", "'{\"it''s, ok\"}'", json!(["it's, ok"]), "List"),
        ("date[]", "'{2026-11-30}'", json!([20_787]), "List"),
        ("tsvector", "'a b'", json!("'a' 'b'"), "Utf8 io.debezium.data.Tsvector"),
    ]
}

#[test]
fn values_are_the_same_from_the_snapshot_and_from_the_log() {
    let database = Database::new();
    let cases = cases();
    let columns: Vec<String> = cases.iter().enumerate().map(|(at, case)| format!("c{at} {}", case.0)).collect();
    let values: Vec<&str> = cases.iter().map(|case| case.1).collect();
    let (columns, values) = (columns.join(", "), values.join(", "));
    let nulls = vec!["NULL"; cases.len()].join(", ");
    database.sql(&format!(
        "CREATE TYPE mood AS ENUM ('sad', 'it''s, ok'); CREATE DOMAIN amount AS numeric(8,3) CHECK (VALUE > 0); \
         CREATE TABLE t (id int PRIMARY KEY, {columns}); INSERT INTO t VALUES (1, {values}), (2, {nulls})"
    ));
    let mut run = database.start(&[]);
    let batches = run.poll_records(2).unwrap();
    run.deliver(&batches).unwrap();
    let read = common::events(&batches);
    database.sql(&format!("INSERT INTO t VALUES (3, {values}), (4, {nulls})"));
    let streamed = take(&mut run, 2);
    for (at, (name, _, expected, kind)) in cases.iter().enumerate() {
        let column = format!("c{at}");
        for (from, event) in [("snapshot", &read[0]), ("log", &streamed[0])] {
            let value = &event.value["after"][&column];
            assert_eq!(value, expected, "{name} from the {from}");
        }
        assert!(read[1].value["after"][&column].is_null() && streamed[1].value["after"][&column].is_null(), "{name}");
        assert_eq!(shown(field(&batches[0], &column)), *kind, "{name}");
    }
    run.stop().unwrap();
}

fn field<'a>(batch: &'a tributary_sdk::Batch, name: &str) -> &'a Field {
    let DataType::Struct(envelope) = batch.value.field().data_type() else { panic!("no envelope") };
    let DataType::Struct(row) = envelope[1].data_type() else { panic!("no row") };
    row.find(name).unwrap().1
}

fn shown(field: &Field) -> String {
    let kind = match field.data_type() {
        DataType::Struct(_) => "Struct".to_owned(),
        DataType::List(_) => "List".to_owned(),
        other => other.to_string(),
    };
    match field.metadata().get("connect.name") {
        Some(name) => format!("{kind} {name}"),
        None => kind,
    }
}

#[test]
fn modes_choose_other_types() {
    let database = Database::new();
    database.sql(
        "CREATE EXTENSION hstore; CREATE TABLE t (id int PRIMARY KEY, n numeric(9,2), d date, at timestamp, tm time, i interval, b bytea, h hstore); \
         INSERT INTO t VALUES (1, 1.25, '2026-11-30', '2026-11-30 10:00:00.5', '10:00', '1 year 2 mons -01:30:00', '\\x00ff', 'a=>1, b=>NULL')",
    );
    let read = |modes: &[(&str, &str)]| {
        let mut more = vec![("snapshot.mode", "initial_only")];
        more.extend(modes);
        let mut run = database.start(&more);
        let row = take(&mut run, 1)[0].value["after"].clone();
        assert!(run.poll().unwrap().is_empty());
        run.stop().unwrap();
        row
    };
    let row = read(&[
        ("decimal.handling.mode", "string"),
        ("time.precision.mode", "connect"),
        ("interval.handling.mode", "string"),
        ("binary.handling.mode", "hex"),
        ("hstore.handling.mode", "map"),
    ]);
    assert_eq!(
        (&row["n"], &row["d"], &row["at"], &row["tm"]),
        (&json!("1.25"), &json!(20_787), &json!(1_796_032_800_500i64), &json!(36_000_000))
    );
    assert_eq!(
        (&row["i"], &row["b"], &row["h"]),
        (&json!("P1Y2M0DT-1H-30M0S"), &json!("00ff"), &json!({"a": "1", "b": null}))
    );
    let row = read(&[
        ("decimal.handling.mode", "double"),
        ("time.precision.mode", "isostring"),
        ("binary.handling.mode", "base64"),
    ]);
    assert_eq!(
        (&row["n"], &row["d"], &row["at"], &row["tm"]),
        (&json!(1.25), &json!("2026-11-30Z"), &json!("2026-11-30T10:00:00.5Z"), &json!("10:00:00Z"))
    );
    assert_eq!((&row["b"], &row["h"]), (&json!("AP8="), &json!("{\"a\":\"1\",\"b\":null}")));
}

#[test]
fn what_has_no_type_is_refused_or_left_out() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY, price money); INSERT INTO t VALUES (1, 5)");
    let mut run = database.start(&[]);
    let error = loop {
        if let Err(error) = run.poll() {
            break error;
        }
    };
    assert!(
        !error.is_retriable() && error.to_string().contains("column price of public.t has the type money"),
        "{error}"
    );
    drop(run);
    let mut run = database.start(&[("column.exclude.list", "public.t.price")]);
    assert_eq!(take(&mut run, 1)[0].value["after"], json!({"id": 1}));
    run.stop().unwrap();
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY, a polygon); INSERT INTO t VALUES (1, '((0,0),(1,1))')");
    let mut run = database.start(&[]);
    assert_eq!(take(&mut run, 1)[0].value["after"], json!({"id": 1}));
    assert!(run.services().logged("columns of public.t are left out"));
    run.stop().unwrap();
}
