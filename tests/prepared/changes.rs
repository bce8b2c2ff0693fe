//! Users who stop the connector and change its offsets, the embedded log, and what is refused.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tributary_harness::{Error, KafkaBroker, Rest, Result, TributaryWorker, WorkerOptions, tributary, wait};

use crate::rig::{Rig, options, unique};

fn stopped(rest: &Rest, name: &str) -> Result<()> {
    rest.put(&format!("/connectors/{name}/stop"), &json!({}))?.ok()?;
    let is = |status: &Value| status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([]);
    wait::until(&format!("{name} is stopped"), wait::PATIENCE, || Ok(is(&rest.status(name)?).then_some(())))
}

/// Dies when the group carries a token and the store has not committed it, and comes back with the connector stopped.
fn die_with_a_token(worker: &mut TributaryWorker, place: &Path, rig: &mut Rig, broker: &KafkaBroker) -> Result<()> {
    let away = rig.folder.join("away");
    std::fs::write(place, "after-group-commit:1")?;
    worker.spawn()?;
    rig.produce(broker, 300)?;
    let died = wait::until("the death after a commit", wait::PATIENCE, || Ok((!worker.is_running()).then_some(())));
    died.map_err(|error| worker.with_log(error.to_string()))?;
    worker.kill9()?;
    std::fs::write(place, "")?;
    // Its task cannot commit it either, before it is stopped.
    std::fs::write(&away, "")?;
    worker.restart()?;
    stopped(worker.rest(), &rig.name)?;
    let prepared = rig.folder.join("prepared");
    if std::fs::read_dir(&prepared)?.next().is_none() {
        return Err(worker.with_log("nothing is prepared"));
    }
    Ok(())
}

#[test]
fn changed_offsets_lose_no_token() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let (plugins, dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let place = dir.path().join("fail-point");
    std::fs::write(&place, "")?;
    let options = options(&plugins)?
        .set("group.id", &unique("prepared"))
        .env("TRIBUTARY_TEST_FAIL_POINT", &format!("@{}", place.display()));
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let mut rig = Rig::on(&broker, "changes")?;
    rig.create(worker.rest(), 1)?;
    rig.produce(&broker, 600)?;
    rig.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.kill9()?;
    let path = format!("/connectors/{}/offsets", rig.name);
    let away = rig.folder.join("away");

    // Offsets that stay as they are: what is prepared up to them has to be there.
    die_with_a_token(&mut worker, &place, &mut rig, &broker)?;
    let offsets = worker.rest().get(&path)?.ok()?;
    let refused = worker.rest().patch(&path, &offsets)?;
    let text = refused.body.to_string();
    if refused.status == 200 || !text.contains("the store is away") || worker.rest().get(&path)?.ok()? != offsets {
        return Err(
            worker.with_log(format!("what is not committed cannot be passed over, and that was not refused: {text}"))
        );
    }
    std::fs::remove_file(&away)?;
    worker.rest().patch(&path, &offsets)?.ok()?;
    rig.store()?;
    worker.rest().put(&format!("/connectors/{}/resume", rig.name), &json!({}))?.ok()?;
    rig.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.kill9()?;

    // A reset: everything comes again, and what was prepared is there, too.
    die_with_a_token(&mut worker, &place, &mut rig, &broker)?;
    std::fs::remove_file(&away)?;
    worker.rest().delete(&path)?.ok()?;
    let before = rig.lines()?;
    let lines = |count| (0..count).map(|number| format!("record {number}"));
    worker.rest().put(&format!("/connectors/{}/resume", rig.name), &json!({}))?.ok()?;
    let expected = before.into_iter().chain(lines(rig.count)).collect();
    rig.check_against(worker.rest(), expected).map_err(|error| worker.with_log(error.to_string()))?;
    if !rig.store()?.prepared().map_err(|error| Error::new(error.to_string()))?.is_empty() {
        return Err(worker.with_log("something is still prepared"));
    }
    worker.stop()
}

/// The embedded log keeps tokens with offsets, too.
#[test]
fn on_the_embedded_log() -> Result<()> {
    let plugins = tempfile::tempdir()?;
    let mut worker = TributaryWorker::start_with("embedded", options(&plugins)?)?;
    let mut rig = Rig::new("embedded")?;
    let data = worker.dir().join("data");
    let produce = |rig: &mut Rig, count: usize| {
        let lines: String = (rig.count..rig.count + count).map(|number| format!("record {number}\n")).collect();
        rig.count += count;
        let file = rig.folder.with_extension("in");
        std::fs::write(&file, lines)?;
        let input = std::fs::File::open(&file)?;
        let mut command = Command::new(tributary::binary()?);
        let output = command.args(["produce", &rig.topic, "--data-dir"]).arg(&data).stdin(input).output()?;
        if output.status.success() { Ok(()) } else { Err(Error::new(String::from_utf8_lossy(&output.stderr))) }
    };
    produce(&mut rig, 100)?;
    rig.create(worker.rest(), 1)?;
    for _ in 0..4 {
        produce(&mut rig, 500)?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        worker.kill9()?;
        worker.spawn()?;
    }
    let expected = (0..rig.count).map(|number| format!("record {number}")).collect();
    rig.check_against(worker.rest(), expected).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Behind transforms that keep state it is refused, with what to do instead.
#[test]
fn behind_state_it_is_refused() -> Result<()> {
    let plugins = tempfile::tempdir()?;
    let mut worker = TributaryWorker::start_with(
        "embedded",
        WorkerOptions::default().set("group.id", "g").set("plugin.path", &{
            options(&plugins)?;
            plugins.path().display().to_string()
        }),
    )?;
    let rig = Rig::new("state")?;
    let more = json!({"transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v"});
    let answer = worker.rest().put(&format!("/connectors/{}/config", rig.name), &rig.config(1, &more))?;
    let text = answer.body.to_string();
    if answer.status != 400 || !text.contains("prepares its transactions") || !text.contains("KafkaSink") {
        return Err(worker.with_log(format!("{} {text}", answer.status)));
    }
    worker.stop()
}
