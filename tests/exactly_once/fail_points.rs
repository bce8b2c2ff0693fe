//! A worker that dies between every two steps of the commit loop.

use rand::Rng;
use serde_json::json;
use tributary_harness::{Result, Seed, wait};
use tributary_tests::{COMMIT_STEPS, Log};

use crate::support::Job;

/// Lines that are added in each life.
const SHARE: u64 = 4_000;

#[test]
fn on_kafka() -> Result<()> {
    dies_everywhere(Log::kafka()?, Seed::announce("fail points on Kafka"))
}

#[test]
fn on_the_embedded_log() -> Result<()> {
    dies_everywhere(Log::Embedded, Seed::announce("fail points on the embedded log"))
}

fn dies_everywhere(log: Log, mut seed: Seed) -> Result<()> {
    let broker = if let Log::Kafka(broker) = &log { Some(&**broker) } else { None };
    let mut job = Job::start(&log.bootstrap())?;
    job.create(json!({}))?;
    for boundary in ["poll", "interval"] {
        job.more(SHARE)?;
        job.create(json!({"transaction.boundary": boundary, "transaction.boundary.interval.ms": "20"}))?;
        job.worker.wait_running(&job.name)?;
        job.worker.stop()?;
        for side in ["before", "after"] {
            for step in COMMIT_STEPS {
                job.more(SHARE)?;
                // In one life there may be a single transaction that ends by the clock, and there is a single start.
                let count = if step == "init" || boundary == "interval" { 1 } else { seed.random_range(1..4) };
                let place = format!("{side}-{step}:{count}");
                job.die_at(&place)?;
                job.worker.spawn()?;
                let (worker, what) = (&mut job.worker, format!("the death {place}"));
                let died = wait::until(&what, wait::PATIENCE, || Ok((!worker.is_running()).then_some(())));
                died.map_err(|error| job.worker.with_log(error.to_string()))?;
                job.worker.kill9()?;
            }
        }
        job.die_at("")?;
        job.worker.restart()?;
        println!("{boundary}: {}", job.check(broker)?);
    }
    job.worker.stop()
}
