//! A registry that is away: tasks wait for it or are started again, and nothing is lost.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tributary_harness::{KafkaBroker, Result, SchemaRegistry, wait};

use super::{AVRO, converter, lines, merged, orders, schema_of, to_file, unique, values, worker};

const ORDERS: usize = 3000;

#[test]
fn a_registry_that_comes_back_finds_every_record() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut registry = SchemaRegistry::start()?;
    let worker = worker(&broker)?;
    let topic = unique("away");
    let (source, patient, hasty) = (format!("source-{topic}"), format!("patient-{topic}"), format!("hasty-{topic}"));
    let put = |name: &str, config: Value| worker.rest().put_connector(name, &config).map(drop);
    let avro = |more: Value| converter(AVRO, &registry.url(), more);
    let for_ever = json!({"errors.retry.timeout": "-1", "errors.retry.delay.max.ms": "500", "errors.tolerance": "all"});
    let source_config = merged(orders(&topic, ORDERS), avro(for_ever.clone()));
    let file = |name: &str| worker.dir().join(name);
    let patient_config = merged(to_file(&topic, &file(&patient)), avro(for_ever));
    // Fails each time, and is started again.
    let short =
        json!({"errors.tolerance": "all", "errors.restart.backoff.ms": "300", "errors.restart.max.backoff.ms": "600"});
    let hasty_config = merged(to_file(&topic, &file(&hasty)), avro(short));

    registry.kill9()?;
    put(&source, source_config)?;
    wait::until("the source to miss the registry", wait::PATIENCE, || {
        Ok(worker.log().contains("cannot be reached").then_some(()))
    })?;
    let status = worker.rest().status(&source)?;
    assert_eq!(status["tasks"][0]["state"], "RUNNING", "it waits: {status}");
    registry.restart()?;
    let found = values(&broker, &topic, ORDERS)?;
    assert_eq!(found.len(), ORDERS, "nothing twice");
    schema_of(&registry, &format!("{topic}-value"))?;

    registry.kill9()?;
    put(&patient, patient_config)?;
    put(&hasty, hasty_config)?;
    wait::until("the hasty one to fail", wait::PATIENCE, || {
        let status = worker.rest().status(&hasty)?;
        let trace = status["tasks"][0]["trace"].as_str().unwrap_or_default().to_owned();
        Ok((status["tasks"][0]["state"] == "FAILED" && trace.contains("cannot be reached")).then_some(()))
    })?;
    let status = worker.rest().status(&patient)?;
    assert_eq!(status["tasks"][0]["state"], "RUNNING", "it waits: {status}");
    for name in [&patient, &hasty] {
        assert_eq!(
            std::fs::read_to_string(file(name)).unwrap_or_default(),
            "",
            "{name}: nothing is skipped or made up"
        );
    }
    registry.restart()?;
    for name in [&patient, &hasty] {
        let lines = lines(&worker, name, &file(name), ORDERS)?;
        let ids: BTreeSet<_> = lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).map(|value| value["order_id"].to_string()))
            .collect::<Result<_, _>>()?;
        assert_eq!(ids.len(), ORDERS, "{name}");
    }
    Ok(())
}
