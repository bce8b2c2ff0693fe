//! State on the embedded log, where SQLite alone is the truth: a worker without a broker that is killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{Context, Error, Result, Seed, TributaryWorker, WorkerOptions, tributary, wait};
use tributary_plugin_ledger::Store;
use tributary_tests::install_plugin;

use crate::events::{DISORDER, SIZE, windows};
use crate::rig::{rounds, same};

/// Lines of which some come again.
struct Lines {
    file: PathBuf,
    /// Each once, in the order in which they were first written.
    once: Vec<String>,
    now: i64,
}

impl Lines {
    fn more(&mut self, count: usize, seed: &mut Seed) -> Result<()> {
        let mut text = String::new();
        for _ in 0..count {
            if !self.once.is_empty() && seed.random_range(0..4) == 0 {
                _ = writeln!(text, "{}", self.once[seed.random_range(0..self.once.len())]);
                continue;
            }
            self.now += seed.random_range(0..20);
            let (user, at, amount) =
                (seed.random_range(0..30), self.now - seed.random_range(0..DISORDER), seed.random_range(-100..1000));
            self.add(&mut text, user, at, amount);
        }
        self.append(&text)
    }

    /// Everything before is over.
    fn finish(&mut self) -> Result<()> {
        let mut text = String::new();
        self.add(&mut text, 1000, self.now + 1_000_000, 0);
        self.append(&text)
    }

    fn add(&mut self, text: &mut String, user: i64, at: i64, amount: i64) {
        let id = self.once.len();
        let line = format!(r#"{{"id":{id},"user":"user-{user}","at":{at},"amount":{amount}}}"#);
        _ = writeln!(text, "{line}");
        self.once.push(line);
    }

    fn append(&self, text: &str) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.file)?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

/// What is committed in a topic, in its order.
fn records(worker: &TributaryWorker, topic: &str) -> Result<Vec<String>> {
    let output = Command::new(tributary::binary()?)
        .args(["consume", topic, "--exit-at-end", "--format", "%v\\n", "--data-dir"])
        .arg(worker.dir().join("data"))
        .output()
        .context("cannot run tributary consume")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// A file → each line once → a topic → sums by user and window, in a topic and in a store of its own.
#[test]
fn kills_on_the_embedded_log() -> Result<()> {
    let mut seed = Seed::announce("kills of a worker with state on the embedded log");
    let plugins = tempfile::tempdir()?;
    install_plugin(plugins.path(), "ledger")?;
    let options = WorkerOptions::default()
        .set("plugin.path", &plugins.path().display().to_string())
        .set("exactly.once.source.support", "enabled")
        .set("offset.flush.interval.ms", "200");
    let mut worker = TributaryWorker::start_with("embedded", options)?;
    let mut lines = Lines { file: worker.dir().join("lines"), once: Vec::new(), now: 1_700_000_000_000 };
    let ledger = worker.dir().join("sums.db");
    lines.more(3_000, &mut seed)?;
    let rest = worker.rest();
    rest.put_connector(
        "events",
        &json!({
            "connector.class": "FileStreamSource", "file": lines.file, "topic": "events", "batch.size": "200",
            "errors.restart.backoff.initial.ms": "50", "transaction.boundary": "interval",
            "transaction.boundary.interval.ms": "50",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v",
            "transforms.once.eventtime.expr": "timestamp('2024-01-01T00:00:00Z')",
        }),
    )?;
    wait::until("the topic", wait::PATIENCE, || Ok((!records(&worker, "events")?.is_empty()).then_some(())))?;
    let sums = json!({
        "topics": "events", "errors.restart.backoff.initial.ms": "50",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
        "transforms": "sums", "transforms.sums.type": "Aggregate", "transforms.sums.key": "v.user",
        "transforms.sums.window": "tumbling", "transforms.sums.size.ms": SIZE,
        "transforms.sums.aggs": "n:count(), total:sum(v.amount)", "transforms.sums.eventtime.expr": "v.at",
        "transforms.sums.eventtime.max.out.of.orderness.ms": DISORDER,
        "connector.class": "KafkaSink", "topic": "sums", "transaction.interval.ms": 50,
    });
    rest.put_connector("sums", &sums)?;
    let mut stored = sums;
    stored["connector.class"] = json!("com.example.LedgerSink");
    stored["file"] = json!(ledger);
    stored.as_object_mut().expect("an object").retain(|key, _| key != "topic" && key != "transaction.interval.ms");
    rest.put_connector("stored", &stored)?;
    for _ in 0..rounds(6) {
        lines.more(3_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1500)));
        worker.kill9()?;
        worker.spawn()?;
    }
    lines.more(1_000, &mut seed)?;
    lines.finish()?;
    let expected = windows(&BTreeMap::from([(0, lines.once.clone())]));
    let in_store = || {
        let store = Store::open(&ledger.display().to_string());
        let mut lines = store.and_then(|store| store.lines()).map_err(|error| Error::new(error.to_string()))?;
        lines.sort();
        Ok::<_, Error>(lines)
    };
    let in_topic = || {
        let mut found = records(&worker, "sums")?;
        found.sort();
        Ok::<_, Error>(found)
    };
    let check = || {
        same("lines once", &records(&worker, "events")?, &lines.once)?;
        same("sums in the topic", &in_topic()?, &expected)?;
        same("sums in the store", &in_store()?, &expected)
    };
    let done = wait::until("the results of a batch", 2 * wait::PATIENCE, || check().map(Some));
    done.map_err(|error| worker.with_log(error.to_string()))?;
    // What is still on its way would be too much.
    thread::sleep(Duration::from_secs(2));
    check().map_err(|error| worker.with_log(error.to_string()))?;
    assert_eq!(expected.len(), expected.iter().collect::<BTreeSet<_>>().len());
    worker.stop()
}
