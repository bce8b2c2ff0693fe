//! Topics that sources make, and topics that connectors use: with the real Kafka Connect as the judge.
//!
//! On one broker, Connect and Tributary run the same source configs, each on topics of its own; then the topics are
//! compared: partitions, replicas, and the settings that differ from the broker's.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tributary_harness::{
    ConnectOptions, ConnectWorker, Error, KafkaBroker, Rest, Result, TributaryWorker, WorkerOptions, wait,
};

/// Groups, what they want, and names that they match or not. `SIDE` is `connect` or `tributary`.
fn cases() -> Vec<(&'static str, Value, &'static str)> {
    let base = |more: Value| {
        let mut config = json!({"default.partitions": "3", "default.replication.factor": "1"});
        config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        config
    };
    vec![
        ("plain", base(json!({})), "RUNNING"),
        ("settings", base(json!({"default.retention.ms": "123456", "default.segment.ms": "7654321"})), "RUNNING"),
        ("brokers-default", json!({"default.partitions": "-1", "default.replication.factor": "-1"}), "RUNNING"),
        (
            "state-a",
            base(json!({"groups": "state", "state.include": ".*-state-.*,other", "state.retention.bytes": "1234567"})),
            "RUNNING",
        ),
        (
            "state-tmp",
            base(
                json!({"groups": "state", "state.include": ".*-state-.*", "state.exclude": ".*tmp", "state.partitions": "5"}),
            ),
            "RUNNING",
        ),
        (
            "first",
            base(
                json!({"groups": "a, b", "a.include": ".*first", "a.partitions": "4", "b.include": ".*", "b.partitions": "6"}),
            ),
            "RUNNING",
        ),
        (
            "second",
            base(
                json!({"groups": "a, b", "a.include": "first", "a.partitions": "4", "b.include": ".*", "b.partitions": "6"}),
            ),
            "RUNNING",
        ),
        ("part-of-name", base(json!({"groups": "a", "a.include": "part", "a.partitions": "4"})), "RUNNING"),
        (
            "default-listed",
            base(json!({"groups": "default", "default.include": "nothing", "default.exclude": ".*"})),
            "RUNNING",
        ),
        ("nothing-included", base(json!({"groups": "a", "a.partitions": "4"})), "RUNNING"),
        ("there-already", base(json!({"default.retention.ms": "123456"})), "RUNNING"),
        ("unknown-setting", base(json!({"default.no.such.setting": "1"})), "FAILED"),
        ("wrong-setting", base(json!({"default.cleanup.policy": "sometimes"})), "FAILED"),
        ("too-many-replicas", json!({"default.partitions": "1", "default.replication.factor": "3"}), "FAILED"),
        ("none", json!({}), "RUNNING"),
    ]
}

#[test]
fn topics_are_made_as_connect_makes_them() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let connect = ConnectWorker::start_with(&broker, ConnectOptions::default().small())?;
    let tributary = TributaryWorker::start(&broker)?;
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("input");
    fs::write(&file, "a\nb\n")?;
    let sides = [("connect", connect.rest()), ("tributary", tributary.rest())];
    for (side, rest) in sides {
        for (case, creation, _) in cases() {
            if case == "there-already" {
                broker.create_topic(&format!("{side}-{case}"), 2, &[])?;
            }
            let mut config = source(&file, &format!("{side}-{case}"));
            for (key, value) in creation.as_object().into_iter().flatten() {
                config[format!("topic.creation.{key}")] = value.clone();
            }
            config["errors.restart.policy"] = json!("never");
            rest.put_connector(case, &config)?;
        }
    }
    let mut problems = Vec::new();
    for (case, _, state) in cases() {
        for (side, rest) in sides {
            task_state(rest, case, state)?;
            let topic = format!("{side}-{case}");
            if state == "RUNNING" {
                wait::until(&format!("{topic} to have records"), wait::PATIENCE, || {
                    Ok((broker.record_count(&topic).unwrap_or(0) >= 2).then_some(()))
                })?;
            }
        }
        let described = |side: &str| broker.describe_topic(&format!("{side}-{case}"));
        let (theirs, ours) = (described("connect")?, described("tributary")?);
        if theirs != ours {
            problems.push(format!("{case}: {ours:?} instead of {theirs:?}"));
        }
        // What the broker would do by itself is one partition.
        if state == "RUNNING" && !matches!(case, "none" | "brokers-default") {
            assert_ne!(theirs.as_ref().map(|topic| topic.partitions), Some(1), "{case} shows nothing");
        }
        if state == "FAILED" {
            let trace = tributary.rest().status(case)?["tasks"][0]["trace"].to_string();
            assert!(trace.contains("Task failed to create new topic"), "{trace}");
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::new(problems.join("\n"))) }
}

/// `topic.creation.enable=false` leaves topics to the broker; two tasks may want the same one; the embedded log has groups, too.
#[test]
fn not_at_all_at_once_and_without_kafka() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("input");
    fs::write(&file, "a\nb\n")?;
    let creating = |topic: &str| {
        let mut config = source(&file, topic);
        config["topic.creation.default.partitions"] = json!("7");
        config["topic.creation.default.replication.factor"] = json!("1");
        config
    };
    let broker = KafkaBroker::shared()?;
    let off = WorkerOptions::default().set("topic.creation.enable", "false");
    let worker = TributaryWorker::start_with(&broker.bootstrap(), off)?;
    worker.rest().put_connector("off", &creating("creation-off"))?;
    wait::until("records", wait::PATIENCE, || {
        Ok((broker.record_count("creation-off").unwrap_or(0) >= 2).then_some(()))
    })?;
    assert_eq!(broker.watermarks("creation-off")?.len(), 1);

    let worker = TributaryWorker::start(&broker)?;
    for number in 0..4 {
        worker.rest().put_connector(&format!("race-{number}"), &creating("creation-race"))?;
    }
    for number in 0..4 {
        worker.wait_running(&format!("race-{number}"))?;
    }
    wait::until("records of all", wait::PATIENCE, || {
        Ok((broker.record_count("creation-race").unwrap_or(0) >= 8).then_some(()))
    })?;
    assert_eq!(broker.watermarks("creation-race")?.len(), 7);

    let worker = TributaryWorker::start_embedded()?;
    worker.rest().put_connector("embedded", &creating("creation-embedded"))?;
    worker.wait_running("embedded")?;
    wait::until("the topic to be used", wait::PATIENCE, || {
        let topics = worker.rest().get("/connectors/embedded/topics")?.ok()?;
        Ok((topics["embedded"]["topics"] == json!(["creation-embedded"])).then_some(()))
    })?;
    let output = std::process::Command::new(tributary_harness::tributary::binary()?)
        .args(["topics", "--data-dir"])
        .arg(worker.dir().join("data"))
        .output()?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = listed.lines().find(|line| line.contains("creation-embedded")).unwrap_or_default();
    assert!(line.split_whitespace().any(|word| word == "7"), "not seven partitions: {listed}");
    Ok(())
}

/// `GET …/topics`: what is used, what is left after a reset, a restart and the connector's end.
#[test]
fn used_topics_are_tracked_as_connect_does() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let connect = ConnectWorker::start_with(&broker, ConnectOptions::default().small())?;
    let mut tributary = TributaryWorker::start(&broker)?;
    for (side, rest) in [("connect", connect.rest()), ("tributary", tributary.rest())] {
        let scratch = tempfile::tempdir()?;
        track(side, rest, scratch.path()).map_err(|error| Error::new(format!("{side}: {error}")))?;
    }
    // What was found before a restart of the worker is known after it.
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("input");
    fs::write(&file, "a\n")?;
    tributary.rest().put_connector("kept", &source(&file, "tracked-kept"))?;
    topics(tributary.rest(), "kept", &["tracked-kept"])?;
    tributary.stop()?;
    tributary.restart()?;
    topics(tributary.rest(), "kept", &["tracked-kept"])
}

fn track(side: &str, rest: &Rest, scratch: &Path) -> Result<()> {
    let (input, topic) = (scratch.join("input"), format!("tracked-{side}"));
    let mut lines = fs::File::create(&input)?;
    writeln!(lines, "a")?;
    rest.put_connector("source", &source(&input, &topic))?;
    let sink = json!({"connector.class": "FileStreamSink", "file": scratch.join("out"), "topics": format!("{topic},unused-{side}")});
    rest.put_connector("sink", &sink)?;
    topics(rest, "source", &[&topic])?;
    // Only what records came from.
    topics(rest, "sink", &[&topic])?;
    assert_eq!(rest.put("/connectors/source/topics/reset", &json!(null))?.status, 202);
    topics(rest, "source", &[])?;
    topics(rest, "sink", &[&topic])?;
    // Used again, known again.
    wait::until("the topic to be found again", wait::PATIENCE, || {
        writeln!(lines, "b")?;
        let answer = rest.get("/connectors/source/topics")?.ok()?;
        Ok((answer["source"]["topics"] == json!([topic])).then_some(()))
    })?;
    rest.post("/connectors/source/restart?includeTasks=true", &json!(null))?.ok()?;
    rest.wait_running("source")?;
    topics(rest, "source", &[&topic])?;
    // A connector of the same name begins anew.
    rest.delete_connector("source")?;
    wait::until("the connector to be gone", wait::PATIENCE, || {
        Ok((rest.get("/connectors/source/status")?.status == 404).then_some(()))
    })?;
    let empty = scratch.join("empty");
    fs::write(&empty, "")?;
    rest.put_connector("source", &source(&empty, &format!("{topic}-2")))?;
    rest.wait_running("source")?;
    topics(rest, "source", &[])
}

/// Waits until these are a connector's topics.
fn topics(rest: &Rest, connector: &str, expected: &[&str]) -> Result<()> {
    wait::until(&format!("{connector} to have the topics {expected:?}"), wait::PATIENCE, || {
        let answer = rest.get(&format!("/connectors/{connector}/topics"))?.ok()?;
        if answer[connector]["topics"] == json!(expected) { Ok(Some(())) } else { Err(Error::new(answer.to_string())) }
    })
}

fn source(file: &Path, topic: &str) -> Value {
    json!({"connector.class": "FileStreamSource", "file": file, "topic": topic})
}

/// Waits until a connector's task is in a state.
fn task_state(rest: &Rest, connector: &str, state: &str) -> Result<()> {
    wait::until(&format!("the task of {connector} to be {state}"), wait::PATIENCE, || {
        let status = rest.status(connector)?;
        if status["tasks"][0]["state"] == state { Ok(Some(())) } else { Err(Error::new(status.to_string())) }
    })
}
