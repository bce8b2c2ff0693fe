//! What is done to workers and their broker in a round: commits are lost, workers killed or held.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rand::Rng;
use tributary_harness::{Context, KafkaBroker, Lost, Rest, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_tests::{COMMIT_STEPS, SESSION, Workers};

use crate::events::Events;

/// The key of the request that ends a transaction.
const END_TXN: i16 = 26;

/// Two workers of a group that notice soon when one of them stands still.
pub fn two_workers(broker: &KafkaBroker, options: WorkerOptions) -> Result<Workers> {
    let session = SESSION.as_millis().to_string();
    let options = options.set("session.timeout.ms", &session).set("heartbeat.interval.ms", "1000");
    Workers::start_with(&broker.bootstrap(), 2, options)
}

/// Kills a worker, which comes back after a while.
pub fn kill(workers: &mut Workers, round: usize, victim: usize, seed: &mut Seed) -> Result<()> {
    println!("round {round}: kill -9 of worker {victim}");
    workers.get_mut(victim).kill9()?;
    thread::sleep(Duration::from_millis(seed.random_range(0..3_000)));
    workers.get_mut(victim).restart()
}

/// Holds a worker until others have what it had; events come meanwhile.
pub fn hold(workers: &Workers, round: usize, victim: usize, events: &mut Events, seed: &mut Seed) -> Result<()> {
    println!("round {round}: SIGSTOP of worker {victim}");
    workers.get(victim).sigstop()?;
    thread::sleep(SESSION + Duration::from_millis(seed.random_range(0..4_000)));
    events.produce(3_000, seed)?;
    workers.get(victim).sigcont()
}

/// Events come, and one of two workers is held or killed, or the connectors get another number of tasks.
pub fn strike(
    workers: &mut Workers,
    round: usize,
    events: &mut Events,
    seed: &mut Seed,
    create: impl Fn(&Rest, usize) -> Result<()>,
) -> Result<()> {
    events.produce(3_000, seed)?;
    thread::sleep(Duration::from_millis(seed.random_range(0..2_000)));
    let victim = seed.random_range(0..2);
    match round % 3 {
        0 => hold(workers, round, victim, events, seed),
        1 => kill(workers, round, victim, seed),
        _ => {
            let tasks = seed.random_range(1..4);
            println!("round {round}: {tasks} tasks");
            create(workers.rest(victim), tasks)
        }
    }
}

/// The worker dies before and after each step of the commit loop, as the file `place` tells it, and goes on in the end. `share` events come in
/// each life.
pub fn die_at_every_step(
    worker: &mut TributaryWorker,
    place: &Path,
    share: usize,
    events: &mut Events,
    seed: &mut Seed,
) -> Result<()> {
    for side in ["before", "after"] {
        for step in COMMIT_STEPS {
            events.produce(share, seed)?;
            worker.kill9()?;
            // Which of the tasks comes there first is left to chance.
            let count = if step == "init" { 1 } else { seed.random_range(1..6) };
            std::fs::write(place, format!("{side}-{step}:{count}")).context("the fail point")?;
            worker.spawn()?;
            let died = wait::until(&format!("the death {side}-{step}:{count}"), wait::PATIENCE, || {
                events.produce(50, seed)?;
                Ok((!worker.is_running()).then_some(()))
            });
            died.map_err(|error| worker.with_log(error.to_string()))?;
        }
    }
    std::fs::write(place, "").context("the fail point")?;
    worker.kill9()?;
    worker.spawn()
}

/// Loses the request or the answer of the commit of whichever connector commits next.
pub fn lose_commit(
    broker: &KafkaBroker,
    worker: &TributaryWorker,
    events: &mut Events,
    seed: &mut Seed,
    round: u64,
) -> Result<Lost> {
    thread::sleep(Duration::from_millis(seed.random_range(0..300)));
    let what = if (round + seed.value()).is_multiple_of(2) { Lost::Request } else { Lost::Answer };
    let before = broker.proxy().lost();
    broker.proxy().lose(END_TXN, what);
    let lost = wait::until("a commit is lost", wait::PATIENCE, || {
        events.produce(100, seed)?;
        Ok((broker.proxy().lost() > before).then_some(()))
    });
    lost.map_err(|error| worker.with_log(error.to_string()))?;
    Ok(what)
}
