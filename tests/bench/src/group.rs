//! What a group of workers costs and how quickly it does things, beside Kafka Connect on the same broker.
//!
//! ```text
//! cargo run --release -p tributary-bench -- group
//! ```
//!
//! Idle sink connectors: each has a topic to read in which nothing happens until the end of the measurement.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tributary_harness::process::ScratchDir;
use tributary_harness::{
    BrokerOptions, ConnectOptions, ConnectWorker, Error, KafkaBroker, Rest, Result, TributaryWorker, Usage,
    WorkerOptions, wait,
};

/// How long idle workers are watched.
const IDLE: Duration = Duration::from_secs(20);
/// What is waited for at most.
const LIMIT: Duration = Duration::from_secs(600);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Connectors of the pair of workers.
    #[arg(long, default_value_t = 100)]
    connectors: usize,
    /// Connectors of the worker that has many; 0 leaves that out.
    #[arg(long, default_value_t = 1000)]
    many: usize,
    /// Records in the config topic for the start.
    #[arg(long, default_value_t = 10_000)]
    records: usize,
    /// Leaves Kafka Connect out.
    #[arg(long)]
    alone: bool,
}

enum Worker {
    Connect(Box<ConnectWorker>),
    Tributary(Box<TributaryWorker>),
}

impl Worker {
    fn prepare(connect: bool, broker: &KafkaBroker, group: &str) -> Result<Self> {
        if connect {
            let mut options = ConnectOptions::default().set("group.id", group);
            for store in ["config", "offset", "status"] {
                options = options.set(&format!("{store}.storage.topic"), &format!("{group}-{store}"));
            }
            return ConnectWorker::prepare(broker, options).map(|worker| Self::Connect(Box::new(worker)));
        }
        let options = WorkerOptions::default().group(group);
        TributaryWorker::prepare(&broker.bootstrap(), options).map(|worker| Self::Tributary(Box::new(worker)))
    }

    fn start(connect: bool, broker: &KafkaBroker, group: &str) -> Result<Self> {
        let mut worker = Self::prepare(connect, broker, group)?;
        match &mut worker {
            Self::Connect(worker) => worker.restart()?,
            Self::Tributary(worker) => worker.restart()?,
        }
        Ok(worker)
    }

    fn spawn(&mut self) -> Result<()> {
        match self {
            Self::Connect(worker) => worker.spawn(),
            Self::Tributary(worker) => worker.spawn(),
        }
    }

    fn rest(&self) -> &Rest {
        match self {
            Self::Connect(worker) => worker.rest(),
            Self::Tributary(worker) => worker.rest(),
        }
    }

    fn usage(&self) -> Result<Usage> {
        match self {
            Self::Connect(worker) => worker.usage(),
            Self::Tributary(worker) => worker.usage(),
        }
    }

    fn kill(&mut self) -> Result<()> {
        match self {
            Self::Connect(worker) => worker.kill9(),
            Self::Tributary(worker) => worker.kill9(),
        }
    }

    fn stop(&mut self) -> Result<()> {
        match self {
            Self::Connect(worker) => worker.stop(),
            Self::Tributary(worker) => worker.stop(),
        }
    }
}

/// The report, as Markdown.
pub fn run(settings: &Settings) -> Result<String> {
    let broker = KafkaBroker::start_with(BrokerOptions::for_benchmark())?;
    broker.create_topic("idle", 1, &[])?;
    let mut report = String::from("| workers | measured | |\n|---|---|---|\n");
    for connect in [true, false].into_iter().filter(|connect| !(*connect && settings.alone)) {
        let name = if connect { "Kafka Connect 4.3.1" } else { "Tributary" };
        let mut row = |what: &str, value: String| {
            eprintln!("{name}: {what}: {value}");
            let _ = writeln!(report, "| {name} | {what} | {value} |");
        };
        pair(connect, &broker, settings.connectors, &mut row)?;
        if !connect {
            if settings.many > 0 {
                many(&broker, settings.many, &mut row)?;
            }
            start(&broker, settings.records, &mut row)?;
        }
    }
    Ok(report)
}

fn create(rest: &Rest, group: &str, number: usize, dir: &std::path::Path) -> Result<()> {
    let config = json!({"connector.class": "FileStreamSink", "topics": "idle", "file": dir.join(number.to_string())});
    rest.put_connector(&format!("{group}-{number}"), &config).map(drop)
}

/// Running tasks by worker.
fn running(rest: &Rest) -> Result<Vec<(String, usize)>> {
    let all = rest.get("/connectors?expand=status")?.ok()?;
    let mut counts = std::collections::BTreeMap::new();
    for parts in all.as_object().into_iter().flat_map(|all| all.values()) {
        let status = &parts["status"];
        if status["connector"]["state"] != "RUNNING" {
            continue;
        }
        for task in status["tasks"].as_array().into_iter().flatten().filter(|task| task["state"] == "RUNNING") {
            *counts.entry(task["worker_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    Ok(counts.into_iter().collect())
}

fn wait_running(rest: &Rest, count: usize, workers: usize) -> Result<()> {
    wait::until(&format!("{count} tasks on {workers} workers"), LIMIT, || {
        let counts = running(rest)?;
        let sum: usize = counts.iter().map(|(_, count)| count).sum();
        let spread =
            counts.len() == workers && counts.iter().all(|(_, n)| n.abs_diff(count / workers) <= count / 10 + 1);
        if sum == count && spread { Ok(Some(())) } else { Err(Error::new(format!("{counts:?}"))) }
    })
}

fn idle(workers: &[&Worker]) -> Result<(f64, u64, u64)> {
    thread::sleep(Duration::from_secs(5));
    let cpu = || workers.iter().map(|worker| worker.usage().map(|usage| usage.cpu)).sum::<Result<Duration>>();
    let (begun, before) = (Instant::now(), cpu()?);
    thread::sleep(IDLE);
    let share = (cpu()? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let usages = workers.iter().map(|worker| worker.usage()).collect::<Result<Vec<_>>>()?;
    Ok((share, usages.iter().map(|usage| usage.rss).sum(), usages.iter().map(|usage| usage.threads).sum()))
}

fn weight((share, rss, threads): (f64, u64, u64)) -> String {
    format!("{:.0} MB, {threads} threads, {:.1} % of a core idle", rss as f64 / 1e6, share * 100.0)
}

/// A pair of workers: creating, weight, one more, one less.
fn pair(connect: bool, broker: &KafkaBroker, count: usize, row: &mut impl FnMut(&str, String)) -> Result<()> {
    let group = if connect { "bench-connect" } else { "bench-tributary" };
    let dir = ScratchDir::new("bench-group")?;
    let mut first = Worker::start(connect, broker, group)?;
    let second = Worker::start(connect, broker, group)?;
    // What the first connector pays for all.
    create(first.rest(), group, count, dir.path())?;
    wait_running(first.rest(), 1, 1)?;
    first.rest().delete_connector(&format!("{group}-{count}"))?;
    let begun = Instant::now();
    for number in 0..count {
        create(first.rest(), group, number, dir.path())?;
    }
    let created = begun.elapsed();
    wait_running(second.rest(), count, 2)?;
    row(
        &format!("{count} connectors created, until all RUNNING"),
        format!("{:.2} s, {:.2} s", created.as_secs_f64(), begun.elapsed().as_secs_f64()),
    );
    row(&format!("{count} idle sink connectors on two workers"), weight(idle(&[&first, &second])?));

    let mut third = Worker::prepare(connect, broker, group)?;
    let begun = Instant::now();
    third.spawn()?;
    wait_running(first.rest(), count, 3)?;
    row("one more worker, from its start until balanced", format!("{:.2} s", begun.elapsed().as_secs_f64()));

    let begun = Instant::now();
    third.stop()?;
    wait_running(first.rest(), count, 2)?;
    row("SIGTERM of a worker, until the others run everything", format!("{:.2} s", begun.elapsed().as_secs_f64()));

    let begun = Instant::now();
    first.kill()?;
    produce(broker, "idle")?;
    wait_running(second.rest(), count, 1)?;
    let running = begun.elapsed();
    let past =
        || (0..count).all(|number| dir.path().join(number.to_string()).metadata().is_ok_and(|file| file.len() > 0));
    wait::until("every sink to have written the record", LIMIT, || Ok(past().then_some(())))?;
    row(
        "kill -9 of a worker, until everything is RUNNING, and past a record that came after the kill",
        format!("{:.2} s, {:.2} s", running.as_secs_f64(), begun.elapsed().as_secs_f64()),
    );
    Ok(())
}

/// Many connectors on one worker.
fn many(broker: &KafkaBroker, count: usize, row: &mut impl FnMut(&str, String)) -> Result<()> {
    let dir = ScratchDir::new("bench-many")?;
    let worker = Worker::start(false, broker, "bench-many")?;
    let begun = Instant::now();
    for number in 0..count {
        create(worker.rest(), "bench-many", number, dir.path())?;
    }
    wait_running(worker.rest(), count, 1)?;
    row(
        &format!("{count} connectors on one worker, until all RUNNING"),
        format!("{:.2} s", begun.elapsed().as_secs_f64()),
    );
    row(&format!("{count} idle sink connectors on one worker"), weight(idle(&[&worker])?));
    let mut second = Worker::prepare(false, broker, "bench-many")?;
    let begun = Instant::now();
    second.spawn()?;
    wait_running(worker.rest(), count, 2)?;
    row(
        &format!("a second worker for {count} connectors, from its start until balanced"),
        format!("{:.2} s", begun.elapsed().as_secs_f64()),
    );
    Ok(())
}

/// From the start of a worker to the first answer, with a config topic that has a history.
fn start(broker: &KafkaBroker, records: usize, row: &mut impl FnMut(&str, String)) -> Result<()> {
    let group = "bench-start";
    let mut worker = Worker::start(false, broker, group)?;
    // Paused, so that only configs are written; each change is a record.
    let config = |n: usize| json!({"name": "changing", "config": {"connector.class": "FileStreamSink", "topics": "idle", "file": "/dev/null", "version": n.to_string()}, "initial_state": "PAUSED"});
    worker.rest().post("/connectors", &config(0))?.ok()?;
    while broker.record_count(&format!("{group}-config"))? < records as u64 {
        for n in 0..200 {
            let mut config = config(n)["config"].clone();
            config["name"] = "changing".into();
            worker.rest().put("/connectors/changing/config", &config)?.ok()?;
        }
    }
    for (what, forget) in [("with what it remembers", false), ("with an empty data directory", true)] {
        worker.stop()?;
        if forget && let Worker::Tributary(worker) = &worker {
            std::fs::remove_dir_all(worker.dir().join("data"))?;
        }
        let begun = Instant::now();
        worker.spawn()?;
        while worker.rest().get("/connectors").and_then(|answer| answer.ok()).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
        let answered = begun.elapsed();
        wait::until("the worker to be in its group", LIMIT, || {
            Ok((worker.rest().get("/health")?.status == 200).then_some(()))
        })?;
        row(
            &format!(
                "start with {records} records in the config topic, {what}, to the first answer, and into the group"
            ),
            format!("{:.2} s, {:.2} s", answered.as_secs_f64(), begun.elapsed().as_secs_f64()),
        );
    }
    Ok(())
}

fn produce(broker: &KafkaBroker, topic: &str) -> Result<()> {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let producer: BaseProducer = broker.client().create()?;
    producer.send(BaseRecord::<str, str>::to(topic).payload("a record")).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(30))?;
    Ok(())
}
