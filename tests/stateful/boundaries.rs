//! Sources that say where their transactions end, and drop some: a dropped one leaves nothing behind, in topics or in the state.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{Error, KafkaBroker, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_tests::install_plugin;

use crate::events::values;
use crate::parcel::Parcel;
use crate::rig::{extend, rounds, same, unique};

const PARCELS: u64 = 300;
const BOUND: u64 = 3_000;

/// Connectors on the same parcels, named as the topics that they write.
struct Job {
    seed: u64,
    /// As they are.
    plain: String,
    /// The first of each number.
    once: String,
    /// How many there are, by the last digit, as often as it changes.
    counts: String,
}

impl Job {
    fn create(worker: &TributaryWorker, broker: &KafkaBroker, seed: u64, common: &Value) -> Result<Self> {
        let own = unique("parcels");
        let name = |what: &str| format!("{own}-{what}");
        let job = Self { seed, plain: name("plain"), once: name("once"), counts: name("counts") };
        let without_time = "timestamp('2024-01-01T00:00:00Z')";
        let once = json!({"transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v.number",
            "transforms.once.eventtime.expr": without_time});
        let counts = json!({"transforms": "counts", "transforms.counts.type": "Aggregate", "transforms.counts.key": "v.number % 10",
            "transforms.counts.window": "none", "transforms.counts.state.ttl.ms": -1, "transforms.counts.emit": "change", "transforms.counts.aggs": "n:count()",
            "transforms.counts.eventtime.expr": without_time});
        for (name, more) in [(&job.plain, json!({})), (&job.once, once), (&job.counts, counts)] {
            broker.create_topic(name, 1, &[])?;
            let mut config = json!({
                "connector.class": "com.example.ParcelsSource", "topic": name, "seed": seed, "parcels": PARCELS, "bound": BOUND,
                "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
                "transaction.boundary": "connector", "errors.restart.backoff.initial.ms": "50",
            });
            extend(&mut config, &more);
            extend(&mut config, common);
            worker.rest().put_connector(name, &config)?;
        }
        Ok(job)
    }

    fn finished(&self, worker: &TributaryWorker) -> Result<()> {
        for name in [&self.plain, &self.once, &self.counts] {
            wait::until(&format!("{name} has emitted everything"), 2 * wait::PATIENCE, || {
                let answer = worker.rest().get(&format!("/connectors/{name}/offsets"))?.ok()?;
                match answer["offsets"][0]["offset"]["parcel"].as_u64() {
                    Some(PARCELS) => Ok(Some(())),
                    _ => Err(Error::new(format!("{answer}: {}", worker.rest().status(name)?))),
                }
            })
            .map_err(|error| worker.with_log(error.to_string()))?;
        }
        Ok(())
    }

    /// Compares with what the parcels say.
    fn check(&self, broker: &KafkaBroker) -> Result<()> {
        let parcels = (0..PARCELS).map(|number| (number, Parcel::new(self.seed, number, BOUND)));
        let kept = parcels.filter(|(_, parcel)| !parcel.dropped).collect::<Vec<_>>();
        let all = kept.iter().flat_map(|(at, parcel)| parcel.numbers.iter().map(move |number| (*at, *number)));
        let text = |(parcel, number): (u64, u64)| json!({"parcel": parcel, "number": number}).to_string();
        let read = |topic: &str| Ok::<_, Error>(values(broker, topic)?.remove(&0).unwrap_or_default());
        same("parcels", &read(&self.plain)?, &all.clone().map(text).collect::<Vec<_>>())?;
        let mut seen = BTreeSet::new();
        let first = all.clone().filter(|(_, number)| seen.insert(*number));
        same("first of each number", &read(&self.once)?, &first.map(text).collect::<Vec<_>>())?;
        let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
        all.for_each(|(_, number)| *expected.entry((number % 10) as i64).or_insert(0i64) += 1);
        for value in read(&self.counts)? {
            let value: Value = serde_json::from_str(&value)?;
            let (key, n) = (value["key"].as_i64().unwrap_or(-1), value["n"].as_i64().unwrap_or(-1));
            let before = found.insert(key, n).unwrap_or(0);
            if n < before {
                return Err(Error::new(format!("the count of {key} went from {before} to {n}")));
            }
        }
        let lines =
            |counts: BTreeMap<i64, i64>| counts.iter().map(|(key, n)| format!("{key}: {n}")).collect::<Vec<_>>();
        same("counts", &lines(found), &lines(expected))
    }
}

fn options(plugins: &tempfile::TempDir) -> Result<WorkerOptions> {
    install_plugin(plugins.path(), "parcels")?;
    Ok(WorkerOptions::default()
        .set("plugin.path", &plugins.path().display().to_string())
        .set("exactly.once.source.support", "enabled")
        .set("offset.storage.replication.factor", "1")
        .set("group.id", &unique("parcels-group")))
}

#[test]
fn dropped_transactions_leave_no_state() -> Result<()> {
    let mut seed = Seed::announce("transactions that connectors end");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options(&plugins)?)?;
    let job = Job::create(&worker, &broker, seed.random_range(0..1 << 40), &json!({}))?;
    for _ in 0..rounds(6) {
        thread::sleep(Duration::from_millis(seed.random_range(0..2_000)));
        match seed.random_range(0..3) {
            0 => worker.stop()?,
            _ => worker.kill9()?,
        }
        worker.spawn()?;
    }
    job.finished(&worker)?;
    job.check(&broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Where a source cannot resume, no transaction ends: a crash would write a part of it twice.
#[test]
fn a_transaction_that_ends_without_an_offset_fails_the_task() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options(&plugins)?)?;
    let seed = (0..).find(|seed| !Parcel::new(*seed, 3, BOUND).dropped).unwrap_or_default();
    let torn = json!({"torn.at": 3, "errors.restart.policy": "never"});
    let job = Job::create(&worker, &broker, seed, &torn)?;
    for name in [&job.plain, &job.once] {
        let trace = wait::until(&format!("{name} fails"), wait::PATIENCE, || {
            let status = worker.rest().status(name)?;
            let task = &status["tasks"][0];
            Ok((task["state"] == "FAILED").then(|| task["trace"].to_string()))
        })
        .map_err(|error| worker.with_log(error.to_string()))?;
        assert!(trace.contains("has to have an offset") && trace.contains("depot"), "{trace}");
        let written = values(&broker, name)?.remove(&0).unwrap_or_default();
        assert!(written.iter().all(|value| !value.contains(r#""parcel":3"#)), "a torn transaction");
    }
    worker.stop()
}
