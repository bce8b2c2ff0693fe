//! The same jobs as connectors, and what only Tributary is asked about.

use std::time::Duration;

use serde_json::{Value, json};
use tributary_harness::process::ScratchDir;
use tributary_harness::{Context, Error, KafkaBroker, Lines, Result, TributaryWorker, WorkerOptions, wait};

use super::Job;
use super::events::WINDOW;
use super::watched::{Run, Watched};
use crate::pace::Watch;

/// How long an id is remembered, in milliseconds.
const TTL: i64 = 3_600_000;
const LIMIT: Duration = Duration::from_secs(300);

/// A connector that does the job.
fn connector(job: Job, input: &str, output: &str, max_bytes: Option<u64>) -> Value {
    let mut config = json!({
        "connector.class": "KafkaSink", "topics": input, "topic": output, "tasks.max": 1,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
        "transforms": "it",
    });
    let more = match job {
        Job::First => {
            json!({"transforms.it.type": "Deduplicate", "transforms.it.key": "v.id", "transforms.it.ttl.ms": TTL})
        }
        Job::Windows => json!({
            "transforms.it.type": "Aggregate", "transforms.it.key": "v.user", "transforms.it.window": "tumbling",
            "transforms.it.size.ms": WINDOW, "transforms.it.aggs": "n:count(), total:sum(v.amount)",
        }),
    };
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    if let Some(bytes) = max_bytes {
        config["transforms.it.state.max.bytes"] = bytes.into();
    }
    config
}

/// What a connector took.
pub struct Outcome {
    pub run: Run,
    /// It still has the connector.
    pub worker: TributaryWorker,
    /// The most bytes of memory that the state took, as the worker counts them; only with a bound.
    pub state: u64,
}

/// A worker of its own does the job.
pub fn run(
    broker: &KafkaBroker,
    job: Job,
    input: &str,
    output: &str,
    records: u64,
    max_bytes: Option<u64>,
) -> Result<Outcome> {
    let worker = TributaryWorker::start(broker)?;
    let watched = Watched::new(broker, &format!("connect-{output}"), input, records)?;
    let config = connector(job, input, output, max_bytes);
    let mut state = 0;
    let look = || {
        if max_bytes.is_some() {
            state = state_bytes(&worker)?.max(state);
        }
        Ok(())
    };
    let run = watched.follow_and_look(worker.pid()?, || worker.rest().put_connector(output, &config).map(drop), look);
    let run = run.map_err(|error| worker.with_log(error.to_string()))?;
    Ok(Outcome { run, worker, state })
}

/// Seconds that a worker with the state of a connector needs to have it again: from its file, and from the changelog alone.
pub fn restore(worker: &mut TributaryWorker, name: &str) -> Result<(f64, f64)> {
    worker.stop()?;
    let mut again = |forget: bool, records: &str| -> Result<f64> {
        if forget {
            std::fs::remove_dir_all(worker.dir().join("data/state"))?;
        }
        let known = worker.log().len();
        worker.restart()?;
        worker.wait_running(name)?;
        let line = wait::until("the state to be restored", LIMIT, || {
            let log = worker.log();
            Ok(log[known..].lines().find(|line| line.contains("the state is restored")).map(str::to_owned))
        })?;
        worker.stop()?;
        if !line.contains(records) {
            return Err(Error::new(format!("not what was to be measured: {line}")));
        }
        seconds(&line).context(format_args!("no time in {line}"))
    };
    let file = again(false, "whole=false")?;
    let changelog = again(true, "whole=true")?;
    Ok((file, changelog))
}

/// The time in `the state is restored, in 12.5ms …`.
fn seconds(line: &str) -> Option<f64> {
    let text = line.split_once("the state is restored, in ")?.1;
    let text = text.split([' ', '"', ',']).next()?;
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..unit].parse().ok()?;
    Some(match &text[unit..] {
        "s" => number,
        "ms" => number / 1e3,
        "ns" => number / 1e9,
        _ => number / 1e6,
    })
}

/// Memory that the state takes, as the worker counts it; 0 before there is any.
fn state_bytes(worker: &TributaryWorker) -> Result<u64> {
    let metrics = worker.rest().get("/metrics")?.body;
    let lines = metrics.as_str().unwrap_or_default().lines();
    let mut lines = lines.filter(|line| line.starts_with("tributary_task_state_bytes_in_memory"));
    let value = lines.next().and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    Ok(value.parse::<f64>().context("a metric that is no number")? as u64)
}

/// Records a second of a file source that reads these lines into a topic, exactly once or at least once.
pub fn source(broker: &KafkaBroker, exactly_once: bool, lines: &Lines, topic: &str) -> Result<f64> {
    let mut options = WorkerOptions::default().set("group.id", topic).set("offset.storage.replication.factor", "1");
    if exactly_once {
        options = options.set("exactly.once.source.support", "enabled");
    }
    let worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let dir = ScratchDir::new("bench-source")?;
    let file = dir.path().join("input");
    lines.write(&file)?;
    broker.create_topic(topic, 1, &[])?;
    let mut config = json!({"connector.class": "FileStreamSource", "file": file, "topic": topic});
    if exactly_once {
        config["exactly.once.support"] = "required".into();
        config["transaction.boundary"] = "interval".into();
        config["transaction.boundary.interval.ms"] = 1000.into();
    }
    let mut watch = Watch::start();
    worker.rest().put_connector(topic, &config)?;
    let done = wait::until("all lines in the topic", LIMIT, || {
        let done = broker.record_count(topic)?;
        watch.see(done, lines.count());
        Ok((done >= lines.count()).then_some(()))
    });
    done.map_err(|error| worker.with_log(error.to_string()))?;
    let rate = watch.stop().rate(lines.count());
    let mut checker = tributary_harness::Checker::new([lines]);
    tributary_harness::checker::read_topic(broker, topic, |partition, value| {
        checker.line(partition, value.unwrap_or_default());
    })?;
    checker.finish().exactly_once()?;
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn reads_the_time_of_a_restore() {
        assert_eq!(seconds("INFO the state is restored, in 1.25s shard=0"), Some(1.25));
        assert_eq!(seconds("the state is restored, in 12.5ms"), Some(0.0125));
        assert_eq!(seconds("nothing"), None);
    }
}
