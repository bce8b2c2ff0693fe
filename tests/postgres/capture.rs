//! Change data capture with worker and database killed on the way.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{KafkaBroker, Postgres, Result, Seed, TributaryWorker, WorkerOptions};

use crate::counters::Counters;

/// How often the worker is killed.
const KILLS: u64 = 6;

#[test]
fn nothing_is_lost_when_worker_and_database_are_killed() -> Result<()> {
    kills(WorkerOptions::default(), true, "CDC at least once")
}

#[test]
fn each_change_comes_once_when_worker_and_database_are_killed() -> Result<()> {
    let options = WorkerOptions::default()
        .set("exactly.once.source.support", "enabled")
        .set("offset.storage.replication.factor", "1");
    kills(options, false, "CDC exactly once")
}

fn kills(options: WorkerOptions, repeats: bool, what: &str) -> Result<()> {
    let mut seed = Seed::announce(what);
    let broker = KafkaBroker::shared()?;
    let counters = Counters::create(Arc::new(Postgres::start()?))?;
    let options = options.set("offset.flush.interval.ms", "100").set("group.id", &counters.name);
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    worker.rest().put_connector(&counters.name, &counters.source())?;
    worker.wait_running(&counters.name)?;
    // The snapshot is out: that a crash repeats a part of it is allowed, also where each change comes once.
    counters.check(&broker, &worker, repeats)?;
    for round in 0..KILLS {
        for step in 0..4 {
            counters.count_up(round * 4 + step)?;
        }
        thread::sleep(Duration::from_millis(seed.random_range(0..300)));
        if round % 3 == 1 {
            counters.server.kill9()?;
            counters.server.restart()?;
        }
        worker.kill9()?;
        counters.count_up(round)?;
        worker.spawn()?;
    }
    let records = counters.check(&broker, &worker, repeats)?;
    println!("{records} records");
    worker.stop()
}

#[test]
fn passwords_are_not_shown_and_the_new_state_is_taken_out() -> Result<()> {
    let counters = Counters::create(Arc::new(Postgres::start()?))?;
    let mut worker = TributaryWorker::start_embedded()?;
    let mut config = counters.source();
    let more = json!({
        "transforms": "unwrap",
        "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.unwrap.add.fields": "op,source.lsn",
        "snapshot.fetch.size": "100",
    });
    config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    worker.rest().put_connector(&counters.name, &config)?;
    worker.wait_running(&counters.name)?;
    let read = || -> Result<String> {
        let output = std::process::Command::new(tributary_harness::tributary::binary()?)
            .args(["consume", &counters.topic(), "-e", "-f", "%v\\n", "-d"])
            .arg(worker.dir().join("data"))
            .output()?;
        Ok(String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout }).into_owned())
    };
    let lines = tributary_harness::wait::until("the records", tributary_harness::wait::PATIENCE, || {
        let lines = read()?;
        let count = lines.lines().count();
        if count >= 50 {
            Ok(Some(lines))
        } else {
            Err(tributary_harness::Error::new(format!("{count} lines: {lines}")))
        }
    })
    .map_err(|error| worker.with_log(error.to_string()))?;
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap_or_default()).unwrap_or_default();
    assert_eq!((&first["id"], &first["n"], &first["__op"]), (&json!(1), &json!(1), &json!("r")), "{lines}");
    assert!(first["__source_lsn"].is_number(), "{first}");
    worker.stop()?;
    let log = worker.log();
    assert!(!log.contains(tributary_harness::postgres::PASSWORD), "the log shows the password");
    // A key of Debezium's that means nothing here.
    assert!(log.contains("snapshot.fetch.size"), "{log}");
    Ok(())
}
