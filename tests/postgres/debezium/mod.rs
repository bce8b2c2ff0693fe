//! Beside Debezium: its own connector in the real Kafka Connect and Tributary's read the same database, and their records are compared one by
//! one, keys, values, schemas and headers.
//!
//! What has to differ is in [`compare`]; what differs for a reason is in [`compare::ALLOWED`] and in docs/compatibility.md.

mod compare;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tributary_harness::{
    ConnectOptions, ConnectWorker, Error, KafkaBroker, Postgres, Result, TributaryWorker, WorkerOptions, debezium,
    postgres, wait,
};

use compare::{Record, read};

const DATABASE: &str = "beside";
/// The most that a step may take on both sides.
const LIMIT: Duration = Duration::from_secs(90);

/// The configs that are compared: a name, and what is not as by default.
const VARIANTS: [(&str, &[(&str, &str)]); 8] = [
    ("plain", &[]),
    (
        "texts",
        &[
            ("decimal.handling.mode", "string"),
            ("time.precision.mode", "connect"),
            ("interval.handling.mode", "string"),
            ("binary.handling.mode", "base64"),
            ("hstore.handling.mode", "map"),
            ("tombstones.on.delete", "false"),
            ("skipped.operations", "none"),
        ],
    ),
    (
        "doubles",
        &[
            ("decimal.handling.mode", "double"),
            ("time.precision.mode", "isostring"),
            ("binary.handling.mode", "hex"),
            ("include.unknown.datatypes", "true"),
            ("unavailable.value.placeholder", "unchanged"),
            ("column.exclude.list", "public.types.note,public.required.ts"),
            ("message.key.columns", "public.whole:v,n;public.no_key_full:n"),
        ],
    ),
    (
        "micros",
        &[
            ("time.precision.mode", "adaptive_time_microseconds"),
            ("binary.handling.mode", "base64-url-safe"),
            ("skipped.operations", "u,t"),
            ("table.exclude.list", "public.types,public.large"),
            ("topic.delimiter", "-"),
            ("provide.transaction.metadata", "true"),
        ],
    ),
    (
        "microseconds",
        &[("time.precision.mode", "microseconds"), ("table.include.list", "public.(types|required|defaults|zz_done)")],
    ),
    ("single", &[("table.include.list", "public.zz_done"), ("provide.transaction.metadata", "true")]),
    (
        "signals",
        &[
            ("table.include.list", "public.(composite|by_index|zz_done)"),
            ("signal.data.collection", "public.signals"),
            ("incremental.snapshot.chunk.size", "2"),
        ],
    ),
    // Without the dates that are too far away for nanoseconds.
    (
        "nanoseconds",
        &[("time.precision.mode", "nanoseconds"), ("table.include.list", "public.(required|defaults|zz_done)")],
    ),
];

/// The two sides.
const SIDES: [&str; 2] = ["debezium", "tributary"];

#[test]
fn records_are_the_same_as_debeziums() -> Result<()> {
    let server = Postgres::start()?;
    server.create_database(DATABASE)?;
    let sql = |statements: &str| server.sql(DATABASE, statements);
    let rows = |base: u32| format!("\\set base {base}\n{}", include_str!("rows.sql"));
    sql(include_str!("before.sql"))?;
    sql(&rows(0))?;
    sql("INSERT INTO zz_done VALUES (0)")?;

    let broker = KafkaBroker::shared()?;
    let options =
        ConnectOptions::default().small().set("plugin.path", &debezium::postgres_plugin()?.display().to_string());
    let mut connect = ConnectWorker::start_with(&broker, options)?;
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), WorkerOptions::default())?;
    for (name, more) in VARIANTS {
        connect.rest().put_connector(name, &config(&server, SIDES[0], name, more))?;
        worker.rest().put_connector(name, &config(&server, SIDES[1], name, more))?;
    }
    for (name, _) in VARIANTS {
        connect.rest().wait_running(name).map_err(|error| Error::new(format!("{error}\n{}", connect.log())))?;
        worker.wait_running(name)?;
    }
    let caught_up = |step: usize| -> Result<()> {
        for (name, more) in VARIANTS {
            for side in SIDES {
                let topic = topic(side, name, more, "zz_done");
                let what = format!("{topic} to have {step} records");
                let reached = wait::until(&what, LIMIT, || {
                    let count = broker.record_count(&topic)?;
                    Ok((count >= step as u64).then_some(()))
                });
                reached.map_err(|error| match side {
                    "debezium" => Error::new(format!("{error}\n{}", tail(&connect.log()))),
                    _ => worker.with_log(error.to_string()),
                })?;
            }
        }
        Ok(())
    };
    caught_up(1)?;
    let changes = include_str!("changes.sql").split("-- step\n");
    let steps = [rows(100)].into_iter().chain(changes.map(str::to_owned));
    for (number, step) in (1..).zip(steps) {
        sql(&format!("{step};INSERT INTO zz_done VALUES ({number})"))?;
        caught_up(number + 1)?;
    }
    let mut differences = Vec::new();
    let mut count = 0;
    for (name, more) in VARIANTS {
        // A table's records may still be on their way when those of another one are there.
        let [theirs, ours] = settle(&broker, name, more)?;
        count += theirs.values().map(Vec::len).sum::<usize>();
        compare::compare(name, &theirs, &ours, &mut differences);
    }
    worker.stop()?;
    connect.stop()?;
    assert!(count > 500, "only {count} records");
    println!("{count} records");
    assert!(
        differences.is_empty(),
        "{} differences in {count} records:\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(())
}

fn config(server: &Postgres, side: &str, name: &str, more: &[(&str, &str)]) -> Value {
    let mut config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": "127.0.0.1",
        "database.port": server.port().to_string(),
        "database.user": postgres::USER,
        "database.password": postgres::PASSWORD,
        "database.dbname": DATABASE,
        "topic.prefix": prefix(side, name),
        "slot.name": format!("{side}_{name}"),
        "plugin.name": "pgoutput",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    });
    for (key, value) in more {
        config[*key] = json!(value);
    }
    config
}

fn prefix(side: &str, name: &str) -> String {
    format!("{side}_{name}")
}

fn topic(side: &str, name: &str, more: &[(&str, &str)], table: &str) -> String {
    let delimiter = more.iter().find(|(key, _)| *key == "topic.delimiter").map_or(".", |(_, value)| value);
    format!("{}{delimiter}public{delimiter}{table}", prefix(side, name))
}

/// Both sides' records by topic (without what differs in the names), once both have as many.
fn settle(broker: &KafkaBroker, name: &str, more: &[(&str, &str)]) -> Result<[BTreeMap<String, Vec<Record>>; 2]> {
    let delimiter = more.iter().find(|(key, _)| *key == "topic.delimiter").map_or(".", |(_, value)| value);
    let begun = Instant::now();
    loop {
        let [theirs, ours] = SIDES.map(|side| read(broker, &prefix(side, name), delimiter));
        let (theirs, ours) = (theirs?, ours?);
        let counts = |side: &BTreeMap<String, Vec<Record>>| side.values().map(Vec::len).collect::<Vec<_>>();
        // Where it is not so, the comparison tells what is missing.
        if counts(&theirs) == counts(&ours) || begun.elapsed() > Duration::from_secs(5) {
            return Ok([theirs, ours]);
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
