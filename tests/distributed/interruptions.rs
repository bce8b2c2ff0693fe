//! What may happen to workers and brokers: nothing is lost, each task has one owner, and REST comes back.

use std::thread;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use serde_json::{Value, json};
use tributary_harness::{BrokerOptions, Error, KafkaBroker, Result, Seed, WorkerOptions, wait};
use tributary_tests::{SESSION, Workers};

use crate::jobs::{Jobs, Owners};

fn quick() -> WorkerOptions {
    let session = SESSION.as_millis().to_string();
    WorkerOptions::default().set("session.timeout.ms", &session).set("heartbeat.interval.ms", "1000")
}

/// A worker that stands still for longer than its session has lost everything, and writes nothing when it goes on.
#[test]
fn a_frozen_worker_writes_nothing_after_the_fence() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 2, quick())?;
    let mut jobs = Jobs::create(&workers, 2)?;
    for round in 0..3 {
        jobs.more()?;
        let victim = if round == 0 { workers.leader()? } else { round % 2 };
        let other = 1 - victim;
        let lines = workers.get(victim).log().lines().count();
        workers.get(victim).sigstop()?;
        jobs.more()?;
        // Everything runs on the other one.
        wait::until("the other worker to run everything", wait::PATIENCE, || {
            let owners = workers.owners(other)?;
            Ok(owners.values().all(|owner| owner == workers.id(other)).then_some(()))
        })
        .map_err(|error| workers.with_logs(error.to_string()))?;
        let all: Vec<String> = jobs.sources().into_iter().chain(jobs.sinks()).collect();
        workers.wait_running(other, &all)?;
        workers.get(victim).sigcont()?;
        wait::until("the worker to notice", wait::PATIENCE, || {
            let log = workers.get(victim).log();
            let noticed = log.lines().skip(lines).any(|line| line.contains("is not in the group any more"));
            Ok(noticed.then_some(()))
        })
        .map_err(|error| workers.with_logs(error.to_string()))?;
        wait::until("the worker to be back", wait::PATIENCE, || {
            Ok((workers.rest(victim).get("/health")?.status == 200).then_some(()))
        })?;
    }
    jobs.wait_delivered(&workers)?;
    jobs.check(&broker)?;
    // By the statuses in the order in which they were written, no worker has reported what another one had.
    Owners::read(&broker, &workers.group)?.check()?;
    workers.stop()
}

/// Three workers under load are stopped in order and started again, one after the other, the leader among them.
#[test]
fn a_rolling_restart_interrupts_each_task_once() -> Result<()> {
    let mut seed = Seed::announce("a rolling restart");
    let broker = KafkaBroker::shared()?;
    // Told explicitly: how long a process takes to end and to be launched is this machine's affair.
    let options = quick().set("worker.restart.max.delay.ms", "60000");
    let mut workers = Workers::start_with(&broker.bootstrap(), 3, options)?;
    let mut jobs = Jobs::create(&workers, 6)?;
    let all: Vec<String> = jobs.sources().into_iter().chain(jobs.sinks()).collect();
    let before = Owners::read(&broker, &workers.group)?;
    let mut order = [0, 1, 2];
    order.shuffle(&mut seed);
    for number in order {
        jobs.more()?;
        let owners = workers.owners((number + 1) % 3)?;
        workers.get_mut(number).stop()?;
        jobs.more()?;
        workers.get_mut(number).restart()?;
        let seen_by = (number + 1) % 3;
        workers.wait_running(seen_by, &all).map_err(|error| workers.with_logs(error.to_string()))?;
        workers.wait_balanced(seen_by, 12, &[0, 1, 2])?;
        assert_eq!(workers.owners(seen_by)?, owners, "everything is where it was");
    }
    jobs.wait_delivered(&workers)?;
    jobs.check(&broker)?;
    let reports = Owners::read(&broker, &workers.group)?;
    reports.check()?;
    let starts = reports.starts_since(&before);
    if starts.len() != 12 || starts.values().any(|starts| *starts != 1) {
        return Err(workers.with_logs(format!("starts of each task meanwhile: {starts:?}")));
    }
    workers.stop()
}

/// A worker that is stopped and does not come back is not waited for longer than a restart takes.
#[test]
fn the_tasks_of_a_worker_that_stops_for_good_soon_run_elsewhere() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    // Told explicitly, so that nothing here depends on how quick the machine is.
    let options = quick().set("worker.restart.max.delay.ms", "0");
    let mut workers = Workers::start_with(&broker.bootstrap(), 2, options)?;
    let mut jobs = Jobs::create(&workers, 2)?;
    let begun = Instant::now();
    workers.get_mut(1).stop()?;
    jobs.more()?;
    jobs.wait_delivered(&workers)?;
    let all: Vec<String> = jobs.sources().into_iter().chain(jobs.sinks()).collect();
    workers.wait_running(0, &all)?;
    println!("everything ran elsewhere {:?} after SIGTERM", begun.elapsed());
    jobs.check(&broker)?;
    workers.get_mut(0).stop()
}

/// A broker that is restarted in order, killed and frozen.
#[test]
fn a_broker_that_comes_back_finds_everything_going_on() -> Result<()> {
    let mut broker = KafkaBroker::start()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 2, quick())?;
    let mut jobs = Jobs::create(&workers, 2)?;
    broker.stop()?;
    jobs.more()?;
    // Reads are answered meanwhile.
    let names = workers.rest(0).get("/connectors")?.ok()?;
    assert_eq!(names.as_array().map(Vec::len), Some(4), "{names}");
    thread::sleep(Duration::from_secs(1));
    broker.restart()?;
    jobs.wait_delivered(&workers)?;
    broker.kill()?;
    jobs.more()?;
    // Longer than the session.
    thread::sleep(SESSION + Duration::from_secs(2));
    broker.restart()?;
    jobs.wait_delivered(&workers)?;
    broker.pause()?;
    jobs.more()?;
    thread::sleep(Duration::from_secs(2));
    broker.resume()?;
    jobs.wait_delivered(&workers)?;
    jobs.check(&broker)?;
    let all: Vec<String> = jobs.sources().into_iter().chain(jobs.sinks()).collect();
    workers.wait_running(0, &all)?;
    workers.rest(1).put(&format!("/connectors/{}/pause", all[0]), &Value::Null)?.ok()?;
    workers.stop()
}

/// One worker is cut off from the brokers, but not from users and the other worker.
#[test]
fn a_worker_that_is_cut_off_gives_up_its_tasks() -> Result<()> {
    let broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 1, quick())?;
    let options = quick();
    let mut cut = Workers::in_group(&workers.group.clone(), &broker.proxied_bootstrap(), 1, options)?;
    let mut jobs = Jobs::create(&workers, 3)?;
    wait::until("both to run something", wait::PATIENCE, || {
        let owners = workers.owners(0)?;
        Ok(owners.values().any(|owner| owner == cut.id(0)).then_some(()))
    })
    .map_err(|error| workers.with_logs(error.to_string()))?;
    broker.proxy().cut();
    jobs.more()?;
    wait::until("the one that is connected to run everything", wait::PATIENCE, || {
        let owners = workers.owners(0)?;
        Ok(owners.values().all(|owner| owner == workers.id(0)).then_some(()))
    })
    .map_err(|error| workers.with_logs(error.to_string()))?;
    jobs.wait_delivered(&workers)?;
    // It says so, and answers reads.
    wait::until("the worker to say that it is cut off", wait::PATIENCE, || {
        let health = cut.rest(0).get("/health")?;
        if health.status == 500 { Ok(Some(())) } else { Err(Error::new(health.body.to_string())) }
    })?;
    assert_eq!(cut.rest(0).get("/connectors")?.ok()?.as_array().map(Vec::len), Some(6));
    broker.proxy().resume();
    wait::until("the worker to be back", wait::PATIENCE, || {
        Ok((cut.rest(0).get("/health")?.status == 200).then_some(()))
    })?;
    jobs.more()?;
    jobs.wait_delivered(&workers)?;
    jobs.check(&broker)?;
    Owners::read(&broker, &workers.group)?.check()?;
    cut.stop()?;
    workers.stop()
}

/// Starting while Kafka is away: reads are answered, `/health` says what is missing, and nothing else is needed.
#[test]
fn a_worker_starts_while_kafka_is_away() -> Result<()> {
    let mut broker = KafkaBroker::start()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 1, quick())?;
    let name = format!("{}-in", workers.group);
    let config = json!({"connector.class": "GeneratorSource", "schema": "orders", "rate": "1", "topic": "t"});
    workers.rest(0).put_connector(&name, &config)?;
    workers.wait_running(0, std::slice::from_ref(&name))?;
    workers.get_mut(0).stop()?;
    broker.stop()?;
    workers.get_mut(0).spawn()?;
    let rest = workers.rest(0).clone();
    let health = wait::until("an answer", wait::PATIENCE, || rest.get("/health").map(Some))?;
    assert_eq!((health.status, &health.body["status"]), (503, &json!("starting")), "{}", health.body);
    assert_eq!(rest.get("/connectors")?.ok()?, json!([name]));
    assert_eq!(rest.get(&format!("/connectors/{name}/config"))?.ok()?["rate"], "1");
    let begun = Instant::now();
    let waiting = {
        let (rest, name) = (rest.clone(), name.clone());
        thread::spawn(move || rest.put(&format!("/connectors/{name}/pause"), &Value::Null))
    };
    thread::sleep(Duration::from_secs(1));
    broker.restart()?;
    // The request has waited.
    let answer = waiting.join().map_err(|_| "the request panicked")??;
    assert_eq!(answer.status, 202, "after {:?}: {}", begun.elapsed(), answer.body);
    workers.rest(0).wait_state(&name, "PAUSED")?;
    workers.stop()
}
