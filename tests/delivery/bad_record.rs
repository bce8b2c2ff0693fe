//! A record that cannot be converted stops its task, or is skipped, or goes to the dead letters, as configured.

use std::fs;

use serde_json::{Value, json};
use tributary_harness::checker::read_topic;
use tributary_harness::{Result, wait};
use tributary_tests::{FileJob, Log};

const GOOD: usize = 1000;
/// The line in the middle that is no JSON.
const BAD: &str = "{\"seq\": oops";

#[test]
fn stops_the_task_on_kafka() -> Result<()> {
    stops_the_task(&Log::kafka()?)
}

#[test]
fn stops_the_task_on_the_embedded_log() -> Result<()> {
    stops_the_task(&Log::Embedded)
}

#[test]
fn is_skipped_on_kafka() -> Result<()> {
    is_skipped(&Log::kafka()?)
}

#[test]
fn is_skipped_on_the_embedded_log() -> Result<()> {
    is_skipped(&Log::Embedded)
}

fn stops_the_task(log: &Log) -> Result<()> {
    let job = prepare(log, json!({"errors.restart.policy": "never"}))?;
    let status = wait::until("the sink's task to fail", wait::PATIENCE, || {
        let status = job.worker.rest().status(&job.sink())?;
        Ok((status["tasks"][0]["state"] == "FAILED").then_some(status))
    })?;
    let trace = status["tasks"][0]["trace"].as_str().unwrap_or_default().to_owned();
    // Who reads it can find the record.
    for part in [job.topic.as_str(), &(GOOD / 2).to_string()] {
        assert!(trace.contains(part), "no {part} in the trace: {trace}");
    }
    assert_eq!(status["connector"]["state"], "RUNNING");
    // What came before is delivered, what comes after is not.
    assert!(lines(&job)?.len() <= GOOD / 2);
    Ok(())
}

fn is_skipped(log: &Log) -> Result<()> {
    let job = prepare(log, json!({"errors.tolerance": "all", "errors.log.enable": "true"}))?;
    wait_for_the_good(&job)?;
    job.worker.wait_running(&job.sink())
}

#[test]
fn goes_to_the_dead_letters() -> Result<()> {
    let log = Log::kafka()?;
    let Log::Kafka(broker) = &log else { unreachable!("asked for Kafka") };
    let letters = format!("dead-letters-{}", std::process::id());
    let job = prepare(
        &log,
        json!({
            "errors.tolerance": "all",
            "errors.deadletterqueue.topic.name": letters,
            "errors.deadletterqueue.topic.replication.factor": "1",
            "errors.deadletterqueue.context.headers.enable": "true",
        }),
    )?;
    wait_for_the_good(&job)?;
    let found = wait::until("the dead letter", wait::PATIENCE, || {
        let mut found = Vec::new();
        read_topic(broker, &letters, |_, value| found.push(value.unwrap_or_default().to_vec()))?;
        Ok((!found.is_empty()).then_some(found))
    })?;
    assert_eq!(found, [BAD.as_bytes()]);
    Ok(())
}

/// A source of strings, and a sink that takes them for JSON.
fn prepare(log: &Log, sink: Value) -> Result<FileJob> {
    let job = FileJob::start(&log.bootstrap())?;
    let mut input: Vec<String> = (0..GOOD).map(|seq| format!("{{\"seq\":{seq}}}")).collect();
    input.insert(GOOD / 2, BAD.to_owned());
    fs::write(&job.input, input.join("\n") + "\n")?;
    job.create_source(json!({}))?;
    let mut config = json!({
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
    });
    if let (Value::Object(config), Value::Object(sink)) = (&mut config, sink) {
        config.extend(sink);
    }
    job.create_sink(config)?;
    Ok(job)
}

fn wait_for_the_good(job: &FileJob) -> Result<()> {
    wait::until("all good lines", wait::PATIENCE, || Ok((lines(job)?.len() == GOOD).then_some(())))
}

fn lines(job: &FileJob) -> Result<Vec<String>> {
    let text = fs::read_to_string(&job.output).unwrap_or_default();
    Ok(text.lines().map(String::from).collect())
}
