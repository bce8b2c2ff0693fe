//! Offsets that users set: what becomes of the state.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_harness::{KafkaBroker, Rest, Result, TributaryWorker, WorkerOptions, wait};

use crate::events::{number, values};
use crate::rig::unique;

fn produce(broker: &KafkaBroker, topic: &str, count: usize) -> Result<()> {
    let producer: BaseProducer = broker.client().create()?;
    for n in 0..count {
        let payload = format!(r#"{{"id":{n},"user":"u"}}"#);
        producer.send(BaseRecord::to(topic).key("u").payload(&payload)).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

fn stopped(rest: &Rest, name: &str) -> Result<()> {
    rest.put(&format!("/connectors/{name}/stop"), &json!({}))?;
    let is = |status: &Value| status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([]);
    wait::until(&format!("{name} is stopped"), wait::PATIENCE, || Ok(is(&rest.status(name)?).then_some(())))
}

/// Waits until a connector has committed its input up to here.
fn at(rest: &Rest, name: &str, offset: i64) -> Result<()> {
    wait::until(&format!("{name} is at offset {offset}"), wait::PATIENCE, || {
        let offsets = rest.get(&format!("/connectors/{name}/offsets"))?.ok()?;
        Ok((offsets["offsets"][0]["offset"]["kafka_offset"] == offset).then_some(()))
    })
}

/// `PATCH` moves the input and leaves the state as it is; a reset empties both.
#[test]
fn set_offsets_keep_the_state_and_a_reset_empties_it() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let options = WorkerOptions::default().set("group.id", &unique("offsets")).set("offset.flush.interval.ms", "200");
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let rest = worker.rest();
    let [input, first, counts] = ["offsets-in", "offsets-first", "offsets-counts"].map(unique);
    for topic in [&input, &first, &counts] {
        broker.create_topic(topic, 1, &[])?;
    }
    produce(&broker, &input, 10)?;
    let config = |output: &str, more: Value| {
        let mut config = json!({
            "connector.class": "KafkaSink", "topics": input, "topic": output, "transaction.interval.ms": 100,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
            "transforms": "t",
        });
        crate::rig::extend(&mut config, &more);
        config
    };
    let once = json!({"transforms.t.type": "Deduplicate", "transforms.t.key": "v.id"});
    let count = json!({
        "transforms.t.type": "Aggregate", "transforms.t.key": "v.user", "transforms.t.window": "none",
        "transforms.t.emit": "change", "transforms.t.state.ttl.ms": -1, "transforms.t.aggs": "n:count()",
    });
    rest.put_connector(&first, &config(&first, once))?;
    rest.put_connector(&counts, &config(&counts, count))?;
    let of = |topic: &str| -> Result<Vec<String>> { Ok(values(&broker, topic)?.into_values().flatten().collect()) };
    let last = || -> Result<i64> { Ok(of(&counts)?.last().map_or(0, |value| number(value, "n"))) };
    let both = |expected_first: usize, expected_count: i64| -> Result<()> {
        let done = [&first, &counts].into_iter().try_for_each(|name| at(rest, name, 10));
        done.map_err(|error| worker.with_log(error.to_string()))?;
        assert_eq!((of(&first)?.len(), last()?), (expected_first, expected_count));
        Ok(())
    };
    both(10, 10)?;
    let back = json!({"offsets": [{"partition": {"kafka_topic": input, "kafka_partition": 0}, "offset": {"kafka_offset": 4}}]});
    for name in [&first, &counts] {
        stopped(rest, name)?;
        rest.patch(&format!("/connectors/{name}/offsets"), &back)?.ok()?;
        at(rest, name, 4)?;
        rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    }
    // Six records are read again: known to the one, counted once more by the other.
    both(10, 16)?;
    for name in [&first, &counts] {
        stopped(rest, name)?;
        rest.delete(&format!("/connectors/{name}/offsets"))?.ok()?;
        rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    }
    both(20, 10)?;
    worker.stop()
}
