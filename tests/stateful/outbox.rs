//! Exactly-once sinks behind transforms with state: what is in their store is what a batch over the input gives, each result once.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{BrokerOptions, Error, KafkaBroker, Rest, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_plugin_ledger::Store;
use tributary_tests::{install_plugin, outage};

use crate::events::{DISORDER, Events, SIZE, TTL, values, windows, windows_together};
use crate::hurt::{die_at_every_step, lose_commit, strike, two_workers};
use crate::rig::{PARTITIONS, extend, failed, finished, produce, rounds, same, stopped, unique};

/// Two ledgers of the sums by user and window of each event once.
struct Sums {
    input: String,
    /// Users are in one partition each.
    plain: (String, PathBuf),
    /// They are brought together.
    cut: (String, PathBuf),
}

impl Sums {
    fn new(broker: &KafkaBroker, what: &str, dir: &Path) -> Result<Self> {
        let input = unique(what);
        broker.create_topic(&input, PARTITIONS, &[])?;
        let ledger = |what: &str| (format!("{input}-{what}"), dir.join(format!("{input}-{what}.db")));
        Ok(Self { plain: ledger("plain"), cut: ledger("cut"), input })
    }

    fn config(&self, file: &Path, tasks: usize, more: &Value) -> Value {
        let mut config = json!({
            "connector.class": "com.example.LedgerSink", "file": file, "topics": self.input, "tasks.max": tasks,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
            "errors.restart.backoff.initial.ms": "50", "consumer.override.session.timeout.ms": "6000",
            "transforms": "once,sums",
            "transforms.once.type": "Deduplicate", "transforms.once.key": "v.id", "transforms.once.ttl.ms": TTL,
            "transforms.once.eventtime.expr": "v.at", "transforms.once.eventtime.max.out.of.orderness.ms": DISORDER,
            "transforms.sums.type": "Aggregate", "transforms.sums.key": "v.user", "transforms.sums.window": "tumbling",
            "transforms.sums.size.ms": SIZE, "transforms.sums.aggs": "n:count(), total:sum(v.amount)",
            "transforms.sums.eventtime.expr": "v.at", "transforms.sums.eventtime.max.out.of.orderness.ms": DISORDER,
            "transforms.sums.eventtime.idle.timeout.ms": 0, "transforms.once.eventtime.idle.timeout.ms": 0,
        });
        extend(&mut config, more);
        config
    }

    fn create(&self, rest: &Rest, tasks: usize) -> Result<()> {
        rest.put_connector(&self.plain.0, &self.config(&self.plain.1, tasks, &json!({})))?;
        let cut = json!({"transforms.sums.repartition": "auto", "transforms.sums.repartition.partitions": 4});
        rest.put_connector(&self.cut.0, &self.config(&self.cut.1, tasks, &cut)).map(drop)
    }

    fn check(&self, rest: &Rest, broker: &KafkaBroker) -> Result<()> {
        for (name, _) in [&self.plain, &self.cut] {
            finished(rest, broker, &self.input, name)?;
        }
        let input = values(broker, &self.input)?;
        for ((name, file), expected) in [(&self.plain, windows(&input)), (&self.cut, windows_together(&input))] {
            has(file, &expected).map_err(|error| match rest.status(name) {
                Ok(status) => Error::new(format!("{name}: {error}; {status}")),
                Err(_) => error,
            })?;
        }
        Ok(())
    }
}

/// What is in a ledger, sorted.
fn lines(file: &Path) -> Result<Vec<String>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let store = Store::open(&file.display().to_string());
    let mut lines = store.and_then(|store| store.lines()).map_err(|error| Error::new(error.to_string()))?;
    lines.sort();
    Ok(lines)
}

/// Waits until a ledger has as much as is expected; it may not become anything else.
fn has(file: &Path, expected: &[String]) -> Result<()> {
    wait::until("the results of a batch", Duration::from_secs(120), || {
        let found = lines(file)?;
        match found.len() >= expected.len() {
            true => Ok(Some(())),
            false => Err(Error::new(format!("{} of {}", found.len(), expected.len()))),
        }
    })?;
    thread::sleep(Duration::from_secs(2));
    same("the ledger", &lines(file)?, expected)
}

fn options(plugins: &tempfile::TempDir) -> Result<WorkerOptions> {
    install_plugin(plugins.path(), "ledger")?;
    Ok(WorkerOptions::default()
        .set("plugin.path", &plugins.path().display().to_string())
        .set("offset.flush.interval.ms", "300"))
}

#[test]
fn killed_workers_write_each_result_once() -> Result<()> {
    let mut seed = Seed::announce("kills of exactly-once sinks behind state");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let options = options(&plugins)?.set("group.id", &unique("outbox"));
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let sums = Sums::new(&broker, "outbox", worker.dir())?;
    let mut events = Events::new(&broker, &sums.input)?;
    events.produce(10_000, &mut seed)?;
    sums.create(worker.rest(), 2)?;
    for _ in 0..rounds(6) {
        events.produce(4_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..3000)));
        worker.kill9()?;
        worker.spawn()?;
    }
    events.produce(4_000, &mut seed)?;
    events.finish(PARTITIONS)?;
    sums.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// A worker that dies between every two steps of the commit loop.
#[test]
fn deaths_at_every_step() -> Result<()> {
    let mut seed = Seed::announce("fail points of exactly-once sinks behind state");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let place = tempfile::NamedTempFile::new()?.into_temp_path();
    let options = options(&plugins)?.set("group.id", &unique("outbox-steps"));
    let options = options.env("TRIBUTARY_TEST_FAIL_POINT", &format!("@{}", place.display()));
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let sums = Sums::new(&broker, "outbox-steps", worker.dir())?;
    let mut events = Events::new(&broker, &sums.input)?;
    events.produce(2_000, &mut seed)?;
    sums.create(worker.rest(), 1)?;
    die_at_every_step(&mut worker, &place, 2_000, &mut events, &mut seed)?;
    events.finish(PARTITIONS)?;
    sums.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// A broker that is restarted, killed or held, and a network that is cut: the transaction is done again, and the sink is not given again what
/// it has.
#[test]
fn outages() -> Result<()> {
    let mut seed = Seed::announce("outages of exactly-once sinks behind state");
    let mut broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let plugins = tempfile::tempdir()?;
    let options = options(&plugins)?.set("group.id", "outbox-outages");
    let mut worker = TributaryWorker::start_with(&broker.proxied_bootstrap(), options)?;
    let sums = Sums::new(&broker, "outbox-outages", worker.dir())?;
    let mut events = Events::new(&broker, &sums.input)?;
    events.produce(5_000, &mut seed)?;
    sums.create(worker.rest(), 2)?;
    for round in 0..rounds(4) as u64 {
        events.produce(3_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1500)));
        let pause = Duration::from_millis(seed.random_range(200..4_000));
        outage(&mut broker, round + seed.value(), pause)?;
    }
    events.finish(PARTITIONS)?;
    sums.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    println!("{} transactions were done again", worker.log().matches("came to nothing").count());
    worker.stop()
}

/// Commits whose request or answer is lost: what became of them is found out, and where it cannot be, the task begins anew in front of the
/// outbox and goes on behind it.
#[test]
fn lost_commits() -> Result<()> {
    let mut seed = Seed::announce("lost commits of exactly-once sinks behind state");
    let broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let plugins = tempfile::tempdir()?;
    let options = options(&plugins)?.set("group.id", "outbox-lost");
    let mut worker = TributaryWorker::start_with(&broker.proxied_bootstrap(), options)?;
    let sums = Sums::new(&broker, "outbox-lost", worker.dir())?;
    let mut events = Events::new(&broker, &sums.input)?;
    events.produce(2_000, &mut seed)?;
    sums.create(worker.rest(), 2)?;
    for round in 0..rounds(6) as u64 {
        lose_commit(&broker, &worker, &mut events, &mut seed, round)?;
        if seed.random_range(0..2) == 0 {
            broker.proxy().cut();
            thread::sleep(Duration::from_millis(seed.random_range(0..4_000)));
            broker.proxy().resume();
        }
        events.produce(1_000, &mut seed)?;
    }
    events.finish(PARTITIONS)?;
    sums.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    println!("{} transactions were done again", worker.log().matches("came to nothing").count());
    worker.stop()
}

/// Partitions of the input and of the outbox move between workers that are killed, that stand still, and whose connectors get other numbers
/// of tasks.
#[test]
fn rebalances() -> Result<()> {
    let mut seed = Seed::announce("rebalances of exactly-once sinks behind state");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let mut workers = two_workers(&broker, options(&plugins)?)?;
    let dir = tempfile::tempdir()?;
    let sums = Sums::new(&broker, "outbox-moves", dir.path())?;
    let mut events = Events::new(&broker, &sums.input)?;
    events.produce(5_000, &mut seed)?;
    sums.create(workers.rest(0), 2)?;
    for round in 0..rounds(3) {
        strike(&mut workers, round, &mut events, &mut seed, |rest, tasks| sums.create(rest, tasks))?;
    }
    events.finish(PARTITIONS)?;
    sums.check(workers.rest(0), &broker).map_err(|error| workers.with_logs(error.to_string()))?;
    workers.stop()
}

/// The next-to-read offset of a partition of a topic, as REST has it.
fn offset(rest: &Rest, name: &str, topic: &str) -> Result<Option<i64>> {
    let offsets = rest.get(&format!("/connectors/{name}/offsets"))?.ok()?;
    let of = |entry: &&Value| entry["partition"]["kafka_topic"] == topic && entry["partition"]["kafka_partition"] == 0;
    let entry = offsets["offsets"].as_array().into_iter().flatten().find(of);
    Ok(entry.and_then(|entry| entry["offset"]["kafka_offset"].as_i64()))
}

/// Its offsets are shown and set, what is used is deleted, and a topic that is made anew is another one for the sink, too.
#[test]
fn the_outbox_lives_as_long_as_the_state() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let group = unique("life-of-outboxes");
    let options = options(&plugins)?.set("group.id", &group);
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let [name, input] = ["boxed", "in"].map(unique);
    let (rest, file, outbox) = (worker.rest(), worker.dir().join("lines.db"), format!("{group}-{name}-sink-outbox"));
    broker.create_topic(&input, 1, &[])?;
    let config = json!({
        "connector.class": "com.example.LedgerSink", "file": file, "topics": input,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v",
    });
    let texts = |numbers: std::ops::Range<i32>| numbers.map(|n| format!("text {n:03}"));
    let all = |times: &[std::ops::Range<i32>]| {
        let mut all: Vec<String> = times.iter().cloned().flat_map(texts).collect();
        all.sort();
        all
    };
    produce(&broker, &input, texts(0..100).chain(texts(0..100)))?;
    rest.put_connector(&name, &config)?;
    has(&file, &all(&[0..100])).map_err(|error| worker.with_log(error.to_string()))?;
    assert_eq!(broker.watermarks(&outbox)?.len(), 1);
    let end = broker.watermarks(&outbox)?[0].1;
    // The last one is the transaction's mark.
    wait::until("the group's offset", wait::PATIENCE, || {
        Ok((offset(rest, &name, &outbox)? >= Some(end - 2)).then_some(()))
    })?;
    wait::until("what was used is deleted", Duration::from_secs(90), || {
        Ok((broker.watermarks(&outbox)?[0].0 >= end - 2).then_some(()))
    })?;

    // A connector that is not asked for its own offsets any more would leave results behind.
    let mut plain = config.clone();
    plain["transforms"] = json!("");
    rest.put_connector(&name, &plain)?;
    failed(rest, &name, "which this config does not read")?;
    rest.put_connector(&name, &config)?;
    produce(&broker, &input, texts(50..150))?;
    has(&file, &all(&[0..150])).map_err(|error| worker.with_log(error.to_string()))?;

    // What the sink has not got yet can be passed over, what is deleted cannot be had again.
    stopped(rest, &name)?;
    let at = |offset: i64| {
        json!({"offsets": [{
            "partition": {"kafka_topic": outbox, "kafka_partition": 0}, "offset": {"kafka_offset": offset},
        }]})
    };
    let patch = |offset| rest.patch(&format!("/connectors/{name}/offsets"), &at(offset));
    let end = offset(rest, &name, &outbox)?.unwrap_or_default();
    assert_eq!(patch(0)?.status, 200);
    rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    failed(rest, &name, "results that the connector had are deleted")?;
    stopped(rest, &name)?;
    assert_eq!(patch(end)?.status, 200);
    rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    produce(&broker, &input, texts(140..160))?;
    has(&file, &all(&[0..160])).map_err(|error| worker.with_log(error.to_string()))?;

    // Reset: all is made anew, and the sink gets it although its own store has offsets of the topic that had the name.
    stopped(rest, &name)?;
    let answer = rest.delete(&format!("/connectors/{name}/offsets"))?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    wait::until("the outbox is deleted", wait::PATIENCE, || Ok(broker.watermarks(&outbox).is_err().then_some(())))?;
    rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    has(&file, &all(&[0..160, 0..160])).map_err(|error| worker.with_log(error.to_string()))?;

    // Without its state, and with the offsets of its group: only what is new counts.
    assert_eq!(rest.delete(&format!("/connectors/{name}?purgeState=true"))?.status, 204);
    wait::until("the outbox is deleted again", wait::PATIENCE, || {
        Ok(broker.watermarks(&outbox).is_err().then_some(()))
    })?;
    rest.put_connector(&name, &config)?;
    produce(&broker, &input, texts(0..5).chain(texts(0..5)))?;
    has(&file, &all(&[0..160, 0..160, 0..5])).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Records that the sink refuses behind the outbox are dead letters before its own offset passes them.
#[test]
fn what_the_sink_refuses_is_kept() -> Result<()> {
    let mut seed = Seed::announce("kills of an exactly-once sink that refuses records");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let options = options(&plugins)?.set("group.id", &unique("refusing"));
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let [name, input, letters] = ["refusing", "mixed", "letters"].map(unique);
    let file = worker.dir().join("lines.db");
    broker.create_topic(&input, 1, &[])?;
    let config = json!({
        "connector.class": "com.example.LedgerSink", "file": file, "topics": input,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "errors.tolerance": "all", "errors.deadletterqueue.topic.name": letters,
        "errors.deadletterqueue.topic.replication.factor": 1, "errors.restart.backoff.initial.ms": "50",
        "transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v",
    });
    worker.rest().put_connector(&name, &config)?;
    let value = |n: i32| match n % 3 {
        0 => format!(r#"{{"schema":{{"type":"int32"}},"payload":{n}}}"#),
        _ => format!(r#"{{"schema":{{"type":"string"}},"payload":"text {n}"}}"#),
    };
    let mut next = 0;
    for _ in 0..rounds(3) {
        produce(&broker, &input, (next..next + 60).map(value))?;
        next += 60;
        thread::sleep(Duration::from_millis(seed.random_range(0..1500)));
        worker.kill9()?;
        worker.spawn()?;
    }
    produce(&broker, &input, (next..next + 60).map(value))?;
    next += 60;
    let mut expected: Vec<String> = (0..next).filter(|n| n % 3 != 0).map(|n| format!("text {n}")).collect();
    expected.sort();
    has(&file, &expected).map_err(|error| worker.with_log(error.to_string()))?;
    wait::until("all letters", wait::PATIENCE, || {
        let mut kept: Vec<i32> =
            values(&broker, &letters)?.into_values().flatten().filter_map(|n| n.parse().ok()).collect();
        kept.sort_unstable();
        kept.dedup();
        let all = kept == (0..next).filter(|n| n % 3 == 0).collect::<Vec<_>>();
        if all { Ok(Some(())) } else { Err(Error::new(format!("{} letters", kept.len()))) }
    })
    .map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// A sink whose transaction waits for the letters of what it refused: a worker that dies at its commits has not let it pass them before they
/// were there.
#[test]
fn letters_come_before_the_offset_of_the_sink() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let place = tempfile::NamedTempFile::new()?.into_temp_path();
    let options = options(&plugins)?.set("group.id", &unique("holding"));
    let options = options.env("TRIBUTARY_TEST_FAIL_POINT", &format!("@{}", place.display()));
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let [name, input, letters] = ["holding", "refused", "letters"].map(unique);
    let file = worker.dir().join("lines.db");
    broker.create_topic(&input, 1, &[])?;
    let config = json!({
        "connector.class": "com.example.LedgerSink", "file": file, "hold": true, "topics": input,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "errors.tolerance": "all", "errors.deadletterqueue.topic.name": letters,
        "errors.deadletterqueue.topic.replication.factor": 1, "errors.restart.backoff.initial.ms": "50",
        "transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v",
    });
    worker.rest().put_connector(&name, &config)?;
    let value = |n: i32| format!(r#"{{"schema":{{"type":"int32"}},"payload":{n}}}"#);
    let mut next = 0;
    for round in 0..rounds(6) {
        worker.kill9()?;
        std::fs::write(&place, format!("before-commit:{}", 2 + round % 3))?;
        worker.spawn()?;
        wait::until("a death before a commit", wait::PATIENCE, || {
            produce(&broker, &input, std::iter::once(value(next)))?;
            next += 1;
            thread::sleep(Duration::from_millis(700));
            Ok((!worker.is_running()).then_some(()))
        })
        .map_err(|error| worker.with_log(error.to_string()))?;
    }
    std::fs::write(&place, "")?;
    worker.kill9()?;
    worker.spawn()?;
    wait::until("all letters", wait::PATIENCE, || {
        let kept = values(&broker, &letters)?.into_values().flatten();
        let mut kept: Vec<i32> = kept.filter_map(|n| n.parse().ok()).collect();
        kept.sort_unstable();
        kept.dedup();
        let all = kept == (0..next).collect::<Vec<_>>();
        if all { Ok(Some(())) } else { Err(Error::new(format!("{kept:?} of {next} letters"))) }
    })
    .map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}
