//! In peace the copy is the same to the byte.

use tributary_harness::checker::same_bytes;
use tributary_harness::{Checker, Lines, Result};
use tributary_tests::{FileJob, Log};

#[test]
fn on_kafka() -> Result<()> {
    a_million_lines(&Log::kafka()?)
}

#[test]
fn on_the_embedded_log() -> Result<()> {
    a_million_lines(&Log::Embedded)
}

fn a_million_lines(log: &Log) -> Result<()> {
    let mut job = FileJob::start(&log.bootstrap())?;
    let lines = Lines::new(1_000_000);
    lines.write(&job.input)?;
    job.create_both()?;
    job.wait_for(&lines)?;
    same_bytes(&job.input, &job.output)?;
    job.worker.stop()?;
    // Stopping adds nothing.
    same_bytes(&job.input, &job.output)?;
    if let Log::Kafka(broker) = log {
        Checker::new([&lines]).topic(broker, &job.topic)?.exactly_once()?;
    }
    // After an orderly stop, all offsets are committed: the next start repeats nothing.
    lines.with_numbers(1_000_000..1_000_100).append(&job.input)?;
    job.worker.restart()?;
    let all = Lines::new(1_000_100);
    job.wait_for(&all)?;
    same_bytes(&job.input, &job.output)
}
