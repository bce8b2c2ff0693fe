//! Commits whose request or answer is lost on the way, with the connection or with the worker: what became of them is found out.

use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{BrokerOptions, KafkaBroker, Result, Seed, TributaryWorker, WorkerOptions};

use crate::events::Events;
use crate::hurt::lose_commit;
use crate::rig::{PARTITIONS, Rig, rounds};

fn options(group: &str) -> WorkerOptions {
    WorkerOptions::default().set("group.id", group).set("offset.flush.interval.ms", "200")
}

/// Loses a commit, and does something at that moment.
fn lose_commits(
    group: &str,
    mut seed: Seed,
    then: impl Fn(&KafkaBroker, &mut TributaryWorker, u64) -> Result<()>,
) -> Result<()> {
    let broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let mut worker = TributaryWorker::start_with(&broker.proxied_bootstrap(), options(group))?;
    let rig = Rig::new(&broker, group, worker.dir())?;
    let mut events = Events::new(&broker, &rig.input)?;
    events.produce(2_000, &mut seed)?;
    rig.create(worker.rest(), 2, &json!({}))?;
    for round in 0..rounds(6) as u64 {
        let what = lose_commit(&broker, &worker, &mut events, &mut seed, round)?;
        let pause = seed.random_range(0..4_000);
        println!("round {round}: {what:?} lost, then {pause} ms");
        then(&broker, &mut worker, pause)?;
        events.produce(1_000, &mut seed)?;
    }
    events.finish(PARTITIONS)?;
    let done = rig.finished(worker.rest(), &broker).and_then(|()| rig.check(&broker));
    done.map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Only the connection is lost, and perhaps the network for a while.
#[test]
fn with_the_connection() -> Result<()> {
    lose_commits("lost-answers", Seed::announce("lost commits"), |broker, _, pause| {
        if pause % 2 == 0 {
            broker.proxy().cut();
            thread::sleep(Duration::from_millis(pause));
            broker.proxy().resume();
        }
        Ok(())
    })
}

/// The worker dies before it learns anything.
#[test]
fn with_the_worker() -> Result<()> {
    lose_commits("lost-workers", Seed::announce("deaths in commits"), |_, worker, pause| {
        worker.kill9()?;
        thread::sleep(Duration::from_millis(pause / 4));
        worker.spawn()
    })
}
