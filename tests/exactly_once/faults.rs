//! Kills at any time, and brokers and networks that are away in the middle of a commit.

use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{BrokerOptions, KafkaBroker, Result, Seed};
use tributary_tests::{Log, outage};

use crate::support::Job;

/// Lines that are added before each fault.
const SHARE: u64 = 10_000;

fn boundary(seed: &mut Seed) -> serde_json::Value {
    let boundary = if seed.random_range(0..2) == 0 { "poll" } else { "interval" };
    json!({"transaction.boundary": boundary, "transaction.boundary.interval.ms": seed.random_range(5..80).to_string()})
}

#[test]
fn kills_on_kafka() -> Result<()> {
    kills(Log::kafka()?, Seed::announce("exactly once: kills on Kafka"))
}

#[test]
fn kills_on_the_embedded_log() -> Result<()> {
    kills(Log::Embedded, Seed::announce("exactly once: kills on the embedded log"))
}

fn kills(log: Log, mut seed: Seed) -> Result<()> {
    let broker = if let Log::Kafka(broker) = &log { Some(&**broker) } else { None };
    let mut job = Job::start(&log.bootstrap())?;
    job.create(boundary(&mut seed))?;
    for _ in 0..12 {
        job.more(SHARE)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..900)));
        job.worker.kill9()?;
        job.worker.spawn()?;
    }
    println!("{}", job.check(broker)?);
    job.worker.stop()
}

/// A broker that is restarted, killed or held, and a network that is cut, in the middle of transactions.
#[test]
fn outages() -> Result<()> {
    let mut seed = Seed::announce("exactly once: outages");
    let mut broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let mut job = Job::start(&broker.proxied_bootstrap())?;
    job.create(boundary(&mut seed))?;
    for round in 0..8 {
        job.more(SHARE)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..600)));
        let pause = Duration::from_millis(seed.random_range(200..4_000));
        outage(&mut broker, round + seed.value(), pause)?;
    }
    println!("{}", job.check(Some(&broker))?);
    job.worker.stop()
}
