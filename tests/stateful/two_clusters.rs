//! From one cluster to another: whatever breaks on either side, the target has each record once, and aggregates equal to a batch.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{BrokerOptions, KafkaBroker, Rest, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_tests::{Workers, outage};

use crate::events::{Events, values};
use crate::hurt::{die_at_every_step, lose_commit, strike};
use crate::rig::{PARTITIONS, Rig, extend, finished, rounds, same, sorted, unique};

/// On which side the worker is.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    Source,
    Target,
}

/// Two clusters, connectors with state between them, and one that only copies.
pub struct Between {
    pub source: KafkaBroker,
    pub target: KafkaBroker,
    pub side: Side,
    pub rig: Rig,
    pub copy: String,
    proxied: bool,
}

impl Between {
    pub fn new(what: &str, side: Side, dir: &Path, options: &BrokerOptions, proxied: bool) -> Result<Self> {
        let (source, target) = (KafkaBroker::start_with(options.clone())?, KafkaBroker::start_with(options.clone())?);
        let rig = Rig::between(&source, &target, what, dir)?;
        target.create_topic(&rig.input, 2, &[])?;
        Ok(Self { source, target, side, rig, copy: unique("copy"), proxied })
    }

    fn at(&self, broker: &KafkaBroker) -> String {
        if self.proxied { broker.proxied_bootstrap() } else { broker.bootstrap() }
    }

    /// Where the worker is.
    pub fn home(&self) -> String {
        self.at(if self.side == Side::Source { &self.source } else { &self.target })
    }

    /// What makes the other cluster the connector's.
    pub fn other(&self) -> Value {
        match self.side {
            Side::Source => json!({"producer.override.bootstrap.servers": self.at(&self.target)}),
            Side::Target => json!({"consumer.override.bootstrap.servers": self.at(&self.source)}),
        }
    }

    pub fn create(&self, rest: &Rest, tasks: usize, more: &Value) -> Result<()> {
        let mut all = self.other();
        extend(&mut all, more);
        self.rig.create_from_topic_to_topic(rest, tasks, &all)?;
        let mut copy = json!({
            "connector.class": "KafkaSink", "topics": self.rig.input, "tasks.max": tasks, "transaction.interval.ms": 100,
            "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
            "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
            "errors.restart.backoff.initial.ms": "50",
        });
        extend(&mut copy, &all);
        rest.put_connector(&self.copy, &copy).map(drop)
    }

    /// Waits until all is committed, and compares it with the input.
    pub fn check(&self, rest: &Rest) -> Result<()> {
        for name in [&self.copy, &self.rig.first, &self.rig.windows] {
            finished(rest, &self.source, &self.rig.input, name)?;
        }
        self.rig.check_topics(&self.source, &self.target)?;
        let input = sorted(values(&self.source, &self.rig.input)?);
        same("copied", &sorted(values(&self.target, &self.rig.input)?), &input)
    }
}

fn options(group: &str) -> WorkerOptions {
    WorkerOptions::default().set("group.id", group).set("offset.flush.interval.ms", "200")
}

fn side(seed: &mut Seed) -> Side {
    let side = if seed.random_range(0..2) == 0 { Side::Source } else { Side::Target };
    println!("the worker is on the {} side", if side == Side::Source { "source's" } else { "target's" });
    side
}

fn kills(side: Side) -> Result<()> {
    let mut seed = Seed::announce("kills between two clusters");
    let dir = tempfile::tempdir()?;
    let between = Between::new("kills", side, dir.path(), &BrokerOptions::default(), false)?;
    let mut worker = TributaryWorker::start_with(&between.home(), options("kills"))?;
    let mut events = Events::new(&between.source, &between.rig.input)?;
    events.produce(10_000, &mut seed)?;
    between.create(worker.rest(), 2, &json!({}))?;
    for _ in 0..rounds(5) {
        events.produce(5_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..3000)));
        worker.kill9()?;
        worker.spawn()?;
    }
    events.produce(5_000, &mut seed)?;
    events.finish(PARTITIONS)?;
    between.check(worker.rest()).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

#[test]
fn killed_workers_beside_the_target() -> Result<()> {
    kills(Side::Target)
}

#[test]
fn killed_workers_beside_the_source() -> Result<()> {
    kills(Side::Source)
}

/// A worker that dies between every two steps of the commit loop.
#[test]
fn deaths_at_every_step() -> Result<()> {
    let mut seed = Seed::announce("fail points between two clusters");
    let place = tempfile::NamedTempFile::new()?.into_temp_path();
    let dir = tempfile::tempdir()?;
    let between = Between::new("steps", side(&mut seed), dir.path(), &BrokerOptions::default(), false)?;
    let options = options("steps").env("TRIBUTARY_TEST_FAIL_POINT", &format!("@{}", place.display()));
    let mut worker = TributaryWorker::start_with(&between.home(), options)?;
    let mut events = Events::new(&between.source, &between.rig.input)?;
    events.produce(2_000, &mut seed)?;
    between.create(worker.rest(), 1, &json!({}))?;
    die_at_every_step(&mut worker, &place, 1_000, &mut events, &mut seed)?;
    events.finish(PARTITIONS)?;
    between.check(worker.rest()).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// One or the other broker is restarted, killed or held, or its network is cut, in the middle of transactions.
#[test]
fn outages_of_either_cluster() -> Result<()> {
    let mut seed = Seed::announce("outages between two clusters");
    let dir = tempfile::tempdir()?;
    let proxied = BrokerOptions::default().proxied();
    let mut between = Between::new("outages", side(&mut seed), dir.path(), &proxied, true)?;
    let mut worker = TributaryWorker::start_with(&between.home(), options("outages"))?;
    let mut events = Events::new(&between.source, &between.rig.input)?;
    events.produce(5_000, &mut seed)?;
    between.create(worker.rest(), 2, &json!({}))?;
    for round in 0..rounds(8) as u64 {
        events.produce(3_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1500)));
        let pause = Duration::from_millis(seed.random_range(200..4_000));
        let (number, of_source) = (round / 2 + seed.value(), round % 2 == 0);
        println!("round {round}: outage {} of the {}", number % 4, if of_source { "source" } else { "target" });
        outage(if of_source { &mut between.source } else { &mut between.target }, number, pause)?;
    }
    events.finish(PARTITIONS)?;
    between.check(worker.rest()).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Commits whose request or answer is lost on the way to the target, and the network with it.
#[test]
fn lost_commits() -> Result<()> {
    let mut seed = Seed::announce("lost commits between two clusters");
    let dir = tempfile::tempdir()?;
    let proxied = BrokerOptions::default().proxied();
    let between = Between::new("lost", side(&mut seed), dir.path(), &proxied, true)?;
    let mut worker = TributaryWorker::start_with(&between.home(), options("lost"))?;
    let mut events = Events::new(&between.source, &between.rig.input)?;
    events.produce(2_000, &mut seed)?;
    between.create(worker.rest(), 2, &json!({}))?;
    for round in 0..rounds(5) as u64 {
        let what = lose_commit(&between.target, &worker, &mut events, &mut seed, round)?;
        let pause = seed.random_range(0..4_000);
        println!("round {round}: {what:?} lost, then {pause} ms");
        match pause % 3 {
            0 => {
                between.target.proxy().cut();
                thread::sleep(Duration::from_millis(pause));
                between.target.proxy().resume();
            }
            1 => {
                worker.kill9()?;
                thread::sleep(Duration::from_millis(pause / 4));
                worker.spawn()?;
            }
            _ => {}
        }
        events.produce(1_000, &mut seed)?;
    }
    events.finish(PARTITIONS)?;
    between.check(worker.rest()).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// Workers of a group that are killed, stand still until others have their partitions and then go on, and whose connectors get other
/// numbers of tasks.
#[test]
fn takeovers_and_zombies() -> Result<()> {
    let mut seed = Seed::announce("zombies between two clusters");
    let dir = tempfile::tempdir()?;
    let between = Between::new("zombies", side(&mut seed), dir.path(), &BrokerOptions::default(), false)?;
    let session = tributary_tests::SESSION.as_millis().to_string();
    let options = WorkerOptions::default().set("session.timeout.ms", &session).set("heartbeat.interval.ms", "1000");
    let mut workers = Workers::start_with(&between.home(), 2, options)?;
    let mut events = Events::new(&between.source, &between.rig.input)?;
    events.produce(5_000, &mut seed)?;
    // Members that stand still lose their partitions, too, not only their tasks.
    let more = json!({"consumer.override.session.timeout.ms": "6000"});
    between.create(workers.rest(0), 2, &more)?;
    for round in 0..rounds(6) {
        strike(&mut workers, round, &mut events, &mut seed, |rest, tasks| between.create(rest, tasks, &more))?;
    }
    events.finish(PARTITIONS)?;
    between.check(workers.rest(0)).map_err(|error| workers.with_logs(error.to_string()))?;
    workers.stop()
}

/// A chain that is cut: the topics between its stages are in the target.
#[test]
fn chains_that_are_cut() -> Result<()> {
    let mut seed = Seed::announce("cuts between two clusters");
    let dir = tempfile::tempdir()?;
    let between = Between::new("cuts", side(&mut seed), dir.path(), &BrokerOptions::default(), false)?;
    let mut worker = TributaryWorker::start_with(&between.home(), options("cuts"))?;
    let mut events = Events::by_id(&between.source, &between.rig.input)?;
    events.produce(5_000, &mut seed)?;
    let more = json!({
        "transforms.sums.repartition": "auto", "transforms.sums.repartition.partitions": 4,
        "transforms.sums.eventtime.idle.timeout.ms": 0, "transforms.once.eventtime.idle.timeout.ms": 0,
    });
    between.create(worker.rest(), 2, &more)?;
    for _ in 0..rounds(3) {
        events.produce(3_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..3000)));
        worker.kill9()?;
        worker.spawn()?;
    }
    events.finish(PARTITIONS)?;
    let check = || {
        finished(worker.rest(), &between.source, &between.rig.input, &between.rig.windows)?;
        let expected = crate::events::windows_together(&values(&between.source, &between.rig.input)?);
        let written = || same("windows", &sorted(values(&between.target, &between.rig.windows)?), &expected);
        wait::until("the results of a batch", Duration::from_secs(120), || written().map(Some))?;
        // What is still on its way would be too much.
        thread::sleep(Duration::from_secs(2));
        written()
    };
    check().map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}
