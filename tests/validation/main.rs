//! Validation of connector configs, with the real Kafka Connect as the judge.
//!
//! Each case is a config, as data in `cases/`. Both workers validate it, and what Connect answers Tributary has to answer:
//! the count, the headings, every key in its place with its definition and value, and every message. Where there are errors,
//! both are asked to create the connector, too. Tributary may know more keys, and more classes to recommend.

mod answer;
mod case;

use serde_json::json;
use tributary_harness::{ConnectOptions, ConnectWorker, Error, KafkaBroker, Result, TributaryWorker, WorkerOptions};

use case::{Case, Side};

#[test]
fn answers_are_those_of_connect() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let connect = ConnectWorker::start_with(&broker, ConnectOptions::default().small())?;
    let options = WorkerOptions::default().set("group.id", "connect-judged");
    let tributary = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let port = connect.rest().base().rsplit(':').next().unwrap_or_default().to_owned();
    let theirs = Side::new(connect.rest(), &format!("connect-{port}"))?;
    let ours = Side::new(tributary.rest(), "connect-judged")?;

    let mut problems = Vec::new();
    for case in Case::all()? {
        problems.extend(case.judge(&theirs, &ours)?.into_iter().map(|problem| format!("{}: {problem}", case.title)));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("{} answers differ:\n{}", problems.len(), problems.join("\n"))))
}

/// What Connect has no words for.
#[test]
fn unknown_keys_are_warnings_and_references_stay_unread() -> Result<()> {
    let secret = tempfile::tempdir()?;
    let file = secret.path().join("s.properties");
    std::fs::write(&file, "number=3\nword=hush-hush\n")?;
    let options = WorkerOptions::default()
        .set("config.providers", "file")
        .set("config.providers.file.class", "org.apache.kafka.common.config.provider.FileConfigProvider");
    let worker = TributaryWorker::start_with("embedded", options)?;
    let reference = |key: &str| format!("${{file:{}:{key}}}", file.display());
    let validate = |more: serde_json::Value| -> Result<serde_json::Value> {
        let mut config = json!({"name": "c", "connector.class": "FileStreamSource", "topic": "t", "file": "/tmp/x"});
        config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        worker.rest().put("/connector-plugins/FileStreamSource/config/validate", &config)?.ok()
    };
    let warnings = |body: &serde_json::Value| -> Vec<String> {
        let list = body["warnings"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|warning| Some(warning["message"].as_str()?.to_owned())).collect()
    };
    for (more, expected) in [
        (json!({}), None),
        (json!({"task.max": "3"}), Some("task.max is not known and has no effect; did you mean tasks.max?")),
        (json!({"nobody.knows.it": "3"}), Some("nobody.knows.it is not known and has no effect")),
        (
            json!({"state.standby.replicas": "1"}),
            Some("state.standby.replicas has no effect: none of the transforms keeps state"),
        ),
        (json!({"producer.override.linger": "3"}), None),
        (
            json!({"producer.override.lingers.ms": "3"}),
            Some(
                "producer.override.lingers.ms is not known and has no effect; did you mean producer.override.linger.ms?",
            ),
        ),
        (
            json!({"consumer.override.max.poll.records": "3"}),
            Some("consumer.override.max.poll.records has no effect: this source has no such client"),
        ),
        (
            json!({"value.converter.schemas.enable": "false"}),
            Some(
                "value.converter.schemas.enable has no effect without value.converter: the worker's converter has the worker's settings",
            ),
        ),
        (
            json!({"value.converter": "JsonConverter", "value.converter.schema.enable": "false"}),
            Some(
                "value.converter.schema.enable is not known and has no effect; did you mean value.converter.schemas.enable?",
            ),
        ),
        (
            json!({"transforms": "route", "transforms.route.type": "RegexRouter", "transforms.route.regex": "a", "transforms.route.replacment": "b", "transforms.route.replacement": "b"}),
            Some(
                "transforms.route.replacment is not known and has no effect; did you mean transforms.route.replacement?",
            ),
        ),
        (
            json!({"transforms": "route", "transforms.route.type": "TimestampRouter", "transforms.rout.topic.format": "b"}),
            Some(
                "transforms.rout.topic.format has no effect: transforms names no transform rout; did you mean transforms.route.topic.format?",
            ),
        ),
        (
            json!({"topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1", "topic.creation.big.partitions": "9", "topic.creation.default.retention.ms": "1"}),
            Some("topic.creation.big.partitions has no effect: topic.creation.groups names no group big"),
        ),
    ] {
        let body = validate(more.clone())?;
        assert_eq!(body["error_count"], 0, "{more}: {body}");
        assert_eq!(warnings(&body), expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{more}");
    }
    let (answer, log) = (
        worker.rest().post(
            "/connectors",
            &json!({"name": "warned", "config": {"connector.class": "FileStreamSource", "topic": "t", "file": "/tmp/none", "task.max": "1"}}),
        )?,
        || worker.log(),
    );
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(log().contains("task.max is not known and has no effect; did you mean tasks.max?"), "{}", log());

    // A reference is checked by what it leads to, and shown as it stands.
    let right = validate(json!({"tasks.max": reference("number")}))?;
    assert_eq!(right["error_count"], 0, "{right}");
    assert!(right.to_string().contains(&reference("number")), "{right}");
    let wrong = validate(json!({"tasks.max": reference("word")}))?;
    let message = format!("Invalid value {} for configuration tasks.max: Not a number of type INT", reference("word"));
    assert!(wrong.to_string().contains(&message), "{wrong}");
    assert!(!wrong.to_string().contains("hush-hush"), "{wrong}");
    let nowhere = validate(json!({"topic": reference("none")}))?;
    assert_eq!(nowhere["error_count"], 1, "{nowhere}");
    assert!(nowhere.to_string().contains("leads nowhere: the file has no key none"), "{nowhere}");
    Ok(())
}
