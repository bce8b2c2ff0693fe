//! Workers that are killed at random moments: no loss, no duplicate, and aggregates equal to a batch.

use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{Error, KafkaBroker, Result, Seed, TributaryWorker, WorkerOptions, wait};

use crate::events::{DISORDER, Events, SIZE, TTL, deduplicated, values, windows};

const PARTITIONS: i32 = 3;
const KILLS: usize = 6;

struct Names {
    input: String,
    first: String,
    windows: String,
}

fn names(what: &str) -> Names {
    let own = format!("{what}-{}", std::process::id());
    Names { input: format!("{own}-in"), first: format!("{own}-first"), windows: format!("{own}-windows") }
}

/// Two connectors on one input: the first of each event; sums of these by user and window.
fn create(worker: &TributaryWorker, names: &Names) -> Result<()> {
    let common = json!({
        "connector.class": "KafkaSink", "topics": names.input, "tasks.max": 2,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
        "transaction.interval.ms": 100, "transforms": "once",
        "transforms.once.type": "Deduplicate", "transforms.once.key": "v.id", "transforms.once.ttl.ms": TTL,
        "transforms.once.eventtime.expr": "v.at", "transforms.once.eventtime.max.out.of.orderness.ms": DISORDER,
    });
    let with = |more: serde_json::Value| {
        let mut config = common.clone();
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    };
    worker.rest().put_connector(&names.first, &with(json!({"topic": names.first})))?;
    let sums = with(json!({
        "topic": names.windows, "transforms": "once,sums",
        "transforms.sums.type": "Aggregate", "transforms.sums.key": "v.user", "transforms.sums.window": "tumbling",
        "transforms.sums.size.ms": SIZE, "transforms.sums.aggs": "n:count(), total:sum(v.amount)",
        "transforms.sums.eventtime.expr": "v.at", "transforms.sums.eventtime.max.out.of.orderness.ms": DISORDER,
    }));
    worker.rest().put_connector(&names.windows, &sums).map(drop)
}

/// Waits until a connector has committed everything.
fn finished(worker: &TributaryWorker, broker: &KafkaBroker, names: &Names, connector: &str) -> Result<()> {
    let ends = broker.watermarks(&names.input)?;
    wait::until(&format!("{connector} reads its input to the end"), Duration::from_secs(180), || {
        let offsets = worker.rest().get(&format!("/connectors/{connector}/offsets"))?.ok()?;
        let committed = |partition: usize| {
            offsets["offsets"].as_array().into_iter().flatten().any(|entry| {
                entry["partition"]["kafka_partition"] == partition as i64
                    && entry["offset"]["kafka_offset"] == ends[partition].1
            })
        };
        if (0..ends.len()).all(committed) {
            return Ok(Some(()));
        }
        let status = worker.rest().status(connector)?;
        if status["tasks"].as_array().into_iter().flatten().any(|task| task["state"] == "FAILED") {
            return Err(Error::new(format!("{connector} failed: {status}")));
        }
        Ok(None)
    })
}

fn same(what: &str, got: &[String], expected: &[String]) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let missing: Vec<_> = expected.iter().filter(|value| !got.contains(value)).take(5).collect();
    let wrong: Vec<_> = got.iter().filter(|value| !expected.contains(value)).take(5).collect();
    Err(Error::new(format!(
        "{what}: {} records where {} are expected; missing for instance {missing:#?}, not expected {wrong:#?}",
        got.len(),
        expected.len()
    )))
}

fn check(broker: &KafkaBroker, names: &Names) -> Result<()> {
    let input = values(broker, &names.input)?;
    let sorted = |by_partition: std::collections::BTreeMap<i32, Vec<String>>| {
        let mut all: Vec<String> = by_partition.into_values().flatten().collect();
        all.sort();
        all
    };
    same("deduplicated", &sorted(values(broker, &names.first)?), &sorted(deduplicated(&input)))?;
    same("windows", &sorted(values(broker, &names.windows)?), &windows(&input))
}

#[test]
fn killed_workers_lose_nothing_and_repeat_nothing() -> Result<()> {
    let mut seed = Seed::announce("kills of stateful transforms");
    let broker = KafkaBroker::shared()?;
    let names = names("kills");
    broker.create_topic(&names.input, PARTITIONS, &[])?;
    broker.create_topic(&names.first, PARTITIONS, &[])?;
    broker.create_topic(&names.windows, 1, &[])?;
    let mut events = Events::new(&broker, &names.input)?;
    events.produce(10_000, &mut seed)?;
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), WorkerOptions::default())?;
    create(&worker, &names)?;
    let kills = std::env::var("STATEFUL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    for _ in 0..kills {
        events.produce(5_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..3000)));
        worker.kill9()?;
        worker.spawn()?;
    }
    events.produce(5_000, &mut seed)?;
    events.finish(PARTITIONS)?;
    let done = finished(&worker, &broker, &names, &names.first)
        .and_then(|()| finished(&worker, &broker, &names, &names.windows))
        .and_then(|()| check(&broker, &names));
    done.map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}
