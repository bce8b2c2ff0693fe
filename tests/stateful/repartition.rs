//! Chains that are cut, because equal keys are in different partitions of the input: what they give equals a batch over all partitions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{KafkaBroker, Rest, Result, Seed, TributaryWorker, WorkerOptions, wait};

use crate::events::{DISORDER, Events, SIZE, TTL, field, number, totals, values, windows_together};
use crate::hurt::{strike, two_workers};
use crate::rig::{PARTITIONS, extend, failed, finished, produce, rounds, same, stopped, unique};

/// Connectors whose chains are cut, named as what they write.
struct Cuts {
    input: String,
    /// Each event once, then sums by user and window: one cut, with state on both sides.
    windows: String,
    /// Each event once, then sums by user: a cut in front of each.
    totals: String,
    /// The first, in a file.
    sink: String,
    file: PathBuf,
}

impl Cuts {
    fn new(broker: &KafkaBroker, what: &str, dir: &std::path::Path) -> Result<Self> {
        let own = unique(what);
        let name = |what: &str| format!("{own}-{what}");
        let (input, windows, totals, sink) = (name("in"), name("windows"), name("totals"), name("sink"));
        broker.create_topic(&input, PARTITIONS, &[])?;
        broker.create_topic(&windows, 1, &[])?;
        broker.create_topic(&totals, 1, &[])?;
        Ok(Self { input, windows, totals, file: dir.join(name("lines")), sink })
    }

    fn create(&self, rest: &Rest, tasks: usize, more: &Value) -> Result<()> {
        let mut common = json!({
            "topics": self.input, "tasks.max": tasks,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
            "errors.restart.backoff.initial.ms": "50",
            "transforms": "once,sums",
            "transforms.once.type": "Deduplicate", "transforms.once.key": "v.id", "transforms.once.ttl.ms": TTL,
            "transforms.once.eventtime.expr": "v.at", "transforms.once.eventtime.max.out.of.orderness.ms": DISORDER,
            "transforms.sums.type": "Aggregate", "transforms.sums.key": "v.user",
            "transforms.sums.eventtime.expr": "v.at", "transforms.sums.eventtime.max.out.of.orderness.ms": DISORDER,
            // A partition that is behind is waited for, however slow the machine is.
            "transforms.sums.eventtime.idle.timeout.ms": 0, "transforms.once.eventtime.idle.timeout.ms": 0,
            "transforms.sums.aggs": "n:count(), total:sum(v.amount)",
            "transforms.sums.repartition": "auto",
        });
        extend(&mut common, more);
        let with = |more: Value| {
            let mut config = common.clone();
            extend(&mut config, &more);
            config
        };
        let windows = json!({"transforms.sums.window": "tumbling", "transforms.sums.size.ms": SIZE});
        let kafka = json!({"connector.class": "KafkaSink", "transaction.interval.ms": 100});
        let mut to_topic = with(kafka.clone());
        extend(&mut to_topic, &windows);
        extend(&mut to_topic, &json!({"topic": self.windows, "transforms.sums.repartition.partitions": 4}));
        rest.put_connector(&self.windows, &to_topic)?;
        let mut sums = with(kafka);
        extend(
            &mut sums,
            &json!({
                "topic": self.totals, "transforms.once.repartition": "auto",
                "transforms.sums.window": "none", "transforms.sums.emit": "change", "transforms.sums.state.ttl.ms": -1,
            }),
        );
        rest.put_connector(&self.totals, &sums)?;
        let mut to_file = with(windows);
        extend(&mut to_file, &json!({"connector.class": "FileStreamSink", "file": self.file, "tasks.max": 1}));
        rest.put_connector(&self.sink, &to_file).map(drop)
    }

    /// Waits until all have read the input, and then until what they write is what a batch gives; it may not become anything else.
    fn check(&self, rest: &Rest, broker: &KafkaBroker) -> Result<()> {
        for name in [&self.windows, &self.totals, &self.sink] {
            finished(rest, broker, &self.input, name)?;
        }
        let input = values(broker, &self.input)?;
        let (expected, sums) = (windows_together(&input), totals(&input));
        let windows = || {
            let mut written: Vec<String> = values(broker, &self.windows)?.into_values().flatten().collect();
            written.sort();
            same("windows", &written, &expected)
        };
        let lines = || {
            let lines = std::fs::read(&self.file)?;
            let lines = String::from_utf8_lossy(&lines);
            // A line that was torn by a kill is no result, and comes again.
            let whole = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
            let mut written: Vec<String> = lines.lines().filter(whole).map(str::to_owned).collect();
            written.sort();
            written.dedup();
            same("windows in the file", &written, &expected)
        };
        let last = || {
            let mut last = BTreeMap::new();
            for value in values(broker, &self.totals)?.values().flatten() {
                let key = field(value, "key").as_str().unwrap_or_default().to_owned();
                last.insert(key, (number(value, "n"), number(value, "total")));
            }
            let text =
                |sums: &BTreeMap<String, (i64, i64)>| sums.iter().map(|sum| format!("{sum:?}")).collect::<Vec<_>>();
            same("totals", &text(&last), &text(&sums))
        };
        let all = || windows().and_then(|()| lines()).and_then(|()| last());
        wait::until("the results of a batch", Duration::from_secs(180), || all().map(Some))?;
        // What is still on its way would be too much.
        thread::sleep(Duration::from_secs(2));
        all()
    }
}

fn options(group: &str) -> WorkerOptions {
    WorkerOptions::default().set("group.id", group).set("offset.flush.interval.ms", "200")
}

#[test]
fn killed_workers_lose_nothing_and_repeat_nothing() -> Result<()> {
    let mut seed = Seed::announce("kills of chains that are cut");
    let broker = KafkaBroker::shared()?;
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options(&unique("cuts")))?;
    let cuts = Cuts::new(&broker, "cuts", worker.dir())?;
    let mut events = Events::by_id(&broker, &cuts.input)?;
    events.produce(10_000, &mut seed)?;
    cuts.create(worker.rest(), 2, &json!({}))?;
    for _ in 0..rounds(5) {
        events.produce(4_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..3000)));
        worker.kill9()?;
        worker.spawn()?;
    }
    events.produce(4_000, &mut seed)?;
    events.finish(PARTITIONS)?;
    let done = cuts.check(worker.rest(), &broker);
    done.map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Stages move between workers that are killed, that stand still, and whose connectors get other numbers of tasks.
#[test]
fn rebalances() -> Result<()> {
    let mut seed = Seed::announce("rebalances of chains that are cut");
    let broker = KafkaBroker::shared()?;
    let mut workers = two_workers(&broker, WorkerOptions::default())?;
    let dir = tempfile::tempdir()?;
    let cuts = Cuts::new(&broker, "moves", dir.path())?;
    let mut events = Events::by_id(&broker, &cuts.input)?;
    events.produce(5_000, &mut seed)?;
    let more = json!({"consumer.override.session.timeout.ms": "6000", "state.standby.replicas": 1});
    cuts.create(workers.rest(0), 2, &more)?;
    for round in 0..rounds(3) {
        strike(&mut workers, round, &mut events, &mut seed, |rest, tasks| cuts.create(rest, tasks, &more))?;
    }
    events.finish(PARTITIONS)?;
    let done = cuts.check(workers.rest(0), &broker);
    done.map_err(|error| workers.with_logs(error.to_string()))?;
    workers.stop()
}

/// Topics with different numbers of partitions, records that are refused, configs that no longer fit, and the end of it all.
#[test]
fn repartition_topics_live_as_long_as_the_state() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let group = unique("life-of-cuts");
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options(&group))?;
    let rest = worker.rest();
    let [name, two, three, output, letters] = ["cut", "two", "three", "out", "letters"].map(unique);
    broker.create_topic(&two, 2, &[])?;
    broker.create_topic(&three, 3, &[])?;
    broker.create_topic(&output, 1, &[])?;
    let payload = |user: usize| format!(r#"{{"user":"u{user}"}}"#);
    let mut first = (0..30).map(|n| payload(n % 5)).collect::<Vec<_>>();
    first.push(r#"{"user":null}"#.to_owned());
    produce(&broker, &two, first.iter().cloned())?;
    produce(&broker, &three, (0..20).map(|n| payload(n % 5)))?;
    let config = json!({
        "connector.class": "KafkaSink", "topics": format!("{two},{three}"), "topic": output, "tasks.max": 2,
        "transaction.interval.ms": 100,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
        "errors.tolerance": "all", "errors.deadletterqueue.topic.name": letters,
        "errors.deadletterqueue.topic.replication.factor": 1, "errors.deadletterqueue.context.headers.enable": true,
        "transforms": "n", "transforms.n.type": "Aggregate", "transforms.n.key": "v.user", "transforms.n.window": "none",
        "transforms.n.emit": "change", "transforms.n.state.ttl.ms": -1, "transforms.n.aggs": "n:count()",
    });
    // Without a repartition topic, keys would be kept apart.
    rest.put_connector(&name, &config)?;
    failed(rest, &name, "set repartition=auto for the transform")?;
    let mut cut = config.clone();
    cut["transforms.n.repartition"] = json!("auto");
    rest.put_connector(&name, &cut)?;
    let expected: BTreeMap<String, i64> = (0..5).map(|user| (format!("u{user}"), 10)).collect();
    let counted = |factor: i64| {
        wait::until("all are counted", wait::PATIENCE, || {
            let mut last = BTreeMap::new();
            for value in values(&broker, &output)?.values().flatten() {
                last.insert(field(value, "key").as_str().unwrap_or_default().to_owned(), number(value, "n"));
            }
            let wanted: BTreeMap<String, i64> = expected.iter().map(|(key, n)| (key.clone(), n * factor)).collect();
            Ok((last == wanted).then_some(()))
        })
    };
    counted(1).map_err(|error| worker.with_log(error.to_string()))?;
    // As many partitions as the input with the most.
    let topic = format!("{group}-{name}-1-repartition");
    assert_eq!(broker.watermarks(&topic)?.len(), 3);
    // What has no key is kept as it was read.
    wait::until("the dead letter", wait::PATIENCE, || {
        let kept = broker.watermarks(&letters).is_ok().then(|| values(&broker, &letters)).transpose()?;
        Ok(kept.is_some_and(|kept| kept.into_values().flatten().eq([r#"{"user":null}"#.to_owned()])).then_some(()))
    })?;
    // A key that was counted in the record's own partition cannot be counted elsewhere, and the other way round.
    let mut wider = cut.clone();
    wider["transforms.n.repartition.partitions"] = json!(5);
    rest.put_connector(&name, &wider)?;
    failed(rest, &name, "has 3 already, and state for as many")?;
    let mut whole = config.clone();
    whole["topics"] = json!(three);
    rest.put_connector(&name, &whole)?;
    failed(rest, &name, "which its config does not have any more")?;
    rest.put_connector(&name, &cut)?;
    produce(&broker, &two, (0..50).map(|n| payload(n % 5)))?;
    counted(2).map_err(|error| worker.with_log(error.to_string()))?;

    // Reset: what is on its way is gone, too, and everything is counted once more from the beginning.
    stopped(rest, &name)?;
    let answer = rest.delete(&format!("/connectors/{name}/offsets"))?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    wait::until("the repartition topic is deleted", wait::PATIENCE, || {
        Ok(broker.watermarks(&topic).is_err().then_some(()))
    })?;
    rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    produce(&broker, &two, (0..50).map(|n| payload(n % 5)))?;
    counted(3).map_err(|error| worker.with_log(error.to_string()))?;
    assert_eq!(rest.delete(&format!("/connectors/{name}?purgeState=true"))?.status, 204);
    wait::until("the repartition topic is deleted again", wait::PATIENCE, || {
        Ok(broker.watermarks(&topic).is_err().then_some(()))
    })?;
    worker.stop()
}
