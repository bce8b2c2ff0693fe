//! What a group of workers costs and how quickly it does things, beside Kafka Connect on the same broker.
//!
//! ```text
//! cargo run --release -p tributary-bench -- group
//! ```
//!
//! Idle sink connectors: each has a topic to read in which nothing happens until the end of the measurement. Kafka Connect
//! runs with `scheduled.rebalance.max.delay.ms=0`, without which it waits five minutes for a worker that has gone; everything
//! else is as it is by default.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tributary_harness::process::ScratchDir;
use tributary_harness::{
    BrokerOptions, ConnectOptions, ConnectWorker, Error, KafkaBroker, Rest, Result, TributaryWorker, Usage,
    WorkerOptions, wait,
};

use crate::contender::Contender;
use crate::figures::{Figures, Target};

/// How long idle workers settle, and how long they are watched then.
const SETTLE: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(20);
/// What is waited for at most.
const LIMIT: Duration = Duration::from_secs(300);
/// Clients that make connectors at the same time, where it is not one.
const CLIENTS: usize = 10;
/// `session.timeout.ms` as it is by default, in seconds.
const SESSION: f64 = 10.0;

/// Connectors whose configs have a history.
const HISTORIES: usize = 100;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Connectors of the pair of workers.
    #[arg(long, default_value_t = Self::default().connectors)]
    pub connectors: usize,
    /// Connectors of the worker that has many; 0 leaves that out.
    #[arg(long, default_value_t = Self::default().many)]
    pub many: usize,
    /// Records in the config topic for the start; 0 leaves that out.
    #[arg(long, default_value_t = Self::default().records)]
    pub records: usize,
    /// Leaves Kafka Connect out.
    #[arg(long)]
    pub alone: bool,
    /// Leaves the pair of workers out.
    #[arg(long)]
    pub no_pair: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connectors: 100, many: 1000, records: 10_000, alone: false, no_pair: false }
    }
}

enum Worker {
    Connect(Box<ConnectWorker>),
    Tributary(Box<TributaryWorker>),
}

impl Worker {
    fn prepare(connect: bool, broker: &KafkaBroker, group: &str) -> Result<Self> {
        if connect {
            let mut options =
                ConnectOptions::default().set("group.id", group).set("scheduled.rebalance.max.delay.ms", "0");
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

/// Measures what the settings say.
pub fn run(settings: &Settings) -> Result<Figures> {
    let broker = KafkaBroker::start_with(BrokerOptions::for_benchmark())?;
    broker.create_topic("idle", 1, &[])?;
    let mut figures = Figures::default();
    for connect in [true, false].into_iter().filter(|connect| !(*connect && settings.alone)) {
        if !settings.no_pair {
            pair(connect, &broker, settings.connectors, &mut figures)?;
        }
    }
    if settings.many > 0 {
        many(&broker, settings.many, &mut figures)?;
    }
    if settings.records > 0 {
        start(&broker, settings.records, &mut figures)?;
    }
    Ok(figures)
}

fn contender(connect: bool) -> Contender {
    if connect { Contender::Connect } else { Contender::Tributary }
}

fn name(group: &str, number: usize) -> String {
    format!("{group}-{number}")
}

fn create(rest: &Rest, group: &str, number: usize, dir: &Path) -> Result<()> {
    let config = json!({"connector.class": "FileStreamSink", "topics": "idle", "file": dir.join(number.to_string())});
    rest.put_connector(&name(group, number), &config).map(drop)
}

/// Several clients at the same time, each one connector after the other.
fn create_all(rest: &Rest, group: &str, count: usize, clients: usize, dir: &Path) -> Result<()> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let numbers = (client..count).step_by(clients);
                scope.spawn(move || numbers.map(|number| create(rest, group, number, dir)).collect::<Result<Vec<_>>>())
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| Error::new("a client panicked"))?.map(drop))
    })
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
    thread::sleep(SETTLE);
    let cpu = || workers.iter().map(|worker| worker.usage().map(|usage| usage.cpu)).sum::<Result<Duration>>();
    let (begun, before) = (Instant::now(), cpu()?);
    thread::sleep(IDLE);
    let share = (cpu()? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let usages = workers.iter().map(|worker| worker.usage()).collect::<Result<Vec<_>>>()?;
    Ok((share, usages.iter().map(|usage| usage.rss).sum(), usages.iter().map(|usage| usage.threads).sum()))
}

fn weight((share, rss, threads): (f64, u64, u64)) -> String {
    format!("{:.0} MB, {threads} threads, {:.1} % of a core", rss as f64 / 1e6, share * 100.0)
}

/// A pair of workers: creating, weight, one more, one less.
fn pair(connect: bool, broker: &KafkaBroker, count: usize, figures: &mut Figures) -> Result<()> {
    let by = contender(connect);
    let group = if connect { "bench-connect" } else { "bench-tributary" };
    let dir = ScratchDir::new("bench-group")?;
    let mut first = Worker::start(connect, broker, group)?;
    let second = Worker::start(connect, broker, group)?;
    // What the first connector pays for all.
    create(first.rest(), group, count, dir.path())?;
    wait_running(first.rest(), 1, 1)?;
    first.rest().delete_connector(&name(group, count))?;
    let remove_all = || -> Result<()> {
        (0..count).try_for_each(|number| first.rest().delete_connector(&name(group, number)).map(drop))?;
        wait_running(second.rest(), 0, 0)
    };
    // Twice, and what counts is the second time: a JVM's first requests are about its compiler.
    create_all(first.rest(), group, count, CLIENTS, dir.path())?;
    wait_running(second.rest(), count, 2)?;
    remove_all()?;
    let mut created = Vec::new();
    for clients in [CLIENTS, 1] {
        let begun = Instant::now();
        create_all(first.rest(), group, count, clients, dir.path())?;
        let answered = begun.elapsed().as_secs_f64();
        wait_running(second.rest(), count, 2)?;
        let running = begun.elapsed().as_secs_f64();
        created.push(running);
        let how = if clients == 1 { "one after the other".to_owned() } else { format!("by {clients} clients at once") };
        let what = format!("{count} connectors created {how}: answered, and all RUNNING");
        figures.add(by, &what, format!("{answered:.2} s, {running:.2} s"));
        if clients > 1 {
            remove_all()?;
        }
    }
    let idle = idle(&[&first, &second])?;
    figures.add(by, &format!("{count} idle sink connectors on two workers"), weight(idle));

    let mut third = Worker::prepare(connect, broker, group)?;
    let begun = Instant::now();
    third.spawn()?;
    wait_running(first.rest(), count, 3)?;
    let joined = begun.elapsed().as_secs_f64();
    figures.add(by, "one more worker, from its start until balanced", format!("{joined:.2} s"));

    let begun = Instant::now();
    third.stop()?;
    wait_running(first.rest(), count, 2)?;
    let left = format!("{:.2} s", begun.elapsed().as_secs_f64());
    figures.add(by, "SIGTERM of a worker, until the others run everything", left);

    let begun = Instant::now();
    first.kill()?;
    produce(broker, "idle")?;
    wait_running(second.rest(), count, 1)?;
    let running = begun.elapsed().as_secs_f64();
    let past =
        || (0..count).all(|number| dir.path().join(number.to_string()).metadata().is_ok_and(|file| file.len() > 0));
    wait::until("every sink to have written the record", LIMIT, || Ok(past().then_some(())))?;
    let past = begun.elapsed().as_secs_f64();
    let what = "kill -9 of a worker, until everything is RUNNING, and past a record that came after the kill";
    figures.add(by, what, format!("{running:.2} s, {past:.2} s"));

    if !connect {
        let (all, one) = (created[0], created[1]);
        figures.targets.extend([
            Target::below(format!("{count} connectors RUNNING, created one after the other"), 1.5, one, "s"),
            Target::below(format!("{count} connectors RUNNING, created by {CLIENTS} clients"), 1.5, all, "s"),
            Target::below(format!("{count} idle connectors on two workers, memory"), 120.0, idle.1 as f64 / 1e6, "MB"),
            Target::below("one more worker, until balanced", 1.5, joined, "s"),
            Target::below(
                "kill -9, until RUNNING and past a record: the session time-out and 1 s",
                SESSION + 1.0,
                past,
                "s",
            ),
        ]);
    }
    Ok(())
}

/// Many connectors on one worker.
fn many(broker: &KafkaBroker, count: usize, figures: &mut Figures) -> Result<()> {
    let group = "bench-many";
    let dir = ScratchDir::new("bench-many")?;
    let worker = Worker::start(false, broker, group)?;
    let begun = Instant::now();
    create_all(worker.rest(), group, count, CLIENTS, dir.path())?;
    wait_running(worker.rest(), count, 1)?;
    let created = format!("{:.2} s", begun.elapsed().as_secs_f64());
    let by = Contender::Tributary;
    figures.add(
        by,
        &format!("{count} connectors on one worker, created by {CLIENTS} clients, until all RUNNING"),
        created,
    );
    let idle = idle(&[&worker])?;
    figures.add(by, &format!("{count} idle sink connectors on one worker"), weight(idle));
    let mut second = Worker::prepare(false, broker, group)?;
    let begun = Instant::now();
    second.spawn()?;
    wait_running(worker.rest(), count, 2)?;
    let joined = begun.elapsed().as_secs_f64();
    figures.add(
        by,
        &format!("a second worker for {count} connectors, from its start until balanced"),
        format!("{joined:.2} s"),
    );
    figures.targets.extend([
        Target::below(format!("{count} idle connectors on one worker, memory"), 600.0, idle.1 as f64 / 1e6, "MB"),
        Target::below(format!("{count} idle connectors on one worker, CPU"), 10.0, idle.0 * 100.0, "% of a core"),
    ]);
    Ok(())
}

/// From the start of a worker to the first answer that knows the connector, with a config topic that has a history.
fn start(broker: &KafkaBroker, records: usize, figures: &mut Figures) -> Result<()> {
    let group = "bench-start";
    // Makes the topics.
    let mut worker = Worker::start(false, broker, group)?;
    worker.stop()?;
    let versions = records / HISTORIES;
    write_history(broker, &format!("{group}-config"), versions)?;
    for (what, forget) in [("with an empty data directory", true), ("with what it remembers", false)] {
        if forget && let Worker::Tributary(worker) = &worker {
            std::fs::remove_dir_all(worker.dir().join("data"))?;
        }
        let begun = Instant::now();
        worker.spawn()?;
        let last = (versions - 1).to_string();
        let knows = |rest: &Rest| {
            let config =
                rest.get(&format!("/connectors/changing-{}/config", HISTORIES - 1)).and_then(|answer| answer.ok());
            config.is_ok_and(|config| config["version"].as_str() == Some(&*last))
        };
        while !knows(worker.rest()) {
            if begun.elapsed() > LIMIT {
                return Err(Error::new("the worker does not know the last config"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        let answered = begun.elapsed().as_secs_f64();
        wait::until("the worker to be in its group", LIMIT, || {
            Ok((worker.rest().get("/health")?.status == 200).then_some(()))
        })?;
        let joined = begun.elapsed().as_secs_f64();
        let about = format!("start with {records} records in the config topic, {what}");
        let answer = format!("{answered:.2} s, {joined:.2} s");
        figures.add(
            Contender::Tributary,
            &format!("{about}, to the first answer with the newest config, and into the group"),
            answer,
        );
        figures.targets.push(Target::below(about, 0.5, answered, "s"));
        worker.stop()?;
    }
    Ok(())
}

/// Configs that changed again and again, in Kafka Connect's own format. They are paused, so that nothing but configs is read.
fn write_history(broker: &KafkaBroker, topic: &str, versions: usize) -> Result<()> {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let producer: BaseProducer = broker.client().create()?;
    let send = |key: String, value: serde_json::Value| {
        let value = value.to_string();
        producer.send(BaseRecord::to(topic).key(&key).payload(&value)).map_err(|(error, _)| error)
    };
    for number in 0..HISTORIES {
        send(format!("target-state-changing-{number}"), json!({"state": "PAUSED", "state.v2": "PAUSED"}))?;
    }
    for version in 0..versions {
        for number in 0..HISTORIES {
            let config = json!({
                "name": format!("changing-{number}"), "connector.class": "FileStreamSink", "topics": "idle",
                "file": "/dev/null", "version": version.to_string(),
            });
            send(format!("connector-changing-{number}"), json!({"properties": config}))?;
        }
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}

fn produce(broker: &KafkaBroker, topic: &str) -> Result<()> {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let producer: BaseProducer = broker.client().create()?;
    producer.send(BaseRecord::<str, str>::to(topic).payload("a record")).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(30))?;
    Ok(())
}
