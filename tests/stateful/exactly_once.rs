//! Workers that are killed, that stand still, and that lose their broker at random moments: no loss, no duplicate, and aggregates
//! equal to a batch.

use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{BrokerOptions, KafkaBroker, Result, Seed, TributaryWorker, WorkerOptions};
use tributary_tests::outage;

use crate::events::Events;
use crate::hurt::{die_at_every_step, strike, two_workers};
use crate::rig::{PARTITIONS, Rig, rounds, unique};

fn options(group: &str) -> WorkerOptions {
    WorkerOptions::default().set("group.id", group).set("offset.flush.interval.ms", "200")
}

#[test]
fn killed_workers_lose_nothing_and_repeat_nothing() -> Result<()> {
    let mut seed = Seed::announce("kills of stateful transforms");
    let broker = KafkaBroker::shared()?;
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options(&unique("kills")))?;
    let rig = Rig::new(&broker, "kills", worker.dir())?;
    let mut events = Events::new(&broker, &rig.input)?;
    events.produce(10_000, &mut seed)?;
    rig.create(worker.rest(), 2, &json!({}))?;
    for _ in 0..rounds(6) {
        events.produce(5_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..3000)));
        worker.kill9()?;
        worker.spawn()?;
    }
    events.produce(5_000, &mut seed)?;
    events.finish(PARTITIONS)?;
    let done = rig.finished(worker.rest(), &broker).and_then(|()| rig.check(&broker));
    done.map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// A worker that dies between every two steps of the commit loop.
#[test]
fn deaths_at_every_step() -> Result<()> {
    let mut seed = Seed::announce("fail points of stateful transforms");
    let broker = KafkaBroker::shared()?;
    let place = tempfile::NamedTempFile::new()?.into_temp_path();
    let options = options(&unique("steps")).env("TRIBUTARY_TEST_FAIL_POINT", &format!("@{}", place.display()));
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let rig = Rig::new(&broker, "steps", worker.dir())?;
    let mut events = Events::new(&broker, &rig.input)?;
    events.produce(2_000, &mut seed)?;
    rig.create(worker.rest(), 1, &json!({}))?;
    die_at_every_step(&mut worker, &place, 2_000, &mut events, &mut seed)?;
    events.finish(PARTITIONS)?;
    let done = rig.finished(worker.rest(), &broker).and_then(|()| rig.check(&broker));
    done.map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// A broker that is restarted, killed or held, and a network that is cut, in the middle of transactions.
#[test]
fn outages() -> Result<()> {
    let mut seed = Seed::announce("outages of stateful transforms");
    let mut broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let mut worker = TributaryWorker::start_with(&broker.proxied_bootstrap(), options("outages"))?;
    let rig = Rig::new(&broker, "outages", worker.dir())?;
    let mut events = Events::new(&broker, &rig.input)?;
    events.produce(5_000, &mut seed)?;
    rig.create(worker.rest(), 2, &json!({}))?;
    for round in 0..rounds(4) as u64 {
        events.produce(3_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1500)));
        let pause = Duration::from_millis(seed.random_range(200..4_000));
        outage(&mut broker, round + seed.value(), pause)?;
    }
    events.finish(PARTITIONS)?;
    let done = rig.finished(worker.rest(), &broker).and_then(|()| rig.check(&broker));
    done.map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Workers of a group that are killed, stand still until others have their partitions and then go on, and whose connectors get other
/// numbers of tasks.
#[test]
fn takeovers_and_zombies() -> Result<()> {
    let mut seed = Seed::announce("zombies of stateful transforms");
    let broker = KafkaBroker::shared()?;
    let mut workers = two_workers(&broker, WorkerOptions::default())?;
    let dir = tempfile::tempdir()?;
    let rig = Rig::new(&broker, "zombies", dir.path())?;
    let mut events = Events::new(&broker, &rig.input)?;
    events.produce(5_000, &mut seed)?;
    // Consumers that stand still lose their partitions, too, not only their tasks.
    let more = json!({"consumer.override.session.timeout.ms": "6000"});
    rig.create(workers.rest(0), 2, &more)?;
    for round in 0..rounds(4) {
        strike(&mut workers, round, &mut events, &mut seed, |rest, tasks| rig.create(rest, tasks, &more))?;
    }
    events.finish(PARTITIONS)?;
    let done = rig.finished(workers.rest(0), &broker).and_then(|()| rig.check(&broker));
    done.map_err(|error| workers.with_logs(error.to_string()))?;
    workers.stop()
}
