//! The job of `config/examples/orders`, as its files are: from a database to a dashboard's table and to alerts, while the worker and
//! the database are killed.

mod alerts;
mod job;

use std::thread;
use std::time::Duration;

use rand::Rng;
use tributary_harness::{Result, Seed};
use tributary_tests::Log;

use crate::job::Job;

/// How often something is killed.
const KILLS: u64 = 6;

#[test]
fn totals_and_alerts_are_right_on_the_embedded_log() -> Result<()> {
    kills(&Log::Embedded, "the orders' job on the embedded log")
}

#[test]
fn totals_and_alerts_are_right_on_kafka() -> Result<()> {
    kills(&Log::kafka()?, "the orders' job on Kafka")
}

fn kills(log: &Log, what: &str) -> Result<()> {
    let mut seed = Seed::announce(what);
    let mut job = Job::start(log)?;
    // Some orders are there before the connectors are.
    job.order(300, &mut seed)?;
    job.create_connectors()?;
    for round in 0..KILLS {
        for _ in 0..4 {
            job.order(seed.random_range(1..60), &mut seed)?;
            thread::sleep(Duration::from_millis(seed.random_range(0..150)));
        }
        if round % 3 == 1 {
            job.database.kill9()?;
            job.database.restart()?;
        } else {
            job.worker.kill9()?;
            job.order(20, &mut seed)?;
            job.worker.spawn()?;
        }
        job.order(20, &mut seed)?;
    }
    job.check_totals()?;
    job.check_alerts()?;
    // Once more behind all of it: right for a moment is not enough.
    job.order(1, &mut seed)?;
    job.check_totals()?;
    job.check_alerts()?;
    job.worker.stop()
}
