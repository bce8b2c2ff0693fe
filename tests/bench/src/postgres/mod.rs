//! Change data capture beside Debezium's connector in the real Kafka Connect, and beside the raw limits of the server.
//!
//! ```text
//! cargo run --release -p tributary-bench -- postgres
//! ```
//!
//! Both capture the same tables of the same server with the same converter (JSON without schemas), each by a slot and into a topic of its own, one after
//! the other. What is in a topic is compared with the table before a figure counts. A rate counts from the first record on; CPU is that of the worker.

mod latency;
pub mod sink;
mod workload;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tributary_harness::{
    BrokerOptions, ConnectOptions, ConnectWorker, Error, KafkaBroker, Postgres, Rest, Result, TributaryWorker, Usage,
    debezium, postgres, wait,
};

use self::workload::{DATABASE, SLOT_WAIT, Workload};
use crate::figures::{Target, targets};
use crate::measure::Spread;
use crate::pace::Watch;

/// The longest that a run may take.
const LIMIT: Duration = Duration::from_secs(300);

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Rows of the table that the snapshot reads.
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: u64,
    /// Changes to stream.
    #[arg(long, default_value_t = 300_000)]
    pub changes: u64,
    /// Seconds of transactions for the latency.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// How often each does each job; the table shows the medians.
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
    /// Only these parts: snapshot, streaming, latency.
    #[arg(long, value_delimiter = ',')]
    pub parts: Vec<String>,
    /// Leaves Debezium out.
    #[arg(long)]
    pub alone: bool,
}

/// Who captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Debezium,
    /// Larger batches and fetches, a short poll interval.
    DebeziumTuned,
    Tributary,
    /// Two connections read the tables.
    TributaryTwo,
}

impl Who {
    fn title(self) -> &'static str {
        match self {
            Self::Debezium => "Debezium 3.4.0 in Kafka Connect 4.3.1",
            Self::DebeziumTuned => "the same, tuned",
            Self::Tributary => "Tributary",
            Self::TributaryTwo => "Tributary, snapshot.max.threads=2",
        }
    }

    fn is_own(self) -> bool {
        matches!(self, Self::Tributary | Self::TributaryTwo)
    }

    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Debezium | Self::Tributary => &[],
            Self::DebeziumTuned => &[
                ("max.batch.size", "20480"),
                ("max.queue.size", "81920"),
                ("snapshot.fetch.size", "20480"),
                ("poll.interval.ms", "10"),
                ("producer.override.batch.size", "262144"),
                ("producer.override.linger.ms", "5"),
            ],
            Self::TributaryTwo => &[("snapshot.max.threads", "2")],
        }
    }
}

/// A worker of either kind.
enum Worker {
    Connect(Box<ConnectWorker>),
    Own(Box<TributaryWorker>),
}

impl Worker {
    /// Kafka Connect with the plugins of this directory; without one, the project's own.
    fn start(broker: &KafkaBroker, plugins: Option<&Path>) -> Result<Self> {
        let Some(plugins) = plugins else {
            return TributaryWorker::start(broker).map(|worker| Self::Own(Box::new(worker)));
        };
        let options = ConnectOptions::default()
            .set("plugin.path", &plugins.display().to_string())
            .set("connector.client.config.override.policy", "All");
        ConnectWorker::start_with(broker, options).map(|worker| Self::Connect(Box::new(worker)))
    }

    fn rest(&self) -> &Rest {
        match self {
            Self::Connect(worker) => worker.rest(),
            Self::Own(worker) => worker.rest(),
        }
    }

    fn usage(&self) -> Result<Usage> {
        match self {
            Self::Connect(worker) => worker.usage(),
            Self::Own(worker) => worker.usage(),
        }
    }

    fn with_log(&self, message: String) -> Error {
        match self {
            Self::Connect(worker) => {
                let log = worker.log();
                let lines: Vec<&str> = log.lines().collect();
                Error::new(format!("{message}\n{}", lines[lines.len().saturating_sub(30)..].join("\n")))
            }
            Self::Own(worker) => worker.with_log(message),
        }
    }
}

/// One line of a table.
struct Row {
    title: String,
    rate: Spread,
    cpu: Spread,
    /// Seconds of a processor that the server's sessions took for a million records, where it is looked at: on a busy machine, rates tell little.
    server: Spread,
    peak_rss: u64,
}

impl Row {
    fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rate: Spread::default(),
            cpu: Spread::default(),
            server: Spread::default(),
            peak_rss: 0,
        }
    }
}

/// Rows as Markdown.
fn table(rows: &[Row]) -> String {
    let with_server = rows.iter().any(|row| row.server.median().is_some());
    let [head, line] = if with_server { [" server's CPU s |", "---|"] } else { [""; 2] };
    let mut text = format!("| | k/s | CPU s a million |{head} memory |\n|---|---|---|{line}---|\n");
    for row in rows {
        let show = |spread: &Spread, factor: f64, digits: usize| match (spread.median(), spread.range()) {
            (Some(median), Some((low, high))) if low < high => {
                format!("{:.digits$} ({:.digits$}–{:.digits$})", median / factor, low / factor, high / factor)
            }
            (Some(median), _) => format!("{:.digits$}", median / factor),
            _ => "—".into(),
        };
        let memory = if row.peak_rss == 0 { "—".into() } else { format!("{:.0} MB", row.peak_rss as f64 / 1e6) };
        let (rate, cpu) = (show(&row.rate, 1e3, 0), show(&row.cpu, 1.0, 2));
        let server = if with_server { format!(" {} |", show(&row.server, 1.0, 2)) } else { String::new() };
        let _ = writeln!(text, "| {} | {rate} | {cpu} |{server} {memory} |", row.title);
    }
    text
}

/// Everything that was measured.
#[derive(Default)]
pub struct Found {
    parts: Vec<(String, Vec<Row>)>,
    latencies: Vec<latency::Latency>,
    targets: Vec<Target>,
}

struct Bench<'a> {
    settings: &'a Settings,
    broker: KafkaBroker,
    server: Postgres,
    runs: u32,
    found: Found,
}

/// Measures what the settings say.
pub fn run(settings: &Settings) -> Result<Found> {
    let broker = KafkaBroker::start_with(BrokerOptions::for_benchmark())?;
    let server = Postgres::start()?;
    server.create_database(DATABASE)?;
    let mut bench = Bench { settings, broker, server, runs: 0, found: Found::default() };
    let wants = |part: &str| settings.parts.is_empty() || settings.parts.iter().any(|wanted| wanted == part);
    let peers =
        |all: &[Who]| -> Vec<Who> { all.iter().copied().filter(|who| who.is_own() || !settings.alone).collect() };
    if wants("snapshot") {
        let who = peers(&[Who::Debezium, Who::DebeziumTuned, Who::Tributary, Who::TributaryTwo]);
        bench.rates(Workload::Snapshot { rows: settings.rows }, &who)?;
    }
    if wants("streaming") {
        let who = peers(&[Who::Debezium, Who::DebeziumTuned, Who::Tributary]);
        bench.rates(Workload::Streaming { changes: settings.changes }, &who)?;
    }
    if wants("latency") {
        for who in peers(&[Who::Debezium, Who::DebeziumTuned, Who::Tributary]) {
            bench.latency(who)?;
        }
    }
    Ok(bench.found)
}

impl Bench<'_> {
    /// All contenders at a workload, and the server's own limit.
    fn rates(&mut self, workload: Workload, who: &[Who]) -> Result<()> {
        let mut rows: Vec<Row> =
            std::iter::once(workload.raw_title()).chain(who.iter().map(|who| who.title())).map(Row::new).collect();
        workload.prepare(&self.server)?;
        for _ in 0..self.settings.runs {
            let raw = workload.raw(&self.server)?;
            eprintln!("{}, {}: {raw:.0}/s", workload.title(), workload.raw_title());
            rows[0].rate.add(raw);
            for (who, row) in who.iter().zip(&mut rows[1..]) {
                let (rate, usage) = self.rate(&workload, *who)?;
                let cpu = usage.cpu.as_secs_f64() * 1e6 / workload.records() as f64;
                let megabytes = usage.peak_rss as f64 / 1e6;
                eprintln!(
                    "{}, {}: {rate:.0}/s, {cpu:.2} CPU s a million, {megabytes:.0} MB",
                    workload.title(),
                    who.title()
                );
                row.rate.add(rate);
                row.cpu.add(cpu);
                row.peak_rss = row.peak_rss.max(usage.peak_rss);
            }
        }
        self.judge(&workload, who, &rows);
        self.found.parts.push((workload.title(), rows));
        Ok(())
    }

    fn judge(&mut self, workload: &Workload, who: &[Who], rows: &[Row]) {
        let of = |wanted: Who| who.iter().position(|who| *who == wanted).and_then(|at| rows.get(at + 1));
        let rate = |wanted: Who| of(wanted).and_then(|row| row.rate.median());
        let Some(own) = rate(Who::Tributary) else { return };
        let title = workload.title();
        let peer = [rate(Who::Debezium), rate(Who::DebeziumTuned)].into_iter().flatten().reduce(f64::max);
        let streaming = matches!(workload, Workload::Streaming { .. });
        if let Some(peer) = peer {
            let wanted = if streaming { 4.0 } else { 10.0 };
            self.found.targets.push(Target::at_least(
                format!("{title}: rate, × the better Debezium"),
                wanted,
                own / peer,
            ));
        }
        if let Some(raw) = rows[0].rate.median().filter(|_| streaming) {
            self.found.targets.push(Target::at_least(format!("{title}: rate, × pg_recvlogical"), 0.7, own / raw));
        }
        if let Some(row) = of(Who::Tributary) {
            self.found.targets.push(Target::below(format!("{title}: memory"), 100.0, row.peak_rss as f64 / 1e6, "MB"));
        }
    }

    fn worker(&self, who: Who) -> Result<Worker> {
        let plugins = if who.is_own() { None } else { Some(debezium::postgres_plugin()?) };
        Worker::start(&self.broker, plugins.as_deref())
    }

    /// Records a second, and what the worker took for it.
    fn rate(&mut self, workload: &Workload, who: Who) -> Result<(f64, Usage)> {
        self.runs += 1;
        let name = format!("run{}", self.runs);
        let worker = self.worker(who)?;
        let topic = format!("{name}.public.{}", workload.table());
        self.broker.create_topic(&topic, 1, &[])?;
        workload.before(&self.server, &name)?;
        let before = worker.usage()?;
        let mut watch = Watch::start();
        worker.rest().put_connector(&name, &self.config(&name, workload, who))?;
        let wanted = workload.records();
        let done = wait::until("all records in the topic", LIMIT, || {
            let done = self.broker.record_count(&topic)?;
            watch.see(done, wanted);
            Ok((done >= wanted).then_some(()))
        });
        done.map_err(|error| worker.with_log(error.to_string()))?;
        let rate = watch.stop().rate(wanted);
        let after = worker.usage()?;
        workload.check(&self.broker, &topic)?;
        worker.rest().delete_connector(&name)?;
        drop(worker);
        self.drop_slot(&name)?;
        self.broker.delete_topic(&topic)?;
        Ok((rate, Usage { cpu: after.cpu.saturating_sub(before.cpu), ..after }))
    }

    fn latency(&mut self, who: Who) -> Result<()> {
        self.runs += 1;
        let name = format!("run{}", self.runs);
        let worker = self.worker(who)?;
        let workload = Workload::Latency;
        let topic = format!("{name}.public.{}", workload.table());
        self.broker.create_topic(&topic, 1, &[])?;
        workload.prepare(&self.server)?;
        workload.before(&self.server, &name)?;
        worker.rest().put_connector(&name, &self.config(&name, &workload, who))?;
        let found = latency::measure(&self.broker, &self.server, &topic, who.title(), self.settings.seconds);
        let mut found = found.map_err(|error| worker.with_log(error.to_string()))?;
        found.peak_rss = worker.usage()?.peak_rss;
        eprintln!("{}", found.line());
        if who == Who::Tributary {
            let targets = [("median", 5.0, found.median_ms), ("99 of 100", 20.0, found.p99_ms)];
            self.found.targets.extend(targets.map(|(what, limit, value)| {
                Target::below(format!("commit → Kafka at 2,000 transactions/s, {what}"), limit, value, "ms")
            }));
        }
        self.found.latencies.push(found);
        worker.rest().delete_connector(&name)?;
        drop(worker);
        self.drop_slot(&name)
    }

    fn config(&self, name: &str, workload: &Workload, who: Who) -> Value {
        let mut config = json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": "127.0.0.1",
            "database.port": self.server.port().to_string(),
            "database.user": postgres::USER,
            "database.password": postgres::PASSWORD,
            "database.dbname": DATABASE,
            "topic.prefix": name,
            "slot.name": name,
            "plugin.name": "pgoutput",
            "publication.name": workload.publication(),
            "table.include.list": format!("public\\.{}", workload.table()),
            "snapshot.mode": workload.snapshot_mode(),
            "tombstones.on.delete": "false",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "false",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
        });
        for (key, value) in who.settings() {
            config[*key] = json!(value);
        }
        config
    }

    /// The server notices late that its reader is gone.
    fn drop_slot(&self, name: &str) -> Result<()> {
        let slot = format!("FROM pg_replication_slots WHERE slot_name = '{name}'");
        wait::until("the slot to be dropped", SLOT_WAIT, || {
            self.server.sql(DATABASE, &format!("SELECT pg_terminate_backend(active_pid) {slot} AND active"))?;
            self.server.sql(DATABASE, &format!("SELECT pg_drop_replication_slot(slot_name) {slot} AND NOT active"))?;
            Ok((self.server.sql(DATABASE, &format!("SELECT count(*) {slot}"))?.trim() == "0").then_some(()))
        })
    }
}

impl Found {
    /// As Markdown.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (title, rows) in &self.parts {
            let _ = write!(text, "\n{title}:\n\n{}", table(rows));
        }
        if !self.latencies.is_empty() {
            let _ = writeln!(
                text,
                "\nFrom commit to Kafka at 2,000 transactions a second:\n\n| | median | 99 of 100 | most | memory |\n|---|---|---|---|---|"
            );
            for latency in &self.latencies {
                let _ = writeln!(text, "{}", latency.row());
            }
        }
        let _ = write!(text, "\n{}", targets(&self.targets));
        text
    }
}
