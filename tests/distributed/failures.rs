//! What may happen to workers and brokers: nothing is lost, each task has one owner, and REST comes back.

use std::thread;
use std::time::Duration;

use rand::Rng;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_harness::{KafkaBroker, Result, Seed, WorkerOptions, wait};
use tributary_tests::{SESSION, Workers};

use crate::jobs::{Jobs, Owners};

fn quick() -> WorkerOptions {
    let session = SESSION.as_millis().to_string();
    WorkerOptions::default().set("session.timeout.ms", &session).set("heartbeat.interval.ms", "1000")
}

/// kill -9 of the leader and of others, at moments that the seed decides; each comes back later.
#[test]
fn killed_workers_lose_nothing() -> Result<()> {
    let mut seed = Seed::announce("killed workers");
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 3, quick())?;
    let mut jobs = Jobs::create(&workers, 3)?;
    for round in 0..4 {
        jobs.more()?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1500)));
        let victim = if round == 0 { workers.leader()? } else { seed.random_range(0..3) };
        println!("round {round}: kill -9 of worker {victim}");
        workers.get_mut(victim).kill9()?;
        thread::sleep(Duration::from_millis(seed.random_range(0..3000)));
        jobs.more()?;
        let survivor = (victim + 1) % 3;
        // REST answers, and takes changes: they wait until the group has a leader again.
        workers
            .rest(survivor)
            .patch(
                &format!("/connectors/{}/config", jobs.sources()[0]),
                &json!({"batch.size": (500 + round).to_string()}),
            )?
            .ok()?;
        workers.get_mut(victim).restart()?;
    }
    jobs.wait_delivered(&workers)?;
    jobs.check(&broker)?;
    // By the statuses in the order in which they were written, no worker has reported what another one had.
    Owners::read(&broker, &workers.group)?.check()?;
    workers.stop()
}

/// A leader that is killed while it writes configs leaves nothing half-written.
#[test]
fn a_leader_killed_while_it_writes_leaves_whole_configs() -> Result<()> {
    let mut seed = Seed::announce("leaders killed while they write");
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 2, quick())?;
    let name = format!("{}-changing", workers.group);
    let topic = workers.group.clone();
    let config = |tasks: usize, version: usize| {
        json!({"connector.class": "GeneratorSource", "schema": "orders", "rate": "1", "topic": topic,
               "tasks.max": tasks.to_string(), "keys": (version + 1).to_string()})
    };
    workers.rest(0).put_connector(&name, &config(1, 0))?;
    workers.wait_running(0, std::slice::from_ref(&name))?;
    for version in 1..4 {
        let leader = workers.leader()?;
        let other = 1 - leader;
        let tasks = seed.random_range(1..6);
        let (rest, path, body) =
            (workers.rest(other).clone(), format!("/connectors/{name}/config"), config(tasks, version));
        let writing = thread::spawn(move || rest.put(&path, &body));
        thread::sleep(Duration::from_millis(seed.random_range(0..40)));
        workers.get_mut(leader).kill9()?;
        // A PUT may be repeated, and so it is, by the worker that was asked: it succeeds in the end.
        let answer = writing.join().map_err(|_| "the request panicked")??;
        assert!(answer.status == 200, "{} {}", answer.status, answer.body);
        workers.get_mut(leader).restart()?;
        let expected = tasks;
        wait::until("the tasks of the new config", wait::PATIENCE, || {
            let found = workers.rest(other).get(&format!("/connectors/{name}/tasks"))?.ok()?;
            let found = found.as_array().cloned().unwrap_or_default();
            let keys = (version + 1).to_string();
            let new = |task: &Value| task["config"]["keys"] == keys;
            Ok((found.len() == expected && found.iter().all(new)).then_some(()))
        })
        .map_err(|error| workers.with_logs(error.to_string()))?;
        workers.wait_running(other, std::slice::from_ref(&name))?;
    }
    workers.stop()
}

/// What a worker that stood still had queued, and sends after another one has taken over.
#[test]
fn a_late_status_of_a_former_owner_is_put_right() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 2, quick())?;
    let jobs = Jobs::create(&workers, 1)?;
    let task = format!("{}-0", jobs.sources()[0]);
    let topic = format!("{}-status", workers.group);
    let late = json!({"state": "RUNNING", "trace": null, "worker_id": "127.0.0.1:1", "generation": 0, "version": null});
    // Into the partition where the workers write it.
    let producer: BaseProducer = broker.client().set("partitioner", "murmur2_random").create()?;
    let (key, value) = (format!("status-task-{task}"), late.to_string());
    producer.send(BaseRecord::to(&topic).key(&key).payload(&value)).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(30))?;
    wait::until("the owner to report again", wait::PATIENCE, || {
        let owners = Owners::read(&broker, &workers.group)?;
        let there = owners.reports_by(&task, "127.0.0.1:1") == 1;
        Ok((there && owners.last_worker(&task)? != "127.0.0.1:1").then_some(()))
    })
    .map_err(|error| workers.with_logs(error.to_string()))?;
    Owners::read(&broker, &workers.group)?.check()?;
    workers.stop()
}
