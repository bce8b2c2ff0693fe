//! The same bad records through Kafka Connect and through Tributary: the dead letters have to be the same, header by header,
//! and the log has to say the same.

use std::path::Path;
use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_harness::{ConnectOptions, ConnectWorker, KafkaBroker, Rest, Result, TributaryWorker, wait};

use crate::letters::{self, Letter};

const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";

/// A way to fail, and the config that leads there.
struct Case {
    name: &'static str,
    stage: &'static str,
    config: Value,
}

fn cases() -> Vec<Case> {
    let case = |name, stage, config| Case { name, stage, config };
    vec![
        case("value", "VALUE_CONVERTER", json!({"value.converter": JSON, "value.converter.schemas.enable": "false"})),
        case("envelope", "VALUE_CONVERTER", json!({"value.converter": JSON})),
        case("key", "KEY_CONVERTER", json!({"key.converter": "org.apache.kafka.connect.converters.LongConverter"})),
        // The first stage counts.
        case(
            "both",
            "KEY_CONVERTER",
            json!({
                "key.converter": "org.apache.kafka.connect.converters.IntegerConverter",
                "value.converter": JSON, "value.converter.schemas.enable": "false",
            }),
        ),
        case(
            "header",
            "HEADER_CONVERTER",
            json!({"header.converter": JSON, "header.converter.schemas.enable": "false"}),
        ),
        case(
            "transform",
            "TRANSFORMATION",
            json!({
                "transforms": "insert",
                "transforms.insert.type": "org.apache.kafka.connect.transforms.InsertField$Value",
                "transforms.insert.static.field": "f", "transforms.insert.static.value": "v",
            }),
        ),
    ]
}

#[test]
fn dead_letters_and_log_lines_are_those_of_kafka_connect() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let connect = ConnectWorker::start_with(&broker, ConnectOptions::default().small())?;
    let tributary = TributaryWorker::start(&broker)?;
    let topic = format!("bad-{}", std::process::id());
    broker.create_topic(&topic, 1, &[])?;
    produce(&broker, &topic)?;

    for case in cases() {
        let name = |worker: &str| format!("dlq-{worker}-{}-{}", case.name, std::process::id());
        for (worker, rest) in [("c", connect.rest()), ("t", tributary.rest())] {
            create(rest, tributary.dir(), &name(worker), &topic, &case.config)?;
        }
        let read = |worker: &str| {
            let what = format!("the letter of {} from {worker}", case.name);
            wait::until(&what, wait::PATIENCE, || Ok(letters::read(&broker, &name(worker))?.into_iter().next()))
                .map_err(|error| tributary.with_log(error.to_string()))
        };
        let (theirs, ours) = (read("c")?, read("t")?);
        println!("{}: {:?} / {:?}", case.name, theirs.context["exception.message"], ours.context["exception.message"]);
        assert_eq!(theirs.context["stage"], case.stage, "{}", case.name);
        assert_eq!(comparable(&ours), comparable(&theirs), "{}", case.name);
        assert_eq!((&ours.key, &ours.value, &ours.own), (&theirs.key, &theirs.value, &theirs.own));
        assert_eq!(ours.timestamp, theirs.timestamp);

        // Both say which record it was, but for the type of its timestamp.
        let line = |log: String, name: &str| {
            let begin = format!("Error encountered in task {name}-0. ");
            let line = log.lines().find_map(|line| line.split_once(&begin).map(|(_, rest)| rest.to_owned()));
            line.map(|line| {
                line.split(", timestampType")
                    .next()
                    .unwrap_or_default()
                    .split('}')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
        };
        let theirs = wait::until("Connect's log line", wait::PATIENCE, || Ok(line(connect.log(), &name("c"))))?;
        let ours = wait::until("our log line", wait::PATIENCE, || Ok(line(tributary.log(), &name("t"))))?;
        assert_eq!(ours, theirs, "{}", case.name);
    }
    Ok(())
}

/// Without `errors.log.include.messages` nothing that comes from a record is logged.
#[test]
fn nothing_of_a_record_is_logged_unless_asked() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let tributary = TributaryWorker::start(&broker)?;
    let topic = format!("secret-{}", std::process::id());
    broker.create_topic(&topic, 1, &[])?;
    produce(&broker, &topic)?;
    let name = format!("dlq-secret-{}", std::process::id());
    let config = json!({
        "value.converter": JSON, "value.converter.schemas.enable": "false", "errors.log.include.messages": "false",
    });
    create(tributary.rest(), tributary.dir(), &name, &topic, &config)?;
    let line = format!(
        "Error encountered in task {name}-0. Executing stage 'VALUE_CONVERTER' with class '{JSON}'. org.apache.kafka.connect.errors.DataException"
    );
    wait::until("the log line", wait::PATIENCE, || Ok(tributary.log().contains(&line).then_some(())))
        .map_err(|error| tributary.with_log(error.to_string()))?;
    for secret in ["hunter2", "{topic='"] {
        assert!(!tributary.log().contains(secret), "{secret} in the log");
    }
    Ok(())
}

/// One record that every case chokes on.
fn produce(broker: &KafkaBroker, topic: &str) -> Result<()> {
    let producer: BaseProducer = broker.client().create()?;
    let headers = OwnedHeaders::new()
        .insert(Header { key: "h", value: Some("hunter2") })
        .insert(Header { key: "h", value: None::<&str> });
    let record = BaseRecord::to(topic).key("abc").payload("hunter2 {").timestamp(1_764_000_000_000).headers(headers);
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}

fn create(rest: &Rest, dir: &Path, name: &str, topic: &str, more: &Value) -> Result<()> {
    let mut config = json!({
        "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
        "topics": topic,
        "file": dir.join(name),
        "errors.tolerance": "all",
        "errors.log.enable": "true",
        "errors.log.include.messages": "true",
        "errors.deadletterqueue.topic.name": name,
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
    });
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more.clone());
    }
    rest.put_connector(name, &config).map(drop)
}

/// All headers but the connector's name, which has to differ, the message, whose words may, and the frames of the stack.
fn comparable(letter: &Letter) -> Vec<(String, String)> {
    let differs = ["connector.name", "exception.message", "exception.stacktrace"];
    letter
        .context
        .iter()
        .map(|(name, value)| {
            let value = if differs.contains(&name.as_str()) { "(set)" } else { value };
            (name.clone(), value.to_owned())
        })
        .collect()
}
