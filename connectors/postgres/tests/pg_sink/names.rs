//! Names that are hard, and tables that are wide.

use serde_json::{Value, json};
use tributary_sdk::Batch;
use tributary_sdk::arrow::schema::{DataType, Field};

use crate::common::Database;
use crate::{json_batch, put, start, struct_column};

const UPSERT: [(&str, &str); 4] = [
    ("insert.mode", "upsert"),
    ("primary.key.mode", "record_value"),
    ("primary.key.fields", "order"),
    ("schema.evolution", "basic"),
];

#[test]
fn reserved_words_and_mixed_case() {
    let database = Database::new();
    let value = json!({"order": 1, "Select": "x", "täble \"q\"": 2, "a;b'--\\": true});
    // As they are.
    let config = database.sink_config(
        &[&UPSERT[..], &[("quote.identifiers", "true"), ("collection.name.format", "User \"x\"")]].concat(),
    );
    let mut run = start(&config, "t");
    put(&mut run, json_batch("t", &[(Value::Null, value.clone())]));
    put(&mut run, json_batch("t", &[(Value::Null, value.clone())]));
    assert_eq!(database.sql(r#"SELECT "order", "Select", "täble ""q""", "a;b'--\" FROM "User ""x""""#), "1|x|2|t");
    // In lower case, where there is no such name.
    let config = database.sink_config(&[&UPSERT[..], &[("collection.name.format", "TABLE")]].concat());
    let mut run = start(&config, "t");
    put(&mut run, json_batch("t", &[(Value::Null, value.clone())]));
    assert_eq!(database.sql(r#"SELECT "order", "select" FROM "table""#), "1|x");
    database.sql(r#"CREATE TABLE "Mixed" ("order" int PRIMARY KEY, "Select" text)"#);
    let config = database.sink_config(
        &[&UPSERT[..3], &[("collection.name.format", "Mixed"), ("field.include.list", "Select")]].concat(),
    );
    put(&mut start(&config, "t"), json_batch("t", &[(Value::Null, value)]));
    assert_eq!(database.sql(r#"SELECT * FROM "Mixed""#), "1|x");
}

#[test]
fn names_longer_than_the_server_keeps() {
    let database = Database::new();
    let long = "n".repeat(80);
    let config = database.sink_config(&[&UPSERT[..], &[("collection.name.format", &long)]].concat());
    let mut run = start(&config, "t");
    for n in 0..2 {
        let mut value = json!({"order": n});
        value[&long] = json!(n);
        put(&mut run, json_batch("t", &[(Value::Null, value)]));
    }
    assert_eq!(database.sql(&format!("SELECT {0} FROM {0} ORDER BY 1", &long[..63])), "0\n1");
}

#[test]
fn a_table_of_1600_columns() {
    let database = Database::new();
    let fields: Vec<Field> = (0..1600)
        .map(|n| Field::new(if n == 0 { "order".into() } else { format!("c{n}") }, DataType::Int16, true))
        .collect();
    let row = |order: i64| -> Value {
        fields
            .iter()
            .enumerate()
            .map(|(n, field)| (field.name().clone(), json!(if n == 0 { order } else { n as i64 })))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let mut run = start(&database.sink_config(&UPSERT), "wide");
    for _ in 0..2 {
        put(&mut run, Batch::new("wide", struct_column(fields.clone(), &[row(1), row(2), row(1)])));
    }
    assert_eq!(database.sql("SELECT count(*), sum(c1), sum(c1599) FROM wide"), "2|2|3198");
}
