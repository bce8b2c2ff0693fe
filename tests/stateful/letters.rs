//! Records that are refused, and those that come too late: where they go.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use tributary_harness::{Error, KafkaBroker, Result, TributaryWorker, WorkerOptions, wait};

use crate::events::values;
use crate::rig::unique;

fn produce(broker: &KafkaBroker, topic: &str, payloads: &[String]) -> Result<()> {
    let producer: BaseProducer = broker.client().create()?;
    for payload in payloads {
        producer.send(BaseRecord::<str, str>::to(topic).payload(payload)).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

fn all(broker: &KafkaBroker, topic: &str) -> Result<Vec<String>> {
    if broker.watermarks(topic).is_err() {
        return Ok(Vec::new());
    }
    Ok(values(broker, topic)?.into_values().flatten().collect())
}

fn worker(broker: &KafkaBroker) -> Result<TributaryWorker> {
    let options = WorkerOptions::default().set("group.id", &unique("letters")).set("offset.flush.interval.ms", "200");
    TributaryWorker::start_with(&broker.bootstrap(), options)
}

/// Waits until a topic has as many records, and a little for more.
fn settled(worker: &TributaryWorker, broker: &KafkaBroker, topic: &str, count: usize) -> Result<Vec<String>> {
    let found = wait::until(&format!("{count} records of {topic}"), wait::PATIENCE, || {
        let found = all(broker, topic)?.len();
        if found >= count { Ok(Some(())) } else { Err(Error::new(format!("{found} records"))) }
    });
    found.map_err(|error| worker.with_log(error.to_string()))?;
    std::thread::sleep(Duration::from_secs(2));
    all(broker, topic)
}

#[test]
fn what_the_cluster_refuses_is_left_out_of_the_transaction_and_kept() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut worker = worker(&broker)?;
    let [input, output, letters] = ["refused-in", "refused-out", "refused-letters"].map(unique);
    broker.create_topic(&input, 1, &[])?;
    broker.create_topic(&output, 1, &[("max.message.bytes", "2000")])?;
    let payloads = (0..60).map(|n| match n % 20 {
        7 => format!("{n}-{}", "x".repeat(4_000)),
        _ => format!("{n}-{}", "x".repeat(100)),
    });
    let payloads = payloads.collect::<Vec<_>>();
    produce(&broker, &input, &payloads)?;
    let config = json!({
        "connector.class": "KafkaSink", "topics": input, "topic": output, "transaction.interval.ms": 100,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "errors.tolerance": "all", "errors.deadletterqueue.topic.name": letters,
        "errors.deadletterqueue.topic.replication.factor": 1, "errors.deadletterqueue.context.headers.enable": true,
    });
    worker.rest().put_connector(&output, &config)?;
    let (large, small): (Vec<_>, Vec<_>) = payloads.into_iter().partition(|payload| payload.len() > 2_000);
    assert_eq!(settled(&worker, &broker, &output, small.len())?, small);
    assert_eq!(settled(&worker, &broker, &letters, large.len())?, large);
    worker.stop()
}

#[test]
fn late_records_of_a_sink_go_to_their_topic() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut worker = worker(&broker)?;
    let [input, late] = ["late-in", "late"].map(unique);
    broker.create_topic(&input, 1, &[])?;
    broker.create_topic(&late, 1, &[])?;
    let event = |id: i64, at: i64| format!(r#"{{"id":{id},"at":{at}}}"#);
    let payloads = [event(1, 1_700_000_000_000), event(2, 1_000), event(3, 1_700_000_000_001), event(4, 2_000)];
    produce(&broker, &input, &payloads)?;
    let file = worker.dir().join("kept");
    let config = json!({
        "connector.class": "FileStreamSink", "topics": input, "file": file,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
        "transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v.id",
        "transforms.once.eventtime.expr": "v.at", "transforms.once.ttl.ms": 60_000,
        "transforms.once.late.action": "route", "transforms.once.late.topic": late,
    });
    worker.rest().put_connector(&late, &config)?;
    assert_eq!(settled(&worker, &broker, &late, 2)?, [payloads[1].clone(), payloads[3].clone()]);
    let kept = std::fs::read_to_string(&file)?;
    assert_eq!(kept.lines().collect::<Vec<_>>(), [payloads[0].as_str(), payloads[2].as_str()]);
    let status = worker.rest().status(&late)?;
    assert_eq!(status["tasks"][0]["progress"]["records_late"], 2, "{status}");
    worker.stop()
}
