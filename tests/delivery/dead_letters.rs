//! Dead letters of a source, on both logs, and what `tributary dlq` makes of them.

use std::fs;

use serde_json::{Value, json};
use tributary_harness::{Error, Result, wait};
use tributary_tests::{FileJob, Log};

use crate::letters::{self, dlq, dlq_json};

#[test]
fn of_a_source_on_kafka() -> Result<()> {
    of_a_source(&Log::kafka()?)
}

#[test]
fn of_a_source_on_the_embedded_log() -> Result<()> {
    of_a_source(&Log::Embedded)
}

/// Killed in the middle, a replay repeats little and leaves out nothing.
#[test]
fn a_killed_replay_goes_on() -> Result<()> {
    const LETTERS: usize = 4000;
    let Log::Kafka(broker) = Log::kafka()? else { return Err(Error::new("not Kafka")) };
    let (letters, target) =
        (format!("killed-{}-letters", std::process::id()), format!("killed-{}", std::process::id()));
    broker.create_topic(&letters, 1, &[])?;
    broker.create_topic(&target, 1, &[])?;
    letters::write(&broker, &letters, (0..LETTERS).map(|n| n.to_string()))?;
    let bootstrap = broker.bootstrap();
    let args = ["replay", letters.as_str(), "-b", bootstrap.as_str(), "--to", target.as_str()];
    let mut killed = letters::command(&[&args[..], &["--rate", "1000"]].concat())?.spawn()?;
    wait::until("some of the letters", wait::PATIENCE, || Ok((broker.record_count(&target)? > 300).then_some(())))?;
    killed.kill()?;
    killed.wait()?;
    let replayed = dlq_json(&args)?;
    assert!(replayed["done_before"].as_u64() > Some(0), "{replayed}");
    let mut values: Vec<usize> = letters::read(&broker, &target)?
        .iter()
        .map(|record| String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).parse().unwrap())
        .collect();
    let twice = values.len() - LETTERS;
    println!("{twice} letters were sent twice");
    values.sort_unstable();
    values.dedup();
    assert!(values == (0..LETTERS).collect::<Vec<_>>(), "{} of {LETTERS}", values.len());
    assert!(twice <= 1000, "{twice}");
    assert_eq!(dlq_json(&args)?["replayed"], json!({}));
    Ok(())
}

/// 300 lines of JSON, of which one is none and two are too large for their topic.
fn of_a_source(log: &Log) -> Result<()> {
    let job = FileJob::start(&log.bootstrap())?;
    let (topic, letters) = (job.topic.as_str(), format!("{}-letters", job.topic));
    let data = job.worker.dir().join("data").display().to_string();
    let bootstrap = log.bootstrap();
    let at = ["-b", bootstrap.as_str(), "-d", data.as_str()];
    if let Log::Kafka(broker) = log {
        broker.create_topic(topic, 1, &[("max.message.bytes", "20000")])?;
        broker.create_topic(&format!("{topic}-roomy"), 1, &[("max.message.bytes", "5000000")])?;
    }
    let large = |n: usize| format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(2_000_000));
    let line = |n: usize| match n {
        100 => "{\"n\": oops".to_owned(),
        150 | 151 => large(n),
        // Together far more than the topic takes at once.
        _ => format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(1000)),
    };
    let lines: Vec<_> = (0..300).map(line).collect();
    fs::write(&job.input, lines.join("\n") + "\n")?;
    job.create_source(json!({
        "transforms": "parse",
        "transforms.parse.type": "ParseJson$Value",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "producer.override.max.request.size": "1500000",
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": letters,
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
    }))?;
    let show = |count: usize| {
        wait::until("the letters", wait::PATIENCE, || {
            let text = dlq(&[&["show", letters.as_str(), "-J"], at.as_slice()].concat())?;
            let shown = text.lines().map(serde_json::from_str).collect::<std::result::Result<Vec<Value>, _>>();
            Ok(shown.ok().filter(|shown| shown.len() == count))
        })
        .map_err(|error| job.worker.with_log(format!("{error}; {}", job.statuses())))
    };
    let shown = show(3)?;
    let by_stage = |stage: &str| shown.iter().filter(|letter| letter["error"]["stage"] == stage).collect::<Vec<_>>();
    let [unparsed] = by_stage("TRANSFORMATION")[..] else { panic!("{shown:#?}") };
    assert_eq!(unparsed["value"], "{\"n\": oops");
    assert_eq!(unparsed["error"]["source.record"], "polled");
    assert_eq!(unparsed["error"]["source.partition"], json!({"filename": job.input}));
    assert!(unparsed["error"]["source.offset"]["position"].is_u64(), "{unparsed}");
    assert_eq!(unparsed["error"]["topic"], topic);
    let refused = by_stage("KAFKA_PRODUCE");
    assert_eq!(
        refused.iter().map(|letter| letter["value"].as_str().unwrap()).collect::<Vec<_>>(),
        [large(150), large(151)]
    );
    for letter in refused {
        assert_eq!(letter["error"]["source.record"], "produced");
        assert_eq!(letter["error"]["exception.class.name"], "org.apache.kafka.common.errors.RecordTooLargeException");
        assert_eq!(letter["error"]["class.name"], "org.apache.kafka.connect.runtime.WorkerSourceTask");
        assert_eq!(letter["error"]["connector.name"], job.source());
    }
    // All others are in the topic, however the broker took them.
    let good = || lines.iter().enumerate().filter(|(n, _)| ![100, 150, 151].contains(n)).map(|(_, line)| line.as_str());
    if let Log::Kafka(broker) = log {
        let produced = letters::read(broker, topic)?;
        let values: Vec<_> =
            produced.iter().map(|record| std::str::from_utf8(record.value.as_ref().unwrap()).unwrap()).collect();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let mut expected: Vec<_> = good().collect();
        expected.sort_unstable();
        assert!(sorted == expected, "{} records", values.len());
    }
    let status = wait::until("progress", wait::PATIENCE, || {
        let status = job.worker.rest().status(&job.source())?;
        Ok((status["tasks"][0]["progress"]["records_out"] == 297).then_some(status))
    })?;
    let progress = &status["tasks"][0]["progress"];
    assert_eq!(
        (&progress["records_failed"], &progress["errors"]["dead_letters"]),
        (&3.into(), &3.into()),
        "{progress}"
    );

    // The worker knows the topic; the letters say why.
    let listed = dlq_json(&[&["list", "--worker", job.worker.rest().base()], at.as_slice()].concat())?;
    assert_eq!(listed[0]["topic"], letters);
    assert_eq!(listed[0]["connectors"], json!([job.source()]));
    assert_eq!(listed[0]["letters"], 3);
    // A record that was polled is not what its topic holds; the others find room elsewhere.
    let replay = |more: &[&str]| dlq_json(&[&["replay", letters.as_str()], at.as_slice(), more].concat());
    let error = replay(&["--dry-run"]).unwrap_err().to_string();
    assert!(error.contains("--to TOPIC"), "{error}");
    let roomy = format!("{topic}-roomy");
    if matches!(log, Log::Embedded) {
        return Ok(());
    }
    let produced = ["--stage", "KAFKA_PRODUCE", "--to", roomy.as_str(), "-X", "max.request.size=5000000"];
    assert_eq!(replay(&produced)?["replayed"], json!({roomy.as_str(): 2}));
    assert_eq!(replay(&produced)?["replayed"], json!({}));
    let Log::Kafka(broker) = log else { return Err(Error::new("unreachable")) };
    let moved = letters::read(broker, &roomy)?;
    assert_eq!(
        moved.iter().map(|record| record.value.clone().unwrap()).collect::<Vec<_>>(),
        [large(150).into_bytes(), large(151).into_bytes()]
    );
    assert!(moved.iter().all(|record| record.context.is_empty() && record.own.is_empty()));
    Ok(())
}
