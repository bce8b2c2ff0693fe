//! State of connectors that are deleted, or whose offsets are reset; what status and metrics tell of it.

use std::time::Duration;

use serde_json::{Value, json};
use tributary_harness::{KafkaBroker, Result, Seed, TributaryWorker, WorkerOptions, wait};

use crate::events::{Events, values};
use crate::rig::{PARTITIONS, Rig, unique};

fn count(broker: &KafkaBroker, topic: &str) -> Result<usize> {
    Ok(values(broker, topic)?.values().map(Vec::len).sum())
}

#[test]
fn state_is_kept_or_purged_as_asked() -> Result<()> {
    let mut seed = Seed::announce("the life cycle of state");
    let broker = KafkaBroker::shared()?;
    let group = unique("life");
    let options = WorkerOptions::default().set("group.id", &group).set("offset.flush.interval.ms", "200");
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let rig = Rig::new(&broker, "life", worker.dir())?;
    let mut events = Events::new(&broker, &rig.input)?;
    events.produce(2_000, &mut seed)?;
    events.finish(PARTITIONS)?;
    rig.create(worker.rest(), 1, &json!({}))?;
    rig.finished(worker.rest(), &broker)?;
    rig.check(&broker)?;
    let once = count(&broker, &rig.first)?;
    let rest = worker.rest();
    let name = rig.first.as_str();

    // Status and metrics tell of it.
    let status = rest.status(name)?;
    assert_eq!(status["tasks"][0]["progress"]["state"]["shards"], PARTITIONS, "{status}");
    let metrics = rest.get("/metrics")?.body.to_string();
    assert!(metrics.contains("tributary_task_state_entries_in_memory"), "{metrics}");

    // Deleted and created again: it goes on where it was.
    let delete = |query: &str| rest.delete(&format!("/connectors/{name}{query}"));
    assert_eq!(delete("")?.status, 204);
    let changelog = format!("{group}-{name}-changelog");
    assert!(broker.watermarks(&changelog).is_ok());
    rig.create(rest, 1, &json!({}))?;
    rig.finished(rest, &broker)?;
    assert_eq!(count(&broker, name)?, once);

    // Reset: offsets and state are gone, and everything is made again. The answer says so.
    rest.put(&format!("/connectors/{name}/stop"), &json!({}))?;
    let stopped = |status: &Value| status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([]);
    wait::until("the connector is stopped", wait::PATIENCE, || Ok(stopped(&rest.status(name)?).then_some(())))?;
    let answer = rest.delete(&format!("/connectors/{name}/offsets"))?;
    let said = answer.body.to_string();
    assert!(answer.status == 200 && said.contains("state of its transforms has been purged"), "{said}");
    assert!(!worker.dir().join("data/state").join(name).exists(), "the files are there");
    rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    let twice = wait::until("everything is written again", Duration::from_secs(120), || {
        let count = count(&broker, name)?;
        Ok((count >= 2 * once).then_some(count))
    });
    assert_eq!(twice.map_err(|error| worker.with_log(error.to_string()))?, 2 * once);
    rig.finished(rest, &broker)?;

    // Deleted with its state.
    let answer = delete("?purgeState=true")?;
    assert_eq!(answer.status, 204, "{}", answer.body);
    wait::until("the changelog is deleted", wait::PATIENCE, || {
        Ok(broker.watermarks(&changelog).is_err().then_some(()))
    })?;
    worker.stop()
}
