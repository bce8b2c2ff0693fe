//! Kills at any time, workers that stand still, lost answers, brokers and networks that are away, and a store that is away.

use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{BrokerOptions, Error, KafkaBroker, Lost, Result, Seed, TributaryWorker, wait};
use tributary_tests::{SESSION, Workers, outage};

use crate::rig::{Rig, options, rounds, unique};

/// The key of the request that commits offsets.
const OFFSET_COMMIT: i16 = 8;

#[test]
fn kills() -> Result<()> {
    let mut seed = Seed::announce("prepared commits: kills");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let options = options(&plugins)?.set("group.id", &unique("prepared"));
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let mut rig = Rig::on(&broker, "kills")?;
    rig.create(worker.rest(), 2)?;
    for _ in 0..rounds(6) {
        rig.produce(&broker, 2_000)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..2_500)));
        worker.kill9()?;
        worker.spawn()?;
    }
    rig.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Two workers, one of which is killed, or stands still until the other has what it had; and tasks that come and go.
#[test]
fn zombies_and_rebalances() -> Result<()> {
    let mut seed = Seed::announce("prepared commits: zombies");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let session = SESSION.as_millis().to_string();
    let options = options(&plugins)?.set("session.timeout.ms", &session).set("heartbeat.interval.ms", "1000");
    let mut workers = Workers::start_with(&broker.bootstrap(), 2, options)?;
    let mut rig = Rig::on(&broker, "zombies")?;
    rig.create(workers.rest(0), 2)?;
    for round in 0..rounds(3) {
        rig.produce(&broker, 2_000)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1_500)));
        let victim = seed.random_range(0..2);
        match seed.random_range(0..4) {
            0 => {
                println!("round {round}: kill -9 of worker {victim}");
                workers.get_mut(victim).kill9()?;
                thread::sleep(Duration::from_millis(seed.random_range(0..3_000)));
                workers.get_mut(victim).restart()?;
            }
            1 => {
                let tasks = seed.random_range(1..4);
                println!("round {round}: {tasks} tasks");
                rig.create(workers.rest(victim), tasks)?;
            }
            _ => {
                println!("round {round}: SIGSTOP of worker {victim}");
                workers.get(victim).sigstop()?;
                // A sink's members outlive their worker's session.
                thread::sleep(SESSION + Duration::from_millis(seed.random_range(0..5_000)));
                rig.produce(&broker, 1_000)?;
                workers.get(victim).sigcont()?;
            }
        }
    }
    rig.check(workers.rest(0), &broker).map_err(|error| workers.with_logs(error.to_string()))?;
    workers.stop()
}

/// A commit is lost on its way, or its answer, while the task goes on.
#[test]
fn lost_commits() -> Result<()> {
    let mut seed = Seed::announce("prepared commits: lost commits");
    let broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let plugins = tempfile::tempdir()?;
    let options = options(&plugins)?.set("group.id", &unique("prepared"));
    let mut worker = TributaryWorker::start_with(&broker.proxied_bootstrap(), options)?;
    let mut rig = Rig::on(&broker, "lost")?;
    rig.create(worker.rest(), 2)?;
    for round in 0..rounds(6) {
        let what = if seed.random_range(0..2) == 0 { Lost::Request } else { Lost::Answer };
        println!("round {round}: {what:?} of a commit");
        thread::sleep(Duration::from_millis(seed.random_range(0..600)));
        let before = broker.proxy().lost();
        broker.proxy().lose(OFFSET_COMMIT, what);
        let lost = wait::until("a commit is lost", wait::PATIENCE, || {
            rig.produce(&broker, 100)?;
            Ok((broker.proxy().lost() > before).then_some(()))
        });
        lost.map_err(|error| worker.with_log(error.to_string()))?;
    }
    rig.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

#[test]
fn outages() -> Result<()> {
    let mut seed = Seed::announce("prepared commits: outages");
    let mut broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let plugins = tempfile::tempdir()?;
    let options = options(&plugins)?.set("group.id", &unique("prepared"));
    let mut worker = TributaryWorker::start_with(&broker.proxied_bootstrap(), options)?;
    let mut rig = Rig::on(&broker, "outages")?;
    rig.create(worker.rest(), 2)?;
    for round in 0..rounds(4) as u64 {
        rig.produce(&broker, 2_000)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1_000)));
        let pause = Duration::from_millis(seed.random_range(200..9_000));
        println!("round {round}: {}, for {pause:?}", (round + seed.value()) % 4);
        outage(&mut broker, round + seed.value(), pause)?;
        no_task_failed(&worker, &rig)?;
    }
    rig.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// While the store is away the task waits; partitions are taken over when it is back.
#[test]
fn a_store_that_is_away_is_waited_for() -> Result<()> {
    let mut seed = Seed::announce("prepared commits: a store that is away");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let options = options(&plugins)?.set("group.id", &unique("prepared"));
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let mut rig = Rig::on(&broker, "away")?;
    rig.create(worker.rest(), 1)?;
    let away = rig.folder.join("away");
    for round in 0..rounds(4) {
        rig.produce(&broker, 1_000)?;
        worker.wait_running(&rig.name)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..800)));
        std::fs::write(&away, "")?;
        match round % 3 {
            0 => {}
            1 => {
                worker.kill9()?;
                worker.spawn()?;
            }
            _ => rig.create(worker.rest(), 1 + round % 2)?,
        }
        rig.produce(&broker, 500)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..2_000)));
        no_task_failed(&worker, &rig)?;
        std::fs::remove_file(&away)?;
    }
    rig.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

fn no_task_failed(worker: &TributaryWorker, rig: &Rig) -> Result<()> {
    let status = worker.rest().status(&rig.name)?;
    let failed = status["tasks"].as_array().into_iter().flatten().any(|task| task["state"] == json!("FAILED"));
    if failed { Err(worker.with_log(Error::new(status.to_string()).to_string())) } else { Ok(()) }
}
