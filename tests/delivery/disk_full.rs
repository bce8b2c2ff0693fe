//! A sink that cannot write says so, commits nothing that is not written, and goes on when there is room.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use tributary_harness::{Checker, Limit, Lines, Result, WorkerOptions, wait};
use tributary_tests::{FileJob, Log};

#[test]
fn a_disk_fills_up_on_kafka() -> Result<()> {
    a_disk_fills_up(&Log::kafka()?)
}

#[test]
fn a_disk_fills_up_on_the_embedded_log() -> Result<()> {
    a_disk_fills_up(&Log::Embedded)
}

/// Half of the lines fit; then room is made, and nobody has to restart anything.
fn a_disk_fills_up(log: &Log) -> Result<()> {
    let lines = Lines::new(100_000);
    let disk = Limit::SmallDisk(lines.bytes() * 3 / 2);
    if !disk.is_possible() {
        println!("skipped: this process may not mount a disk");
        return Ok(());
    }
    let mut job = FileJob::start_with(&log.bootstrap(), WorkerOptions::default().limit(disk))?;
    let outside = job.worker.small_disk_from_outside()?;
    let ballast = outside.join("ballast");
    fs::write(&ballast, vec![0; usize::try_from(lines.bytes()).expect("fits into memory")])?;
    lines.write(&job.input)?;
    job.create_source(json!({}))?;
    job.create_sink(json!({"file": job.worker.small_disk().join("output")}))?;
    job.output = outside.join("output");

    job.wait_for_log("No space left on device")?;
    assert!(job.written() <= lines.bytes() / 2);
    assert_eq!(job.written() % 100, 0, "what did not fit is taken back to the last whole batch");
    fs::remove_file(ballast)?;
    job.wait_for(&lines)?;
    Checker::new([&lines]).file(&job.output)?.exactly_once()
}

#[test]
fn a_device_is_full_on_kafka() -> Result<()> {
    a_device_is_full(&Log::kafka()?)
}

#[test]
fn a_device_is_full_on_the_embedded_log() -> Result<()> {
    a_device_is_full(&Log::Embedded)
}

/// Every write to `/dev/full` fails as on a full disk, the first as well.
fn a_device_is_full(log: &Log) -> Result<()> {
    let job = FileJob::start(&log.bootstrap())?;
    let lines = Lines::new(10_000);
    lines.write(&job.input)?;
    symlink("/dev/full", &job.output)?;
    job.create_source(json!({}))?;
    job.create_sink(json!({}))?;
    job.wait_for_log("No space left on device")?;

    fs::remove_file(&job.output)?;
    // The device is still open, so the task has to open its file anew.
    job.restart_sink_task()?;
    job.wait_for(&lines)?;
    Checker::new([&lines]).file(&job.output)?.exactly_once()
}

/// A limit that falls within a line: the write that meets it gets half through.
#[test]
fn a_file_may_not_grow() -> Result<()> {
    let lines = Lines::new(200_000);
    let limit = lines.bytes() / 2 / 512 * 512;
    assert_ne!(limit % 100, 0, "the limit is to fall within a line");
    let log = Log::kafka()?;
    let options = WorkerOptions::default().limit(Limit::FileSize(limit));
    let job = FileJob::start_with(&log.bootstrap(), options)?;
    lines.write(&job.input)?;
    job.create_source(json!({}))?;
    // No waiting helps here, so the task fails.
    job.create_sink(json!({"errors.restart.policy": "never"}))?;
    let trace = wait::until("the sink's task to fail", wait::PATIENCE, || {
        let status = job.worker.rest().status(&job.sink())?;
        let task = &status["tasks"][0];
        Ok((task["state"] == "FAILED").then(|| task["trace"].as_str().unwrap_or_default().to_owned()))
    })?;
    assert!(trace.contains("File too large"), "{trace}");
    assert!(job.written() <= limit);

    job.worker.lift_file_size_limit()?;
    job.restart_sink_task()?;
    job.wait_for(&lines)?;
    Checker::new([&lines]).file(&job.output)?.exactly_once()
}
