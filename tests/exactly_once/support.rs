//! Sources with files, and what is in their topics.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tributary_harness::checker::Report;
use tributary_harness::{
    Checker, Context, Error, KafkaBroker, Lines, Rest, Result, TributaryWorker, WorkerOptions, tributary, wait,
};

/// A name that no other test of the shared broker has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("eos-{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Options of a worker whose sources deliver exactly once.
pub fn exactly_once() -> WorkerOptions {
    WorkerOptions::default().set("exactly.once.source.support", "enabled").set("offset.storage.replication.factor", "1")
}

/// A standalone worker with a file source.
pub struct Job {
    pub worker: TributaryWorker,
    pub topic: String,
    pub lines: Lines,
    pub name: String,
    input: PathBuf,
    /// The place at which the worker dies, or nothing.
    fail_point: PathBuf,
}

impl Job {
    /// Starts a worker, without the source yet.
    pub fn start(bootstrap: &str) -> Result<Self> {
        let name = unique("standalone");
        let place = tempfile::NamedTempFile::new()?.into_temp_path().keep().context("a file for the fail point")?;
        let options = exactly_once()
            .set("group.id", &name)
            .set("offset.flush.interval.ms", "100")
            .env("TRIBUTARY_TEST_FAIL_POINT", &format!("@{}", place.display()));
        let worker = TributaryWorker::start_with(bootstrap, options)?;
        let input = worker.dir().join("input");
        Ok(Self { worker, topic: name.clone(), lines: Lines::new(0), name, input, fail_point: place })
    }

    /// Creates the source with further config, or changes it.
    pub fn create(&self, more: Value) -> Result<()> {
        let mut config = json!({
            "connector.class": "FileStreamSource", "file": self.input, "topic": self.topic, "batch.size": "500",
            "errors.restart.backoff.initial.ms": "50",
        });
        config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self.worker.rest().put_connector(&self.name, &config).map(drop)
    }

    /// Adds so many lines to the file.
    pub fn more(&mut self, count: u64) -> Result<()> {
        let before = self.lines.count();
        self.lines = Lines::new(before + count);
        self.lines.clone().with_numbers(before..before + count).append(&self.input)
    }

    /// From the next start on, the worker dies there; empty: nowhere.
    pub fn die_at(&self, place: &str) -> Result<()> {
        Ok(std::fs::write(&self.fail_point, place)?)
    }

    /// Waits until all lines are in the topic, and judges: each once, whole, in order. The stored offset agrees with them.
    /// Without a broker, the log is the embedded one.
    pub fn check(&self, broker: Option<&KafkaBroker>) -> Result<Report> {
        let expected = usize::try_from(self.lines.count()).expect("a small number");
        let found = wait::until("all lines in the topic", 2 * wait::PATIENCE, || {
            let count = count(broker, &self.worker, &self.topic)?;
            if count >= expected { Ok(Some(())) } else { Err(Error::new(format!("{count} of {expected} lines"))) }
        });
        found.map_err(|error| self.worker.with_log(error.to_string()))?;
        let report = judge(broker, &self.worker, &self.topic, &self.lines)?;
        report.exactly_once().map_err(|error| self.worker.with_log(error.to_string()))?;
        let offset = position(self.worker.rest(), &self.name)?;
        if offset != Some(self.lines.bytes()) {
            return Err(self.worker.with_log(format!("the offset is {offset:?}, the file has {}", self.lines.bytes())));
        }
        Ok(report)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.fail_point);
    }
}

/// The position that is stored for the only file of a source.
pub fn position(rest: &Rest, name: &str) -> Result<Option<u64>> {
    let answer = rest.get(&format!("/connectors/{name}/offsets"))?.ok()?;
    Ok(answer["offsets"][0]["offset"]["position"].as_u64())
}

/// How many committed records a topic has.
pub fn count(broker: Option<&KafkaBroker>, worker: &TributaryWorker, topic: &str) -> Result<usize> {
    let mut count = 0;
    each(broker, worker, topic, |_, _| count += 1)?;
    Ok(count)
}

/// What is committed in a topic, compared with what was sent.
pub fn judge(broker: Option<&KafkaBroker>, worker: &TributaryWorker, topic: &str, lines: &Lines) -> Result<Report> {
    let mut checker = Checker::new([lines]);
    each(broker, worker, topic, |partition, line| checker.line(partition, line))?;
    Ok(checker.finish())
}

/// Reads a topic's committed records: on Kafka by a client of the tests' own, on the embedded log by the command line.
pub fn each(
    broker: Option<&KafkaBroker>,
    worker: &TributaryWorker,
    topic: &str,
    mut each: impl FnMut(i32, &[u8]),
) -> Result<()> {
    match broker {
        Some(broker) => {
            if broker.watermarks(topic).is_err() {
                return Ok(());
            }
            tributary_harness::checker::read_topic(broker, topic, |partition, value| {
                each(partition, value.unwrap_or(b"a null value"));
            })
        }
        None => {
            let output = Command::new(tributary::binary()?)
                .args(["consume", topic, "--exit-at-end", "--format", "%p %v\\n", "--data-dir"])
                .arg(worker.dir().join("data"))
                .output()
                .context("cannot run tributary consume")?;
            for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let partition = line.first().map_or(0, |byte| i32::from(byte.saturating_sub(b'0')));
                each(partition, line.get(2..).unwrap_or_default());
            }
            Ok(())
        }
    }
}
