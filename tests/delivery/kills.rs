//! A worker killed with SIGKILL at random points loses nothing and keeps the order of a partition.

use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use tributary_harness::{Checker, Lines, Result, Seed};
use tributary_tests::{FileJob, Log};

const KILLS: u64 = 20;
/// Lines that are added in each life of the worker.
const SHARE: u64 = 25_000;

#[test]
fn on_kafka() -> Result<()> {
    twenty_kills(&Log::kafka()?, Seed::announce("kills on Kafka"))
}

#[test]
fn on_the_embedded_log() -> Result<()> {
    twenty_kills(&Log::Embedded, Seed::announce("kills on the embedded log"))
}

fn twenty_kills(log: &Log, mut seed: Seed) -> Result<()> {
    let mut job = FileJob::start(&log.bootstrap())?;
    let lines = Lines::new((KILLS + 1) * SHARE);
    lines.clone().with_numbers(0..SHARE).write(&job.input)?;
    job.create_both()?;
    for life in 1..=KILLS {
        await_the_moment(&job, &mut seed);
        job.worker.kill9()?;
        lines.clone().with_numbers(life * SHARE..(life + 1) * SHARE).append(&job.input)?;
        job.worker.spawn()?;
    }
    job.wait_for(&lines)?;

    let report = Checker::new([&lines]).file(&job.output)?;
    println!("file: {report}");
    report.at_least_once()?;
    if let Log::Kafka(broker) = log {
        let report = Checker::new([&lines]).topic(broker, &job.topic)?;
        println!("topic: {report}");
        report.at_least_once()?;
        // Each crash sends the source back once, to its last commit. (In the file these multiply: a sink
        // that goes back meets the source's repetitions again.)
        assert!(report.rewinds <= KILLS, "{report}");
    }
    job.worker.stop()
}

/// One life in three ends while the worker is starting, the others at some point of the work.
fn await_the_moment(job: &FileJob, seed: &mut Seed) {
    if seed.random_range(0..3) == 0 {
        thread::sleep(Duration::from_millis(seed.random_range(0..300)));
        return;
    }
    let goal = job.written() + seed.random_range(0..SHARE * 100);
    // A worker on a busy machine may not get that far.
    let limit = Instant::now() + Duration::from_secs(5);
    while job.written() < goal && Instant::now() < limit {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(seed.random_range(0..30)));
}
