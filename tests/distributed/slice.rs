//! One worker of a group, from a file to a topic to a file, over a crash and a restart.

use std::fs;

use serde_json::{Value, json};
use tributary_harness::{Checker, KafkaBroker, Lines, Result, wait};
use tributary_tests::Workers;

#[test]
fn a_worker_keeps_everything_in_topics() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start(&broker.bootstrap(), 1)?;
    let dir = workers.get(0).dir().to_owned();
    let (input, output, topic) = (dir.join("input"), dir.join("output"), format!("{}-lines", workers.group));
    let (source, sink) = (format!("{}-in", workers.group), format!("{}-out", workers.group));
    let lines = Lines::new(20_000);
    lines.clone().with_numbers(0..10_000).write(&input)?;

    let rest = workers.rest(0).clone();
    let created = rest.post(
        "/connectors",
        &json!({"name": source, "config": {"connector.class": "FileStreamSource", "file": input, "topic": topic}}),
    )?;
    assert_eq!(created.status, 201, "{}", created.body);
    rest.put_connector(&sink, &json!({"connector.class": "FileStreamSink", "file": output, "topics": topic}))?;
    workers.wait_running(0, &[source.clone(), sink.clone()])?;
    let again = rest.post(
        "/connectors",
        &json!({"name": source, "config": {"connector.class": "FileStreamSource", "topic": "x"}}),
    )?;
    assert_eq!(again.status, 409, "{}", again.body);
    let written = || fs::metadata(&output).map_or(0, |file| file.len());
    wait::until("the first half", wait::PATIENCE, || Ok((written() >= lines.bytes() / 2).then_some(())))?;

    workers.get_mut(0).kill9()?;
    lines.clone().with_numbers(10_000..15_000).append(&input)?;
    workers.get_mut(0).restart()?;
    workers.wait_running(0, &[source.clone(), sink.clone()])?;
    wait::until("three quarters", wait::PATIENCE, || Ok((written() >= lines.bytes() * 3 / 4).then_some(())))?;
    workers.get_mut(0).stop()?;
    lines.clone().with_numbers(15_000..20_000).append(&input)?;
    workers.get_mut(0).restart()?;
    workers.wait_running(0, &[source.clone(), sink.clone()])?;

    let mut last = lines.last().ok_or("no lines")?;
    last.push(b'\n');
    wait::until("the last line", wait::PATIENCE, || Ok(fs::read(&output)?.ends_with(&last).then_some(())))?;
    Checker::new([&lines]).file(&output)?.at_least_once()?;
    Checker::new([&lines]).topic(&broker, &topic)?.at_least_once()?;

    // A change of one config, a pause, and the end.
    rest.patch(&format!("/connectors/{sink}/config"), &json!({"tasks.max": "2"}))?.ok()?;
    wait::until("a second task", wait::PATIENCE, || {
        let tasks = rest.get(&format!("/connectors/{sink}/tasks"))?.ok()?;
        Ok((tasks.as_array().map(Vec::len) == Some(2)).then_some(()))
    })?;
    rest.put(&format!("/connectors/{source}/pause"), &Value::Null)?.ok()?;
    rest.wait_state(&source, "PAUSED")?;
    rest.put(&format!("/connectors/{source}/resume"), &Value::Null)?.ok()?;
    rest.wait_state(&source, "RUNNING")?;
    rest.put(&format!("/connectors/{source}/stop"), &Value::Null)?.ok()?;
    wait::until("the source to be STOPPED", wait::PATIENCE, || {
        let status = rest.status(&source)?;
        Ok((status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([])).then_some(()))
    })?;
    let offsets = rest.get(&format!("/connectors/{source}/offsets"))?.ok()?;
    assert_eq!(offsets["offsets"][0]["offset"]["position"], lines.bytes(), "{offsets}");
    rest.delete(&format!("/connectors/{source}/offsets"))?.ok()?;
    assert_eq!(rest.get(&format!("/connectors/{source}/offsets"))?.ok()?["offsets"], json!([]));
    rest.delete_connector(&source)?;
    rest.delete_connector(&sink)?;
    wait::until("nothing to be left", wait::PATIENCE, || {
        Ok((rest.get("/connectors")?.ok()? == json!([])).then_some(()))
    })?;
    workers.stop()
}
