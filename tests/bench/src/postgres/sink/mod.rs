//! The PostgreSQL sink beside Debezium's JDBC sink in the real Kafka Connect, and beside COPY and merge by hand.
//!
//! ```text
//! cargo run --release -p tributary-bench -- postgres-sink
//! ```
//!
//! All write the records of one topic into a table with a primary key: the first half are new rows, the second half the same keys again. Both sinks read with
//! the same converter (JSON with schemas, which Debezium's needs) and take the key from the record's key. Each worker does the job once to warm up, then as
//! often as `runs` says. A rate counts from the first records on; what is in the table is checked before it counts.

mod hand;
mod probe;
mod rows;

use std::time::Duration;

use serde_json::{Value, json};
use tributary_harness::{BrokerOptions, Context, Error, KafkaBroker, Postgres, Result, Usage, debezium, postgres};

use self::probe::Probe;
use self::rows::{Rows, TABLE};
use super::workload::DATABASE;
use super::{Row, Worker, table};
use crate::figures::{Target, targets};
use crate::pace::Watch;

/// The topic that all read.
const TOPIC: &str = "orders";
/// The longest that a run may take.
const LIMIT: Duration = Duration::from_secs(300);
/// How often the table is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Records of a transaction by hand: as the sink's default, and ten times as many.
const BY_HAND: [u64; 2] = [10_000, 100_000];

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Records to write; half as many rows.
    #[arg(long, default_value_t = 500_000)]
    pub records: u64,
    /// How often each does the job once it is warm; the table shows the medians.
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
    /// Leaves Debezium out.
    #[arg(long)]
    pub alone: bool,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Debezium,
    /// Large batches, of one statement each, and one write a row of the batch.
    DebeziumTuned,
    /// The same, with UNNEST.
    DebeziumUnnest,
    Tributary,
    TributaryExactlyOnce,
}

impl Who {
    fn title(self) -> &'static str {
        match self {
            Self::Debezium => "Debezium's JDBC sink 3.6.0 in Kafka Connect 4.3.1",
            Self::DebeziumTuned => "the same, batches of 5,000, reduction buffer, reWriteBatchedInserts",
            Self::DebeziumUnnest => "the same, and dialect.postgres.unnest.insert.enabled",
            Self::Tributary => "Tributary",
            Self::TributaryExactlyOnce => "Tributary, exactly.once.enabled",
        }
    }

    fn is_own(self) -> bool {
        matches!(self, Self::Tributary | Self::TributaryExactlyOnce)
    }

    fn settings(self) -> &'static [(&'static str, &'static str)] {
        const TUNED: [(&str, &str); 6] = [
            ("batch.size", "5000"),
            ("use.reduction.buffer", "true"),
            ("consumer.override.max.poll.records", "5000"),
            ("consumer.override.fetch.max.bytes", "52428800"),
            ("consumer.override.max.partition.fetch.bytes", "10485760"),
            ("dialect.postgres.unnest.insert.enabled", "true"),
        ];
        match self {
            Self::Debezium | Self::Tributary => &[],
            Self::DebeziumTuned => TUNED.split_at(5).0,
            Self::DebeziumUnnest => &TUNED,
            Self::TributaryExactlyOnce => &[("exactly.once.enabled", "true")],
        }
    }
}

/// Everything that was measured.
#[derive(Default)]
pub struct Found {
    rows: Vec<Row>,
    targets: Vec<Target>,
}

impl Found {
    /// As Markdown.
    pub fn report(&self) -> String {
        format!("\n{}\n{}", table(&self.rows), targets(&self.targets))
    }
}

/// Measures what the settings say.
pub fn run(settings: &Settings) -> Result<Found> {
    let broker = KafkaBroker::start_with(BrokerOptions::for_benchmark())?;
    let server = Postgres::start()?;
    server.create_database(DATABASE)?;
    let rows = Rows(settings.records / 2);
    rows.produce(&broker, TOPIC)?;
    let mut found = Found::default();
    let mut limit: Option<f64> = None;
    for batch in BY_HAND {
        let mut row = Row::new(format!("COPY and merge by hand, {batch} rows a transaction"));
        for _ in 0..settings.runs {
            let (rate, cpu) = hand::rate(&server, rows, batch)?;
            eprintln!("{}: {rate:.0}/s, {cpu:.2} CPU s of the server a million", row.title);
            row.rate.add(rate);
            row.server.add(cpu);
        }
        limit = limit.into_iter().chain(row.rate.median()).reduce(f64::max);
        found.rows.push(row);
    }
    let all = [Who::Debezium, Who::DebeziumTuned, Who::DebeziumUnnest, Who::Tributary, Who::TributaryExactlyOnce];
    let (mut peer, mut own): (Option<f64>, Option<f64>) = (None, None);
    for who in all.into_iter().filter(|who| who.is_own() || !settings.alone) {
        let row = Bench { broker: &broker, server: &server, rows, who }.measure(settings.runs)?;
        match who {
            Who::Tributary => own = row.rate.median(),
            who if who.is_own() => {}
            _ => peer = peer.into_iter().chain(row.rate.median()).reduce(f64::max),
        }
        found.rows.push(row);
    }
    let Some(own) = own else { return Ok(found) };
    let mut judge = |what: &str, wanted: f64, beside: Option<f64>| {
        if let Some(beside) = beside {
            found.targets.push(Target::at_least(format!("PostgreSQL sink: rate, × {what}"), wanted, own / beside));
        }
    };
    judge("the best of Debezium's", 3.0, peer);
    judge("the better of COPY and merge by hand", 0.6, limit);
    Ok(found)
}

struct Bench<'a> {
    broker: &'a KafkaBroker,
    server: &'a Postgres,
    rows: Rows,
    who: Who,
}

impl Bench<'_> {
    /// All runs of one contender, by one worker.
    fn measure(&self, runs: usize) -> Result<Row> {
        let plugin = if self.who.is_own() { None } else { Some(debezium::jdbc_plugin()?) };
        let worker = Worker::start(self.broker, plugin.as_deref())?;
        let mut row = Row::new(self.who.title());
        for run in 0..=runs {
            let (rate, usage, server) = self.run(&worker, run)?;
            let cpu = usage.cpu.as_secs_f64() * 1e6 / self.rows.records() as f64;
            let warming = if run == 0 { " (warming up)" } else { "" };
            eprintln!("{}: {rate:.0}/s, {cpu:.2} CPU s a million, the server's {server:.2}{warming}", row.title);
            if run > 0 {
                row.rate.add(rate);
                row.cpu.add(cpu);
                row.server.add(server);
                row.peak_rss = row.peak_rss.max(usage.peak_rss);
            }
        }
        Ok(row)
    }

    /// Records a second, what the worker took for it, and the server's CPU seconds a million.
    fn run(&self, worker: &Worker, run: usize) -> Result<(f64, Usage, f64)> {
        self.server.sql(DATABASE, &format!("{}; CHECKPOINT", Rows::ddl()))?;
        let name = format!("sink-{}-{run}", self.who as usize);
        let wanted = self.rows.records();
        let mut probe = Probe::start(self.server, self.rows)?;
        let before = worker.usage()?;
        let mut watch = Watch::start();
        worker.rest().put_connector(&name, &self.config(&name))?;
        let begun = std::time::Instant::now();
        loop {
            let done = probe.records()?;
            watch.see(done, wanted);
            if done >= wanted {
                break;
            }
            if begun.elapsed() > LIMIT {
                let status = worker.rest().status(&name)?;
                return Err(worker.with_log(format!("{done} of {wanted} records after {LIMIT:?}: {status}")));
            }
            std::thread::sleep(LOOK);
        }
        let rate = watch.stop().rate(wanted);
        let after = worker.usage()?;
        // Sessions of the sink, which it keeps; those of this program are psql's.
        let sessions =
            format!("SELECT pid FROM pg_stat_activity WHERE datname = '{DATABASE}' AND application_name <> 'psql'");
        let ticks = self.server.sql(DATABASE, &hand::session_ticks(&sessions))?;
        let ticks: f64 = ticks.trim().parse().context("no ticks of the sessions")?;
        worker.rest().delete_connector(&name)?;
        self.rows
            .check(|sql| self.server.sql(DATABASE, sql))
            .map_err(|error: Error| worker.with_log(error.to_string()))?;
        Ok((rate, Usage { cpu: after.cpu.saturating_sub(before.cpu), ..after }, ticks * 1e4 / wanted as f64))
    }

    fn config(&self, name: &str) -> Value {
        let parameters = if self.who == Who::Debezium { "" } else { "?reWriteBatchedInserts=true" };
        let mut config = json!({
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "name": name,
            "tasks.max": "1",
            "topics": TOPIC,
            "connection.url": format!("jdbc:postgresql://127.0.0.1:{}/{DATABASE}{parameters}", self.server.port()),
            "connection.username": postgres::USER,
            "connection.password": postgres::PASSWORD,
            "collection.name.format": TABLE,
            "insert.mode": "upsert",
            "primary.key.mode": "record_key",
            "consumer.override.auto.offset.reset": "earliest",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        });
        for (key, value) in self.who.settings() {
            config[*key] = json!(value);
        }
        config
    }
}
