//! Chains of the transforms that Kafka Connect lacks, in whole workers: what they make of records, and where those go that they refuse.

use std::fs;

use serde_json::{Value, json};
use tributary_harness::{Error, Result, wait};
use tributary_tests::{FileJob, Log};

use crate::letters::{self, Letter};

const LETTERS: usize = 2;

fn tolerant(letters: &str) -> Value {
    json!({
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": letters,
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
    })
}

fn with(mut config: Value, more: Value) -> Value {
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

/// The letters of a topic by the class of the transform that refused the record, with its reason.
fn reasons(letters: &[Letter]) -> Vec<(String, String, String)> {
    let context = |letter: &Letter, name: &str| letter.context.get(name).cloned().unwrap_or_default();
    let mut reasons: Vec<_> = letters
        .iter()
        .map(|letter| {
            let value = String::from_utf8_lossy(letter.value.as_deref().unwrap_or_default()).into_owned();
            (context(letter, "class.name"), context(letter, "exception.message"), value)
        })
        .collect();
    reasons.sort();
    reasons
}

#[test]
fn of_a_source() -> Result<()> {
    let Log::Kafka(broker) = Log::kafka()? else { return Err(Error::new("not Kafka")) };
    let job = FileJob::start(&broker.bootstrap())?;
    let letters = format!("{}-letters", job.topic);
    let lines = [
        r#"{"id":1,"phone":"+49 (30) 123","items":[{"n":7,"qty":2},{"n":2,"qty":0},{"n":3,"qty":1}]}"#,
        r#"{"id":2, oops"#,
        r#"{"id":"x","items":[]}"#,
        r#"{"id":4,"phone":null,"items":[]}"#,
        r#"{"id":5,"phone":"555-555-1","items":[{"n":1,"qty":10}]}"#,
    ];
    fs::write(&job.input, lines.join("\n") + "\n")?;
    job.create_source(with(
        tolerant(&letters),
        json!({
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "false",
            "transforms": "parse,check,split,total,sold,digits",
            "transforms.parse.type": "tributary.transforms.ParseJson$Value",
            "transforms.check.type": "tributary.transforms.Validate$Value",
            "transforms.check.schema": r#"{"required":["id"],"properties":{"id":{"type":"integer"}}}"#,
            "transforms.split.type": "tributary.transforms.Split",
            "transforms.split.field": "items",
            "transforms.split.into": "item",
            "transforms.total.type": "tributary.transforms.Map",
            "transforms.total.fields": "total = v.item.n * v.item.qty; item = optional.none()",
            "transforms.total.key": "v.id",
            "transforms.total.headers": "origin = 'from ' + topic",
            "transforms.sold.type": "tributary.transforms.Filter",
            "transforms.sold.condition": "v.total > 0",
            "transforms.digits.type": "tributary.transforms.RegexReplace$Value",
            "transforms.digits.field": "phone",
            // All but the last of several equal parts, which takes a look ahead and a back reference.
            "transforms.digits.regex": r"[^0-9](?!$)|(\d+)-(?=\1)",
            "transforms.digits.replacement": "",
        }),
    ))?;
    let records = wait::until("three records", wait::PATIENCE, || {
        let records = letters::read(&broker, &job.topic)?;
        Ok((records.len() >= 3).then_some(records))
    })
    .map_err(|error| job.worker.with_log(format!("{error}; {}", job.statuses())))?;
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
    let mut found: Vec<_> = records.iter().map(|record| (text(&record.key), text(&record.value))).collect();
    found.sort();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        found,
        [
            pair("1", r#"{"id":1,"phone":"4930123","total":14}"#),
            pair("1", r#"{"id":1,"phone":"4930123","total":3}"#),
            pair("5", r#"{"id":5,"phone":"5551","total":10}"#),
        ]
    );
    for record in &records {
        assert_eq!(record.own, [("origin".to_owned(), Some(format!("from {}", job.topic).into_bytes()))]);
    }
    let refused = wait::until("the letters", wait::PATIENCE, || {
        let refused = letters::read(&broker, &letters)?;
        Ok((refused.len() >= LETTERS).then_some(refused))
    })?;
    let reasons = reasons(&refused);
    assert_eq!(reasons.len(), LETTERS, "{reasons:#?}");
    let [parse, check] = &reasons[..] else { panic!("{reasons:#?}") };
    assert!(parse.0.contains("ParseJson") && parse.2 == lines[1], "{parse:?}");
    assert!(check.0.contains("Validate") && check.1.contains("at /id: \"x\" is not of type \"integer\""), "{check:?}");
    // As it was polled.
    assert_eq!(check.2, lines[2]);
    Ok(())
}

#[test]
fn of_a_sink() -> Result<()> {
    let Log::Kafka(broker) = Log::kafka()? else { return Err(Error::new("not Kafka")) };
    let job = FileJob::start(&broker.bootstrap())?;
    let letters = format!("{}-letters", job.topic);
    let event = |before: Value, after: Value, op: &str| {
        json!({"before": before, "after": after, "op": op, "ts_ms": 5, "source": {"table": "users"}}).to_string()
    };
    let user = |id: Value, name: &str| json!({"id": id, "name": name, "tags": ["a", "b"]});
    let events = [
        event(Value::Null, user(json!(1), "Ann  Lee"), "c"),
        event(user(json!(1), "Ann  Lee"), user(json!(1), "Ann   Li"), "u"),
        event(Value::Null, user(json!("x"), "nobody"), "c"),
        event(Value::Null, user(json!(2), "internal.robot"), "c"),
        event(user(json!(1), "Ann   Li"), Value::Null, "d"),
        "{".to_owned(),
    ];
    broker.create_topic(&job.topic, 1, &[])?;
    letters::write(&broker, &job.topic, events.iter().cloned())?;
    job.create_sink(with(
        tolerant(&letters),
        json!({
            "transforms": "unwrap,check,people,spaces,split,label",
            "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
            "transforms.unwrap.delete.handling.mode": "rewrite",
            "transforms.unwrap.drop.tombstones": "true",
            "transforms.unwrap.add.fields": "op",
            "transforms.check.type": "tributary.transforms.Validate$Value",
            "transforms.check.schema": r#"{"properties":{"id":{"type":"integer"}}}"#,
            "transforms.people.type": "tributary.transforms.Filter",
            "transforms.people.condition": "!v.name.startsWith('internal.')",
            "transforms.spaces.type": "tributary.transforms.RegexReplace$Value",
            "transforms.spaces.field": "name",
            "transforms.spaces.regex": r"\s++",
            "transforms.spaces.replacement": " ",
            "transforms.split.type": "tributary.transforms.Split",
            "transforms.split.field": "tags",
            "transforms.split.into": "tag",
            "transforms.label.type": "tributary.transforms.Map",
            "transforms.label.value": "{'who': v.name, 'tag': v.tag, 'op': v.__op, 'gone': v.__deleted == 'true'}",
        }),
    ))?;
    let line = |who: &str, tag: &str, op: &str, gone: bool| json!({"who": who, "tag": tag, "op": op, "gone": gone});
    let mut expected = Vec::new();
    for (who, op, gone) in [("Ann Lee", "c", false), ("Ann Li", "u", false), ("Ann Li", "d", true)] {
        expected.extend(["a", "b"].map(|tag| line(who, tag, op, gone)));
    }
    let written = wait::until("all lines", wait::PATIENCE, || {
        let text = fs::read_to_string(&job.output).unwrap_or_default();
        Ok((text.lines().count() >= expected.len()).then_some(text))
    })
    .map_err(|error| job.worker.with_log(format!("{error}; {}", job.statuses())))?;
    let written: Vec<Value> = written.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    assert_eq!(written, expected);
    let refused = wait::until("the letters", wait::PATIENCE, || {
        let refused = letters::read(&broker, &letters)?;
        Ok((refused.len() >= LETTERS).then_some(refused))
    })?;
    let reasons = reasons(&refused);
    let [converter, check] = &reasons[..] else { panic!("{reasons:#?}") };
    assert!(converter.0.contains("JsonConverter") && converter.2 == "{", "{converter:?}");
    assert!(check.0.contains("Validate") && check.1.contains("/id") && check.2 == events[2], "{check:?}");
    Ok(())
}
