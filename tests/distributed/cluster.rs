//! A cluster of three brokers: any one of them may go, whatever it is for the group.

use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::Value;
use tributary_harness::{BrokerOptions, Context, KafkaCluster, Result, Seed, WorkerOptions, wait};
use tributary_tests::{SESSION, Workers};

use crate::jobs::{Jobs, Owners};

/// The broker that a worker's log names as the group's coordinator last.
fn coordinator(workers: &Workers, cluster: &KafkaCluster) -> Result<usize> {
    let log = workers.get(0).log();
    let line = log.lines().rev().find(|line| line.contains("the group's coordinator is ")).context("no coordinator")?;
    let found = cluster.brokers.iter().position(|broker| line.contains(&broker.bootstrap()));
    found.context(format_args!("no broker of this cluster: {line}"))
}

/// The coordinator of the group is killed, and another broker later: nothing is lost, and the membership outlives both.
#[test]
fn one_broker_of_three_may_go() -> Result<()> {
    let mut seed = Seed::announce("one broker of three");
    let mut cluster = KafkaCluster::start(3, BrokerOptions::default())?;
    let session = (2 * SESSION).as_millis().to_string();
    // Sinks that are parked lose coordinators and leaders, too.
    let mut options = WorkerOptions::default().set("session.timeout.ms", &session).set("sink.parking.delay.ms", "300");
    for store in ["config", "offset", "status"] {
        options = options.set(&format!("{store}.storage.replication.factor"), "3");
    }
    let mut workers = Workers::start_with(&cluster.bootstrap(), 2, options)?;
    let mut jobs = Jobs::create(&workers, 2)?;
    let all: Vec<String> = jobs.sources().into_iter().chain(jobs.sinks()).collect();
    for round in 0..2 {
        let victim = if round == 0 { coordinator(&workers, &cluster)? } else { seed.random_range(0..3) };
        println!("round {round}: kill -9 of broker {victim}");
        cluster.brokers[victim].kill()?;
        jobs.more()?;
        thread::sleep(Duration::from_millis(seed.random_range(0..2000)));
        jobs.more()?;
        jobs.wait_delivered(&workers)?;
        // Changes are taken, whichever broker is missing.
        for (worker, change) in [(0, "pause"), (1, "resume")] {
            let path = format!("/connectors/{}/{change}", jobs.sources()[0]);
            let answer = workers.rest(worker).put(&path, &Value::Null)?;
            if answer.status != 202 {
                return Err(workers.with_logs(format!("{path}: {} {}", answer.status, answer.body)));
            }
        }
        workers.wait_running(1, &all)?;
        cluster.brokers[victim].restart()?;
        // The next one may go when this one has what the others have.
        wait::until("all replicas", wait::PATIENCE, || cluster.in_sync(&format!("{}-offset", workers.group)))?;
    }
    jobs.more()?;
    jobs.wait_delivered(&workers)?;
    jobs.check(&cluster.brokers[0])?;
    Owners::read(&cluster.brokers[0], &workers.group)?.check()?;
    workers.stop()
}
