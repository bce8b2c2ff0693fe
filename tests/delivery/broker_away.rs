//! A broker that goes away in the middle, in order or not, is waited for.

use std::thread;
use std::time::Duration;

use tributary_harness::{Checker, KafkaBroker, Lines, Result};
use tributary_tests::FileJob;

const LINES: u64 = 1_000_000;

#[test]
fn stopped_and_killed_and_frozen() -> Result<()> {
    let mut broker = KafkaBroker::start()?;
    let job = FileJob::start(&broker.bootstrap())?;
    let lines = Lines::new(LINES);
    // The file grows with the work, so that the source too is still at it.
    let quarter = |n: u64| lines.clone().with_numbers(n * LINES / 4..(n + 1) * LINES / 4);
    quarter(0).write(&job.input)?;
    job.create_both()?;

    wait_until_written(&job, LINES / 8);
    quarter(1).append(&job.input)?;
    broker.stop()?;
    thread::sleep(Duration::from_secs(2));
    broker.restart()?;
    wait_until_written(&job, LINES * 3 / 8);
    quarter(2).append(&job.input)?;
    broker.kill()?;
    broker.restart()?;
    wait_until_written(&job, LINES * 5 / 8);
    quarter(3).append(&job.input)?;
    broker.pause()?;
    thread::sleep(Duration::from_secs(3));
    broker.resume()?;

    job.wait_for(&lines)?;
    for name in [job.source(), job.sink()] {
        job.worker.wait_running(&name)?;
    }
    let report = Checker::new([&lines]).topic(&broker, &job.topic)?;
    println!("topic: {report}");
    report.at_least_once()?;
    let report = Checker::new([&lines]).file(&job.output)?;
    println!("file: {report}");
    report.at_least_once()
}

/// Waits for so many lines, not for ever: what is missing in the end shows there.
fn wait_until_written(job: &FileJob, lines: u64) {
    for _ in 0..6000 {
        if job.written() >= lines * 100 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
