//! A whole Kafka Connect worker stops, Tributary goes on with what it left, and hands it back: the same properties, the same
//! three topics, the same files.

use std::path::Path;

use serde_json::{Value, json};
use tributary_harness::{Checker, ConnectOptions, ConnectWorker, Error, KafkaBroker, Lines, Rest, Result, wait};
use tributary_tests::Workers;

const JOBS: u32 = 3;

/// Pairs of a file source and a file sink.
struct Files<'a> {
    dir: &'a Path,
    group: &'a str,
}

impl Files<'_> {
    fn lines(&self, number: u32, until: u64) -> Lines {
        Lines::new(until).of_source(number)
    }

    fn file(&self, kind: &str, number: u32) -> std::path::PathBuf {
        self.dir.join(format!("{kind}-{number}"))
    }

    fn topic(&self, number: u32) -> String {
        format!("{}-lines-{number}", self.group)
    }

    fn name(&self, kind: &str, number: u32) -> String {
        format!("{}-{kind}-{number}", self.group)
    }

    fn names(&self) -> Vec<String> {
        (0..JOBS).flat_map(|number| [self.name("in", number), self.name("out", number)]).collect()
    }

    fn create(&self, rest: &Rest) -> Result<()> {
        for number in 0..JOBS {
            let topic = self.topic(number);
            let source = json!({"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
                "tasks.max": "1", "file": self.file("input", number), "topic": topic});
            let sink = json!({"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
                "tasks.max": "1", "file": self.file("output", number), "topics": topic});
            for (direction, config) in [("in", source), ("out", sink)] {
                after_rebalance(|| rest.put_connector(&self.name(direction, number), &config))?;
            }
        }
        self.names().iter().try_for_each(|name| rest.wait_running(name))
    }

    fn add(&self, numbers: std::ops::Range<u64>) -> Result<()> {
        (0..JOBS).try_for_each(|number| {
            let lines = self.lines(number, numbers.end).with_numbers(numbers.clone());
            lines.append(&self.file("input", number))
        })
    }

    fn wait_delivered(&self, until: u64) -> Result<()> {
        for number in 0..JOBS {
            let mut last = self.lines(number, until).last().ok_or("no lines")?;
            last.push(b'\n');
            wait::until(&format!("the last line of job {number}"), 2 * wait::PATIENCE, || {
                let written = std::fs::read(self.file("output", number)).unwrap_or_default();
                if written.ends_with(&last) {
                    Ok(Some(()))
                } else {
                    Err(Error::new(format!("{} bytes", written.len())))
                }
            })?;
        }
        Ok(())
    }

    /// What any worker of the group has to say about the connectors, but for who runs them.
    fn told(&self, rest: &Rest) -> Result<Vec<Value>> {
        let mut told = Vec::new();
        for name in self.names() {
            for path in ["", "/tasks", "/topics"] {
                let path = format!("/connectors/{name}{path}");
                told.push(after_rebalance(|| rest.get(&path)?.ok())?);
            }
        }
        Ok(told)
    }

    /// The offsets when everything was read, once the last commit has come.
    fn wait_offsets(&self, rest: &Rest, until: u64) -> Result<()> {
        for number in 0..JOBS {
            let (bytes, name) = (self.lines(number, until).bytes(), self.name("in", number));
            wait::until(&format!("the offset of {name}"), wait::PATIENCE, || {
                let offsets = rest.get(&format!("/connectors/{name}/offsets"))?.ok()?;
                let found = offsets["offsets"][0]["offset"]["position"].as_u64();
                if found == Some(bytes) { Ok(Some(())) } else { Err(Error::new(format!("{offsets}, not {bytes}"))) }
            })?;
            let (name, partition) =
                (self.name("out", number), json!({"kafka_topic": self.topic(number), "kafka_partition": 0}));
            wait::until(&format!("the offset of {name}"), wait::PATIENCE, || {
                let offsets = rest.get(&format!("/connectors/{name}/offsets"))?.ok()?;
                let own = &offsets["offsets"][0];
                let done = own["partition"] == partition && own["offset"]["kafka_offset"] == until;
                if done { Ok(Some(())) } else { Err(Error::new(format!("{offsets}, not {until}"))) }
            })?;
        }
        Ok(())
    }
}

/// Connect refuses requests, even reads, for as long as it rebalances.
fn after_rebalance<T>(request: impl Fn() -> Result<T>) -> Result<T> {
    wait::until("the end of the rebalance", wait::PATIENCE, || request().map(Some))
}

#[test]
fn a_connect_cluster_is_taken_over_and_handed_back() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let dir = tempfile::tempdir()?;
    let group = format!("taken-{}", std::process::id());
    let files = Files { dir: dir.path(), group: &group };
    let mut options = ConnectOptions::default().small().set("group.id", &group).set("offset.flush.interval.ms", "300");
    for store in ["config", "offset", "status"] {
        options = options.set(&format!("{store}.storage.topic"), &format!("{group}-{store}"));
    }
    files.add(0..5_000)?;
    let mut connect = ConnectWorker::start_with(&broker, options)?;
    files.create(connect.rest())?;
    files.wait_delivered(5_000)?;
    files.wait_offsets(connect.rest(), 5_000)?;
    let paused = files.name("in", 2);
    after_rebalance(|| connect.rest().put(&format!("/connectors/{paused}/pause"), &Value::Null)?.ok())?;
    connect.rest().wait_state(&paused, "PAUSED")?;
    let told = files.told(connect.rest())?;
    connect.stop()?;

    files.add(5_000..9_000)?;
    let mut workers = Workers::in_group(&group, &broker.bootstrap(), 2, Default::default())?;
    for number in 0..2 {
        assert_eq!(files.told(workers.rest(number))?, told, "worker {number}");
    }
    workers.rest(1).wait_state(&paused, "PAUSED")?;
    workers.rest(1).put(&format!("/connectors/{paused}/resume"), &Value::Null)?.ok()?;
    workers.wait_running(0, &files.names())?;
    files.wait_delivered(9_000).map_err(|error| workers.with_logs(error.to_string()))?;
    files.wait_offsets(workers.rest(0), 9_000)?;
    // What is changed here is changed there.
    let changed = format!("/connectors/{}/config", files.name("in", 0));
    let config = workers.rest(1).patch(&changed, &json!({"batch.size": "777"}))?.ok()?;
    assert_eq!(config["config"]["batch.size"], "777");
    workers.wait_running(0, &files.names())?;
    workers.rest(0).put(&format!("/connectors/{}/stop", files.name("in", 1)), &Value::Null)?.ok()?;
    wait::until("the connector to stop", wait::PATIENCE, || {
        let status = workers.rest(0).status(&files.name("in", 1))?;
        Ok((status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([])).then_some(()))
    })?;
    workers.stop()?;

    files.add(9_000..12_000)?;
    connect.restart()?;
    let config = after_rebalance(|| connect.rest().get(&changed)?.ok())?;
    assert_eq!(config["batch.size"], "777");
    let stopped = connect.rest().status(&files.name("in", 1))?;
    assert_eq!((&stopped["connector"]["state"], &stopped["tasks"]), (&json!("STOPPED"), &json!([])), "{stopped}");
    let resume = format!("/connectors/{}/resume", files.name("in", 1));
    after_rebalance(|| connect.rest().put(&resume, &Value::Null)?.ok())?;
    files.names().iter().try_for_each(|name| connect.rest().wait_running(name))?;
    files.wait_delivered(12_000)?;
    files.wait_offsets(connect.rest(), 12_000)?;
    // All of them stopped in order: nothing came twice, wherever it was handed over.
    for number in 0..JOBS {
        let lines = files.lines(number, 12_000);
        Checker::new([&lines]).topic(&broker, &files.topic(number))?.exactly_once()?;
        Checker::new([&lines]).file(&files.file("output", number))?.exactly_once()?;
    }
    connect.stop()
}
