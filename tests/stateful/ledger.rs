//! A database that keeps the offsets of what was written to it: each record is there exactly once, also behind transforms with state.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{Error, KafkaBroker, Rest, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_plugin_ledger::Store;
use tributary_tests::install_plugin;

use crate::events::{Events, values};
use crate::hurt::{hold, two_workers};
use crate::rig::{PARTITIONS, Rig, rounds, unique};

/// Two databases: of the input as it is, and of the windows that a KafkaSink makes of it.
struct Ledgers {
    rig: Rig,
    plain: (String, PathBuf),
    behind: (String, PathBuf),
}

impl Ledgers {
    fn new(broker: &KafkaBroker, what: &str, dir: &std::path::Path) -> Result<Self> {
        let rig = Rig::new(broker, what, dir)?;
        let ledger = |what: &str| (unique(what), dir.join(unique(what)));
        Ok(Self { rig, plain: ledger("plain"), behind: ledger("behind") })
    }

    fn create(&self, rest: &Rest, tasks: usize) -> Result<()> {
        let more = json!({"consumer.override.session.timeout.ms": "6000"});
        self.rig.create(rest, tasks, &more)?;
        for ((name, file), topic) in [(&self.plain, &self.rig.input), (&self.behind, &self.rig.windows)] {
            let config = json!({
                "connector.class": "com.example.LedgerSink", "file": file, "topics": topic, "tasks.max": tasks,
                "key.converter": "org.apache.kafka.connect.storage.StringConverter",
                "value.converter": "org.apache.kafka.connect.storage.StringConverter",
                "consumer.override.isolation.level": "read_committed", "consumer.override.session.timeout.ms": "6000",
                "errors.restart.backoff.initial.ms": "50",
            });
            rest.put_connector(name, &config)?;
        }
        Ok(())
    }

    fn check(&self, rest: &Rest, broker: &KafkaBroker) -> Result<()> {
        self.rig.finished(rest, broker)?;
        self.rig.check(broker)?;
        for ((name, file), topic) in [(&self.plain, &self.rig.input), (&self.behind, &self.rig.windows)] {
            let mut expected: Vec<String> = values(broker, topic)?.into_values().flatten().collect();
            expected.sort();
            let lines = || {
                let file = file.display().to_string();
                let mut lines =
                    Store::open(&file).and_then(|store| store.lines()).map_err(|e| Error::new(e.to_string()))?;
                lines.sort();
                Ok::<_, Error>(lines)
            };
            wait::until(&format!("{name} has all records of {topic}"), 2 * wait::PATIENCE, || {
                let count = lines()?.len();
                let status = rest.status(name)?;
                let all = count >= expected.len();
                if all { Ok(Some(())) } else { Err(Error::new(format!("{count} of {}: {status}", expected.len()))) }
            })?;
            let found = lines()?;
            if found != expected {
                return Err(Error::new(format!("{name}: {} lines where {} are expected", found.len(), expected.len())));
            }
        }
        Ok(())
    }
}

fn options(plugins: &tempfile::TempDir) -> Result<WorkerOptions> {
    install_plugin(plugins.path(), "ledger")?;
    Ok(WorkerOptions::default()
        .set("plugin.path", &plugins.path().display().to_string())
        .set("offset.flush.interval.ms", "500"))
}

#[test]
fn killed_workers_write_each_record_once() -> Result<()> {
    let mut seed = Seed::announce("kills of exactly-once sinks");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let mut worker =
        TributaryWorker::start_with(&broker.bootstrap(), options(&plugins)?.set("group.id", &unique("ledger")))?;
    let ledgers = Ledgers::new(&broker, "ledger", worker.dir())?;
    let mut events = Events::new(&broker, &ledgers.rig.input)?;
    events.produce(5_000, &mut seed)?;
    ledgers.create(worker.rest(), 2)?;
    for _ in 0..rounds(5) {
        events.produce(3_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..2500)));
        worker.kill9()?;
        worker.spawn()?;
    }
    events.finish(PARTITIONS)?;
    ledgers.check(worker.rest(), &broker).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

#[test]
fn zombies_write_nothing() -> Result<()> {
    let mut seed = Seed::announce("zombies of exactly-once sinks");
    let broker = KafkaBroker::shared()?;
    let plugins = tempfile::tempdir()?;
    let mut workers = two_workers(&broker, options(&plugins)?)?;
    let dir = tempfile::tempdir()?;
    let ledgers = Ledgers::new(&broker, "ledger-zombies", dir.path())?;
    let mut events = Events::new(&broker, &ledgers.rig.input)?;
    events.produce(5_000, &mut seed)?;
    ledgers.create(workers.rest(0), 2)?;
    for round in 0..rounds(2) {
        events.produce(3_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..2_000)));
        let victim = seed.random_range(0..2);
        hold(&workers, round, victim, &mut events, &mut seed)?;
    }
    events.finish(PARTITIONS)?;
    ledgers.check(workers.rest(0), &broker).map_err(|error| workers.with_logs(error.to_string()))?;
    workers.stop()
}
