//! Parking and coming back, again and again.

use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use tributary_harness::seed::Seed;
use tributary_harness::{Error, KafkaBroker, Result, wait};

use super::Sink;

#[test]
fn nothing_is_lost_or_repeated_over_many_cycles() -> Result<()> {
    let mut seed = Seed::announce("when records come");
    let broker = KafkaBroker::shared()?;
    let mut sink = Sink::start(&broker, 3)?;
    let mut parked = 0;
    for _ in 0..25 {
        // While it is parked, on its way there, on its way back, and not at all.
        match seed.random_range(0..4) {
            0 => sink.wait_parked()?,
            1 => thread::sleep(Duration::from_millis(seed.random_range(0..200))),
            _ => thread::sleep(Duration::from_millis(seed.random_range(500..2500))),
        }
        parked += u32::from(sink.is_parked()?);
        for _ in 0..seed.random_range(1..4) {
            let partition = seed.random_range(0..3);
            sink.send(partition, seed.random_range(1..200))?;
            if seed.random_bool(0.5) {
                thread::sleep(Duration::from_millis(seed.random_range(0..30)));
            }
        }
        if seed.random_bool(0.5) {
            sink.wait_written()?;
        }
    }
    sink.check()?;
    assert!(parked > 2, "parked {parked} times only");
    sink.wait_parked()?;
    // All of it has been committed, by whichever client there was.
    let offsets = wait::until("the last offsets to be committed", wait::PATIENCE, || {
        let answer = sink.worker.rest().get(&format!("/connectors/{}/offsets", sink.name))?.ok()?;
        let offsets = answer["offsets"].as_array().cloned().unwrap_or_default();
        let sum: i64 = offsets.iter().filter_map(|offset| offset["offset"]["kafka_offset"].as_i64()).sum();
        let ends: i64 = broker.watermarks(&sink.name)?.iter().map(|(_, end)| end).sum();
        Ok((sum == ends).then_some(offsets))
    })?;
    assert_eq!(offsets.len(), 3);
    assert_eq!(sink.metric("tributary_task_lag_records")?, Some(0.0));
    Ok(())
}

#[test]
fn a_record_comes_through_quickly_when_the_task_is_parked() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut sink = Sink::start(&broker, 1)?;
    let mut times = Vec::new();
    for _ in 0..5 {
        sink.wait_parked()?;
        let begun = Instant::now();
        sink.send(0, 1)?;
        while sink.judge()?.missing > 0 {
            assert!(begun.elapsed() < wait::PATIENCE, "the record does not come");
            thread::sleep(Duration::from_millis(1));
        }
        times.push(begun.elapsed());
    }
    times.sort();
    println!("from the record to its line, parked: {times:?}");
    // On a machine that does nothing else it is below 200 ms.
    assert!(times[2] < Duration::from_secs(10), "{times:?}");
    sink.check()
}

#[test]
fn pausing_stopping_and_new_offsets_reach_a_parked_task() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut sink = Sink::start(&broker, 2)?;
    sink.send(0, 10)?;
    sink.send(1, 10)?;
    sink.wait_written()?;
    sink.wait_parked()?;
    let path = |what: &str| format!("/connectors/{}/{what}", sink.name);
    let (pause, resume, stop, offsets) = (path("pause"), path("resume"), path("stop"), path("offsets"));
    let put = |sink: &Sink, path: &str| sink.worker.rest().put(path, &json!({}))?.ok().map(drop);
    // A paused task is parked, too, and nothing comes through.
    put(&sink, &pause)?;
    sink.worker.rest().wait_state(&sink.name, "PAUSED")?;
    sink.wait_parked()?;
    sink.send(0, 10)?;
    thread::sleep(Duration::from_secs(2));
    assert_eq!(sink.judge()?.missing, 10);
    put(&sink, &resume)?;
    sink.check()?;
    sink.wait_parked()?;
    put(&sink, &stop)?;
    wait::until("the connector to be stopped", wait::PATIENCE, || {
        let status = sink.worker.rest().status(&sink.name)?;
        let stopped = status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([]);
        Ok(stopped.then_some(()))
    })?;
    let reset = sink.worker.rest().delete(&offsets)?;
    assert_eq!(reset.status, 200, "{}", reset.body);
    put(&sink, &resume)?;
    // Everything comes again, once.
    wait::until("everything to come again", wait::PATIENCE, || {
        let report = sink.judge()?;
        Ok((report.delivered == 60 && report.duplicates == 30).then_some(()))
    })?;
    sink.wait_parked()
}

#[test]
fn what_is_not_committed_is_not_there() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let sink = Sink::start(&broker, 1)?;
    // Nothing is committed for the group, and it begins at the end.
    sink.configure(json!({
        "consumer.override.isolation.level": "read_committed",
        "consumer.override.auto.offset.reset": "latest",
    }))?;
    sink.worker.wait_running(&sink.name)?;
    sink.wait_parked()?;
    let patience = Duration::from_secs(60);
    let producer: BaseProducer = broker.client().set("transactional.id", format!("{}-writer", sink.name)).create()?;
    producer.init_transactions(patience)?;
    let written = || Ok::<_, Error>(std::fs::read_to_string(sink.file()).unwrap_or_default());
    let mut expected = String::new();
    for (text, commits) in [("dropped first", false), ("kept", true), ("dropped", false), ("kept again", true)] {
        producer.begin_transaction()?;
        producer.send(BaseRecord::<(), _>::to(&sink.name).payload(text)).map_err(|(error, _)| error)?;
        producer.flush(patience)?;
        thread::sleep(Duration::from_secs(2));
        assert_eq!(written()?, expected);
        assert!(sink.is_parked()?, "while a transaction is open there is nothing to read");
        if commits {
            producer.commit_transaction(patience)?;
            expected += &format!("{text}\n");
        } else {
            producer.abort_transaction(patience)?;
        }
        wait::until("what was committed", wait::PATIENCE, || Ok((written()? == expected).then_some(())))?;
        // It has looked at what was dropped; then it stays parked.
        thread::sleep(Duration::from_secs(3));
        sink.wait_parked()?;
        thread::sleep(Duration::from_secs(2));
        assert!(sink.is_parked()?);
    }
    Ok(())
}

#[test]
fn a_parked_sink_needs_two_threads() -> Result<()> {
    const SINKS: usize = 20;
    let broker = KafkaBroker::shared()?;
    let sink = Sink::start(&broker, 1)?;
    sink.wait_parked()?;
    // What was started for the first connector ends.
    thread::sleep(Duration::from_secs(3));
    let before = sink.worker.usage()?.threads;
    let rest = sink.worker.rest();
    let name = |number: usize| format!("{}-{number}", sink.name);
    for number in 0..SINKS {
        let config = json!({"connector.class": "FileStreamSink", "topics": sink.name, "file": sink.file()});
        rest.put_connector(&name(number), &config)?;
    }
    (0..SINKS).try_for_each(|number| sink.worker.wait_running(&name(number)))?;
    wait::until("all to be parked", wait::PATIENCE, || {
        let metrics = rest.get("/metrics")?.body.as_str().unwrap_or_default().to_owned();
        let parked = metrics.lines().filter(|line| line.starts_with("tributary_task_parked{") && line.ends_with(" 1"));
        if parked.clone().count() == SINKS + 1 {
            Ok(Some(()))
        } else {
            Err(Error::new(format!("{} parked", parked.count())))
        }
    })?;
    wait::until("two threads each", wait::PATIENCE, || {
        let threads = sink.worker.usage()?.threads;
        if threads <= before + 2 * SINKS as u64 {
            Ok(Some(()))
        } else {
            Err(Error::new(format!("{before}, now {threads}")))
        }
    })
}
