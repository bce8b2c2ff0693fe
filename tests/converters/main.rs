//! Converters with a schema registry: records through a real worker, registry and broker, judged by other programs.

mod away;
mod formats;
mod front;
mod reaching;

use std::process::Command;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_harness::checker::read_topic;
use tributary_harness::{Error, KafkaBroker, Python, Result, SchemaRegistry, TributaryWorker, WorkerOptions, wait};

const AVRO: &str = "io.confluent.connect.avro.AvroConverter";
const PROTOBUF: &str = "io.confluent.connect.protobuf.ProtobufConverter";
const JSON_SCHEMA: &str = "io.confluent.connect.json.JsonSchemaConverter";

/// A worker on the shared broker.
fn worker(broker: &KafkaBroker) -> Result<TributaryWorker> {
    let options = WorkerOptions::default().set("offset.flush.interval.ms", "200");
    TributaryWorker::start_with(&broker.bootstrap(), options)
}

/// A name that no other test on the shared broker has.
fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn merged(mut config: Value, more: Value) -> Value {
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

/// A converter for values.
fn converter(class: &str, url: &str, more: Value) -> Value {
    merged(json!({"value.converter": class, "value.converter.schema.registry.url": url}), more)
}

/// Generated orders, as structs.
fn orders(topic: &str, count: usize) -> Value {
    json!({"connector.class": "Generator", "topic": topic, "schema": "orders", "format": "structured",
        "seed": "7", "max.records": count.to_string(), "rate": "0"})
}

fn to_file(topic: &str, file: &std::path::Path) -> Value {
    json!({"connector.class": "FileStreamSink", "topics": topic, "file": file})
}

/// The values of a topic, once there are so many.
fn values(broker: &KafkaBroker, topic: &str, count: usize) -> Result<Vec<Vec<u8>>> {
    wait::until(&format!("{count} records in {topic}"), wait::PATIENCE, || {
        let mut values = Vec::new();
        read_topic(broker, topic, |_, value| values.push(value.unwrap_or_default().to_vec()))?;
        Ok((values.len() >= count).then_some(values))
    })
}

/// The lines of a file, once there are so many.
fn lines(worker: &TributaryWorker, connector: &str, file: &std::path::Path, count: usize) -> Result<Vec<String>> {
    let found = wait::until(&format!("{count} lines in {}", file.display()), wait::PATIENCE, || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        Ok((lines.len() >= count).then_some(lines))
    });
    found.map_err(|error| worker.with_log(format!("{error}; {:?}", worker.rest().status(connector))))
}

fn produce(broker: &KafkaBroker, topic: &str, values: &[Vec<u8>]) -> Result<()> {
    let producer: BaseProducer = broker.client().create()?;
    for value in values {
        let record = BaseRecord::<(), [u8]>::to(topic).payload(value);
        producer.send(record).map_err(|(error, _)| Error::new(error.to_string()))?;
    }
    Ok(producer.flush(wait::PATIENCE)?)
}

/// What the other side says; a line for each value.
fn judge(worker: &TributaryWorker, job: &Value) -> Result<Vec<String>> {
    let python = Python::with("decoders", include_str!("requirements.txt"))?;
    let file = worker.dir().join(format!("job-{}.json", job["id"]));
    std::fs::write(&file, job.to_string())?;
    let mut command: Command = python.command();
    let output = command.args(["-c", include_str!("judge.py")]).arg(&file).output()?;
    if !output.status.success() {
        return Err(Error::new(format!("the other side: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// The schema that a subject has, registered as its first version: id, type, text.
fn schema_of(registry: &SchemaRegistry, subject: &str) -> Result<Value> {
    let versions = registry.rest().get(&format!("/subjects/{subject}/versions"))?.ok()?;
    assert_eq!(versions, json!([1]), "once a schema, not once a record");
    registry.rest().get(&format!("/subjects/{subject}/versions/1"))?.ok()
}
