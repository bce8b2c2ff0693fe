//! How fast the sink is, beside COPY and merge by hand: `cargo test --release -p tributary-connector-postgres --test sink_speed -- --ignored --nocapture`.
//!
//! Both write the same rows, in batches of the same size, each a transaction, into a table with a primary key: first new rows, then the same keys again.
//! The hand-written one is psql with files that are there already, so it makes no rows of records.

mod common;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use common::Database;
use tributary_connector_postgres::PostgresSink;
use tributary_sdk::arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray, StructArray, TimestampMillisecondArray,
};
use tributary_sdk::arrow::schema::{DataType, Field, Fields, TimeUnit};
use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_PARAMETERS};
use tributary_sdk::{Batch, Column, Offsets};
use tributary_testkit::SinkRun;

const ROWS: i64 = 500_000;
const BATCH: i64 = 10_000;
const TABLE: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, customer text, status text, quantity int, amount numeric(12,2), at timestamp)";
const COLUMNS: &str = "id, customer, status, quantity, amount, at";

/// Keys in an order that is no order.
fn id(row: i64) -> i64 {
    row * 7_919 % ROWS
}

fn customer(row: i64, round: i64) -> String {
    format!("customer-{:06}-{round}", row % 50_000)
}

fn cents(row: i64) -> i64 {
    row * 37 % 1_000_000
}

const STATUS: [&str; 4] = ["new", "paid", "shipped", "returned"];

fn fields() -> Fields {
    let decimal = [(SCHEMA_NAME, "org.apache.kafka.connect.data.Decimal"), (SCHEMA_PARAMETERS, r#"{"scale":"2"}"#)];
    let decimal = decimal.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect::<HashMap<_, _>>();
    vec![
        Field::new("id", DataType::Int64, false),
        Field::new("customer", DataType::Utf8, true),
        Field::new("status", DataType::Utf8, true),
        Field::new("quantity", DataType::Int32, true),
        Field::new("amount", DataType::Binary, true).with_metadata(decimal),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]
    .into()
}

fn structured(from: i64, round: i64) -> Batch {
    let rows = from..from + BATCH;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.clone().map(id))),
        Arc::new(StringArray::from_iter_values(rows.clone().map(|row| customer(row, round)))),
        Arc::new(StringArray::from_iter_values(rows.clone().map(|row| STATUS[row as usize % 4]))),
        Arc::new(Int32Array::from_iter_values(rows.clone().map(|row| (row % 9) as i32))),
        Arc::new(BinaryArray::from_iter_values(rows.clone().map(|row| cents(row).to_be_bytes()))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.clone().map(|row| 1_764_000_000_000 + row))),
    ];
    let array = StructArray::new(fields(), columns, None);
    let mut batch =
        Batch::new("orders", Column::new(Field::new("", DataType::Struct(fields()), false), Arc::new(array)));
    batch.offsets = Offsets::Sink(Int64Array::from_iter_values(rows));
    batch
}

fn json(from: i64, round: i64) -> Batch {
    let document = |row: i64| {
        format!(
            r#"{{"id":{},"customer":"{}","status":"{}","quantity":{},"amount":{}.{:02},"at":{}}}"#,
            id(row),
            customer(row, round),
            STATUS[row as usize % 4],
            row % 9,
            cents(row) / 100,
            cents(row) % 100,
            1_764_000_000_000i64 + row
        )
    };
    let mut batch =
        Batch::new("orders", Column::json(StringArray::from_iter_values((from..from + BATCH).map(document))));
    batch.offsets = Offsets::Sink(Int64Array::from_iter_values(from..from + BATCH));
    batch
}

/// Thousands of rows a second, and seconds of a processor that the server's session took: on a busy machine, time tells little.
type Speed = (f64, f64);

fn rate(begun: Instant) -> f64 {
    ROWS as f64 / begun.elapsed().as_secs_f64() / 1000.0
}

/// Seconds of user and system time, from what the kernel says of a process.
fn cpu(stat: &str) -> f64 {
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks() + ticks()) / 100.0
}

/// New rows, and the same keys again.
fn sink(more: &[(&str, &str)], batch: fn(i64, i64) -> Batch) -> [Speed; 2] {
    let database = Database::new();
    database.sql(TABLE);
    let config = [("insert.mode", "upsert"), ("primary.key.mode", "record_value"), ("primary.key.fields", "id")];
    [0, 1].map(|round| {
        // Records are there before they are measured, as the worker's other thread makes them.
        let batches: Vec<Batch> = (0..ROWS).step_by(BATCH as usize).map(|from| batch(from, round)).collect();
        let name = format!("round-{round}");
        let config = database.sink_config(&[&config[..], more, &[("name", &name)]].concat());
        let mut run = SinkRun::<PostgresSink>::start(&config).unwrap();
        run.open("orders", 0, 0).unwrap();
        let begun = Instant::now();
        for batch in batches {
            assert!(run.put(batch).unwrap().is_empty());
        }
        run.pre_commit().unwrap();
        let rate = rate(begun);
        let session = format!("SELECT pg_read_file('/proc/' || pid || '/stat', 0, 999) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'tributary {name}'", database.name);
        let cpu = cpu(&database.sql(&session));
        run.stop().unwrap();
        let found =
            database.sql("SELECT count(*), sum(amount), count(*) FILTER (WHERE customer LIKE '%-1') FROM orders");
        let total: i64 = (0..ROWS).map(cents).sum();
        assert_eq!(found, format!("{ROWS}|{}.{:02}|{}", total / 100, total % 100, if round == 1 { ROWS } else { 0 }));
        (rate, cpu)
    })
}

/// The same by hand.
fn raw(batch: i64) -> [Speed; 2] {
    let database = Database::new();
    database.sql(TABLE);
    let dir = tributary_harness::process::ScratchDir::new("speed").unwrap();
    [0, 1].map(|round| {
        let mut script = String::from("CREATE TEMP TABLE stage (LIKE orders) ON COMMIT DELETE ROWS;\n");
        for from in (0..ROWS).step_by(batch as usize) {
            let path = dir.path().join(format!("{from}"));
            let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
            for row in from..from + batch {
                let (whole, rest, status) = (cents(row) / 100, cents(row) % 100, STATUS[row as usize % 4]);
                let ms = 1_764_000_000_000i64 + row;
                let at = format!("2025-11-24 {:02}:{:02}:{:02}.{:03}", 16 + ms / 3_600_000 % 8, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
                writeln!(file, "{}\t{}\t{status}\t{}\t{whole}.{rest:02}\t{at}", id(row), customer(row, round), row % 9).unwrap();
            }
            file.flush().unwrap();
            let set: Vec<String> = COLUMNS.split(", ").skip(1).map(|name| format!("{name} = excluded.{name}")).collect();
            let _ = write!(
                script,
                "BEGIN;\n\\copy stage FROM '{}'\nINSERT INTO orders SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {};\nCOMMIT;\n",
                path.display(),
                set.join(", ")
            );
        }
        script += "SELECT pg_read_file('/proc/self/stat', 0, 999);\n";
        let begun = Instant::now();
        let stat = database.sql(&script);
        (rate(begun), cpu(stat.lines().last().unwrap_or_default()))
    })
}

#[test]
#[ignore = "a benchmark: takes a minute, and the machine for itself"]
fn upserts_beside_copy_and_merge() {
    let show = |name: &str, [new, again]: [Speed; 2]| {
        let speed = |(rate, cpu): Speed| format!("{rate:>4.0} k/s, server's CPU {cpu:>5.2} s");
        println!("{name:<36} new {}; again {}", speed(new), speed(again));
    };
    for _ in 0..2 {
        show("COPY + merge by hand, 10,000 rows", raw(BATCH));
        show("COPY + merge by hand, all at once", raw(ROWS));
        show("sink, structured", sink(&[], structured));
        show("sink, structured, exactly once", sink(&[("exactly.once.enabled", "true")], structured));
        show("sink, schemaless JSON", sink(&[], json));
        show("sink, structured, batch.size=500", sink(&[("batch.size", "500")], structured));
    }
}
