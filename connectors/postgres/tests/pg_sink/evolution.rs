//! Tables and columns that do not exist.

use serde_json::{Value, json};
use tributary_sdk::Batch;
use tributary_sdk::arrow::schema::{DataType, Field};
use tributary_testkit::SinkRun;

use crate::common::Database;
use crate::{Run, json_batch, put, refused, start, struct_column};

const UPSERT: [(&str, &str); 2] = [("insert.mode", "upsert"), ("primary.key.mode", "record_key")];
const EVOLVE: [(&str, &str); 3] = [UPSERT[0], UPSERT[1], ("schema.evolution", "basic")];

fn batch(fields: Vec<Field>, rows: &[Value]) -> Batch {
    let keys: Vec<Value> = rows.iter().map(|row| json!({"id": row["id"]})).collect();
    let mut batch = Batch::new("shop.orders", struct_column(fields, rows));
    batch.key = Some(struct_column(vec![Field::new("id", DataType::Int32, false)], &keys));
    batch
}

fn id() -> Field {
    Field::new("id", DataType::Int32, false)
}

#[test]
fn tables_are_made_and_widened() {
    let database = Database::new();
    let mut run = start(&database.sink_config(&EVOLVE), "shop.orders");
    put(&mut run, batch(vec![id(), Field::new("name", DataType::Utf8, false)], &[json!({"id": 1, "name": "a"})]));
    put(
        &mut run,
        batch(
            vec![id(), Field::new("name", DataType::Utf8, true), Field::new("n", DataType::Float64, false)],
            &[json!({"id": 2, "name": "b", "n": 0.5})],
        ),
    );
    // What a record does not have is left alone.
    put(&mut run, batch(vec![id(), Field::new("n", DataType::Float64, false)], &[json!({"id": 2, "n": 1.5})]));
    assert_eq!(database.sql("SELECT * FROM shop_orders ORDER BY id"), "1|a|\n2|b|1.5");
    let columns = "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = 'shop_orders'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(database.sql(columns), "id|integer|t\nname|text|t\nn|double precision|f");
    assert_eq!(database.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'shop_orders'::regclass AND contype = 'p'"), "PRIMARY KEY (id)");
    // JSON tells as much as it can.
    put(
        &mut run,
        json_batch(
            "shop.orders",
            &[(
                json!({"id": 3}),
                json!({"id": 3, "name": "c", "big": 1e20, "flag": true, "list": [1], "unknown": null}),
            )],
        ),
    );
    assert_eq!(database.sql("SELECT big, flag, list FROM shop_orders WHERE id = 3"), "100000000000000000000|t|[1]");
    run.stop().unwrap();
}

#[test]
fn two_tasks_make_the_same_table() {
    let database = Database::new();
    let config = database.sink_config(&EVOLVE);
    std::thread::scope(|scope| {
        for task in 0..4 {
            let config = &config;
            scope.spawn(move || {
                let mut run: Run = SinkRun::start(config).unwrap();
                for n in 0..10 {
                    let fields = (0..=n).map(|column| Field::new(format!("c{column}"), DataType::Int32, true));
                    let mut row = json!({"id": task * 100 + n});
                    (0..=n).for_each(|column| row[format!("c{column}")] = json!(n));
                    put(&mut run, batch([id()].into_iter().chain(fields).collect(), &[row]));
                }
            });
        }
    });
    assert_eq!(database.sql("SELECT count(*), count(c9), count(c0) FROM shop_orders"), "40|4|40");
}

#[test]
fn without_evolution_the_error_says_what_to_run() {
    let database = Database::new();
    let mut run = start(&database.sink_config(&UPSERT), "shop.orders");
    let fields = || vec![id(), Field::new("select", DataType::Utf8, true)];
    let rows = [json!({"id": 1, "select": "a"})];
    let error = run.put(batch(fields(), &rows)).unwrap_err();
    assert!(!error.is_retriable());
    let ddl = r#"CREATE TABLE IF NOT EXISTS "shop_orders" ("id" integer NOT NULL, "select" text, PRIMARY KEY ("id"))"#;
    assert!(error.to_string().contains(ddl), "{error}");
    database.sql("CREATE TABLE shop_orders (id int)");
    let error = run.put(batch(fields(), &rows)).unwrap_err().to_string();
    let ddl = r#"ALTER TABLE "public"."shop_orders" ADD COLUMN IF NOT EXISTS "select" text"#;
    assert!(error.contains(ddl), "{error}");
    database.sql(ddl);
    let error = run.put(batch(fields(), &rows)).unwrap_err().to_string();
    let ddl = r#"ALTER TABLE "public"."shop_orders" ADD PRIMARY KEY ("id")"#;
    assert!(error.contains(ddl), "{error}");
    database.sql(ddl);
    put(&mut run, batch(fields(), &rows));
    // What is seen of a table grows old.
    database.sql(
        "ALTER TABLE shop_orders DROP COLUMN \"select\"; ALTER TABLE shop_orders ADD COLUMN \"select\" varchar(3)",
    );
    put(&mut run, batch(fields(), &[json!({"id": 1, "select": "abc"})]));
    database.sql("DROP TABLE shop_orders; CREATE TABLE shop_orders (\"select\" text, id bigint PRIMARY KEY)");
    put(&mut run, batch(fields(), &rows));
    assert_eq!(database.sql("SELECT * FROM shop_orders"), "a|1");
    // One object with a member too many is no trouble of the others.
    let record = |value: Value| (json!({"id": value["id"]}), value);
    let failures =
        run.put(json_batch("shop.orders", &[record(json!({"id": 2})), record(json!({"id": 3, "more": 1}))])).unwrap();
    let failures = refused(failures);
    assert!(failures.len() == 1 && failures[0].0 == 1 && failures[0].1.contains("ADD COLUMN"), "{failures:?}");
    assert_eq!(database.sql("SELECT id FROM shop_orders ORDER BY 1"), "1\n2");
}

#[test]
fn fields_are_filtered() {
    let database = Database::new();
    let fields = || {
        vec![
            id(),
            Field::new("a", DataType::Int32, true),
            Field::new("b_x", DataType::Int32, true),
            Field::new("b_y", DataType::Int32, true),
        ]
    };
    let rows = [json!({"id": 1, "a": 2, "b_x": 3, "b_y": 4})];
    let columns = |key: &str, value: &str, table: &str| {
        let config = database.sink_config(&[&EVOLVE[..], &[(key, value), ("collection.name.format", table)]].concat());
        put(&mut start(&config, "shop.orders"), batch(fields(), &rows));
        database.sql(&format!("SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"))
    };
    assert_eq!(columns("field.include.list", "a", "t1"), "id,a");
    assert_eq!(columns("field.exclude.list", "shop.orders:b_.*,other:a", "t2"), "id,a");
    assert_eq!(columns("field.exclude.list", "b", "t3"), "id,a,b_x,b_y");
}

#[test]
fn types_that_change_while_it_runs() {
    let database = Database::new();
    database.sql("CREATE TABLE shop_orders (id int, n int, name text)");
    let fields = || vec![id(), Field::new("n", DataType::Int32, true), Field::new("name", DataType::Utf8, true)];
    let mut run = start(&database.sink_config(&[("primary.key.mode", "none")]), "shop.orders");
    let changes = ["", "n TYPE bigint", "n TYPE smallint", "n TYPE numeric", "n TYPE text", "id TYPE double precision"];
    for (n, change) in changes.iter().enumerate() {
        if !change.is_empty() {
            database.sql(&format!("ALTER TABLE shop_orders ALTER {change}"));
        }
        let rows = [json!({"id": n, "n": n, "name": "a"})];
        // As the worker does: what may pass is put again.
        while let Err(error) =
            run.put(batch(fields(), &rows)).map(|failures| assert!(failures.is_empty(), "{failures:?}"))
        {
            assert!(error.is_retriable(), "{change}: {error}");
        }
    }
    assert_eq!(database.sql("SELECT string_agg(id || n, ',' ORDER BY id) FROM shop_orders"), "00,11,22,33,44,55");
}
