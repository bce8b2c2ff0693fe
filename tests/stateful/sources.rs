//! State in source tasks: records, state and source offsets are one transaction.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{Error, KafkaBroker, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_tests::COMMIT_STEPS;

use crate::events::values;
use crate::rig::{rounds, unique};

/// A file in which lines come again.
struct Lines {
    file: PathBuf,
    written: Vec<u64>,
    next: u64,
}

impl Lines {
    fn more(&mut self, count: usize, seed: &mut Seed) -> Result<()> {
        let mut text = String::new();
        for _ in 0..count {
            let number = if self.next > 0 && seed.random_range(0..3) == 0 {
                seed.random_range(0..self.next)
            } else {
                self.next += 1;
                self.next - 1
            };
            self.written.push(number);
            _ = writeln!(text, "line-{number}");
        }
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.file)?;
        Ok(file.write_all(text.as_bytes())?)
    }

    /// The first of each, in their order.
    fn expected(&self) -> Vec<String> {
        (0..self.next).map(|number| format!("line-{number}")).collect()
    }
}

struct Job {
    worker: TributaryWorker,
    name: String,
    lines: Lines,
}

impl Job {
    fn start(broker: &KafkaBroker, what: &str, options: WorkerOptions, more: &Value) -> Result<Self> {
        let name = unique(what);
        let options = options
            .set("exactly.once.source.support", "enabled")
            .set("offset.storage.replication.factor", "1")
            .set("group.id", &name);
        let worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
        let lines = Lines { file: worker.dir().join("lines"), written: Vec::new(), next: 0 };
        broker.create_topic(&name, 1, &[])?;
        let job = Self { worker, name, lines };
        job.put(more)?;
        Ok(job)
    }

    fn put(&self, more: &Value) -> Result<()> {
        let mut config = json!({
            "connector.class": "FileStreamSource", "file": self.lines.file, "topic": self.name, "batch.size": "200",
            "errors.restart.backoff.initial.ms": "50",
            "transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v",
            // The lines have no time; all of them are remembered.
            "transforms.once.eventtime.expr": "timestamp('2024-01-01T00:00:00Z')",
        });
        config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self.worker.rest().put_connector(&self.name, &config).map(drop)
    }

    /// Waits until the file is read to its end and committed, and compares.
    fn check(&self, broker: &KafkaBroker) -> Result<()> {
        let length = std::fs::metadata(&self.lines.file)?.len();
        let done = wait::until("the file's end is committed", 2 * wait::PATIENCE, || {
            let answer = self.worker.rest().get(&format!("/connectors/{}/offsets", self.name))?.ok()?;
            let status = self.worker.rest().status(&self.name)?;
            let position = answer["offsets"][0]["offset"]["position"].as_u64();
            if position == Some(length) {
                Ok(Some(()))
            } else {
                Err(Error::new(format!("{position:?} of {length}: {status}")))
            }
        });
        done.map_err(|error| self.worker.with_log(error.to_string()))?;
        let found = values(broker, &self.name)?.remove(&0).unwrap_or_default();
        let expected = self.lines.expected();
        if found != expected {
            let mut counts = BTreeMap::<&str, i32>::new();
            expected.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
            found.iter().for_each(|line| *counts.entry(line).or_default() += 1);
            counts.retain(|_, count| *count != 0);
            let some = counts.iter().take(10).collect::<Vec<_>>();
            let message =
                format!("{} lines where {} are expected; too many or too few: {some:?}", found.len(), expected.len());
            return Err(self.worker.with_log(message));
        }
        Ok(())
    }
}

fn boundary(seed: &mut Seed) -> Value {
    let boundary = if seed.random_range(0..2) == 0 { "poll" } else { "interval" };
    json!({"transaction.boundary": boundary, "transaction.boundary.interval.ms": seed.random_range(5..200).to_string()})
}

#[test]
fn killed_sources_remember_what_is_out_and_nothing_else() -> Result<()> {
    let mut seed = Seed::announce("kills of sources with state");
    let broker = KafkaBroker::shared()?;
    let mut job = Job::start(&broker, "source", WorkerOptions::default(), &boundary(&mut seed))?;
    for _ in 0..rounds(6) {
        job.lines.more(4_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1500)));
        job.worker.kill9()?;
        job.worker.spawn()?;
    }
    job.lines.more(1_000, &mut seed)?;
    job.check(&broker)?;
    // A worker without its files restores the state from the changelog.
    job.worker.stop()?;
    std::fs::remove_dir_all(job.worker.dir().join("data").join("state"))?;
    job.worker.spawn()?;
    job.lines.more(1_000, &mut seed)?;
    job.check(&broker)?;
    job.worker.stop()
}

/// A worker that dies between every two steps of the commit loop.
#[test]
fn deaths_at_every_step() -> Result<()> {
    let mut seed = Seed::announce("fail points of sources with state");
    let broker = KafkaBroker::shared()?;
    let place = tempfile::NamedTempFile::new()?.into_temp_path();
    let options = WorkerOptions::default().env("TRIBUTARY_TEST_FAIL_POINT", &format!("@{}", place.display()));
    let more = json!({"state.scope": "partition", "transaction.boundary": "interval", "transaction.boundary.interval.ms": "20"});
    let mut job = Job::start(&broker, "steps", options, &more)?;
    for side in ["before", "after"] {
        for step in COMMIT_STEPS {
            job.lines.more(1_000, &mut seed)?;
            job.worker.kill9()?;
            std::fs::write(&place, format!("{side}-{step}:1"))?;
            job.worker.spawn()?;
            let worker = &mut job.worker;
            let what = format!("the death {side}-{step}");
            let died = wait::until(&what, wait::PATIENCE, || Ok((!worker.is_running()).then_some(())));
            died.map_err(|error| job.worker.with_log(error.to_string()))?;
        }
    }
    std::fs::write(&place, "")?;
    job.worker.kill9()?;
    job.worker.spawn()?;
    job.lines.more(1_000, &mut seed)?;
    job.check(&broker)?;
    job.worker.stop()
}
