//! The connectors for HTTP: the webhook source on the embedded log, and the sink beside a plain loop.
//!
//! ```text
//! cargo run --release -p tributary-bench -- http
//! ```
//!
//! Clients and servers are in this process, on the same cores as the worker. What was answered is looked for in the log afterwards.

mod disk;
mod post;
mod server;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;
use tributary::log::{ClientSettings, LogError, LogRecords, TopicPartition, attach_log};
use tributary_harness::{Error, Result, TributaryWorker, Usage, ports, wait};
use tributary_sdk::arrow::array::BinaryArray;

pub use self::post::{Post, post};
use self::server::Server;
use crate::clients::Clients;
use crate::figures::Target;
use crate::measure::Spread;

/// Bytes of a record.
const RECORD: usize = 1024;
const ASK: Duration = Duration::from_secs(30);
/// A sink that sends nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Connections of the webhook's senders, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// How long they send in a run.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Records that the sink sends in a run.
    #[arg(long, default_value_t = 200_000)]
    pub records: u64,
    /// Requests that the sink and the plain loop have under way.
    #[arg(long, default_value_t = 16)]
    pub concurrency: usize,
    /// Runs of each; the table shows the medians.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Only these parts: webhook, sink.
    #[arg(long, value_delimiter = ',')]
    pub parts: Vec<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    pub table: String,
    pub targets: Vec<Target>,
}

/// A document of [`RECORD`] bytes.
fn record() -> String {
    let document = |note: &str| json!({"order": 4_711, "user": "somebody", "amount": 12.5, "note": note}).to_string();
    document(&"x".repeat(RECORD - document("").len()))
}

/// Measures what is asked for.
pub fn run(settings: &Settings) -> Result<Found> {
    let wants = |part: &str| settings.parts.is_empty() || settings.parts.iter().any(|known| known == part);
    let mut found = Found::default();
    if wants("webhook") {
        webhook(settings, &mut found)?;
    }
    if wants("sink") {
        sink(settings, &mut found)?;
    }
    Ok(found)
}

fn of_log(error: LogError) -> Error {
    Error::new(error.to_string())
}

fn median(spread: &Spread) -> f64 {
    spread.median().unwrap_or_default()
}

fn webhook(settings: &Settings, found: &mut Found) -> Result<()> {
    let worker = TributaryWorker::start_embedded()?;
    let port = ports::free()?;
    let config = json!({
        "connector.class": "WebhookSource",
        "topic": "hooks",
        "listen": format!("127.0.0.1:{port}"),
        "records": "body",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
    });
    worker.rest().put_connector("hooks", &config)?;
    worker.wait_running("hooks")?;
    let body = record();
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let clients = Clients {
        address: format!("127.0.0.1:{port}"),
        count: settings.connections,
        request: (head + &body).into_bytes(),
        wanted: "records",
    };
    let [mut rate, mut middle, mut slow, mut cpu, mut disk] = <[Spread; 5]>::default();
    // What is there is counted between the runs.
    let log = attach_log("embedded", &ClientSettings::new(), &worker.dir().join("data")).map_err(of_log)?;
    let hooks = TopicPartition { topic: "hooks".into(), partition: 0 };
    let mut answered = 0;
    for run in 0..=settings.runs {
        disk.add(disk::commits(worker.dir(), RECORD * settings.connections, Duration::from_secs(1))?);
        let seconds = if run == 0 { 2 } else { settings.seconds };
        let sample = clients.run(worker.pid()?, Duration::from_secs(seconds))?;
        answered += sample.answers;
        let there = log.admin().watermarks(&hooks, ASK).map_err(of_log)?.1.unsigned_abs();
        if there != answered {
            return Err(Error::new(format!("{answered} requests were answered, and {there} records are in the log")));
        }
        eprintln!("webhook, run {run}: {:.0} requests/s", sample.rate);
        if run > 0 {
            rate.add(sample.rate);
            middle.add(sample.middle);
            slow.add(sample.slow);
            cpu.add(sample.cpu);
        }
    }
    let usage = worker.usage()?;
    let _ = writeln!(
        found.table,
        "| webhooks of {RECORD} bytes over {} connections, durable on the embedded log | requests/s | half within | 99 of 100 within | CPU µs a request | peak RSS |\n|---|---|---|---|---|---|\n| Tributary | {:.1} k | {:.2} ms | {:.2} ms | {:.0} | {} MB |\n| the disk: that many records in one write, made durable, over and over | {:.1} k | | | | |\n",
        settings.connections,
        median(&rate) / 1e3,
        median(&middle),
        median(&slow),
        median(&cpu),
        usage.peak_rss >> 20,
        median(&disk) * settings.connections as f64 / 1e3,
    );
    found.targets.push(Target::at_least("webhook source: thousand requests/s", 20.0, median(&rate) / 1e3));
    Ok(())
}

/// Requests a second of the sink and of the plain loop, by turns.
fn sink(settings: &Settings, found: &mut Found) -> Result<()> {
    let server = Server::start()?;
    let worker = TributaryWorker::start_embedded()?;
    fill(&worker, settings.records)?;
    let [mut ours, mut plain, mut our_cpu, mut plain_cpu] = <[Spread; 4]>::default();
    for run in 0..=settings.runs {
        let name = format!("sink-{run}");
        let config = json!({
            "connector.class": "HttpSink",
            "topics": "orders",
            "url": server.url(),
            "addresses.allowed": "loopback",
            "concurrency": settings.concurrency.to_string(),
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
        });
        let before = Usage::of(worker.pid()?)?.cpu;
        server.reset();
        worker.rest().put_connector(&name, &config)?;
        let rate = followed(&server, settings.records)?;
        let cpu = (Usage::of(worker.pid()?)?.cpu - before).as_secs_f64() * 1e6 / settings.records as f64;
        worker.rest().delete_connector(&name)?;

        server.reset();
        let loop_cpu = post::in_a_process(&server.url(), settings.records, settings.concurrency)?;
        let loop_rate = followed(&server, settings.records)?;
        eprintln!("run {run}: sink {rate:.0} requests/s, plain loop {loop_rate:.0} requests/s");
        if run > 0 {
            ours.add(rate);
            plain.add(loop_rate);
            our_cpu.add(cpu);
            plain_cpu.add(loop_cpu * 1e6 / settings.records as f64);
        }
    }
    let ratio = median(&ours) / median(&plain);
    let _ = writeln!(
        found.table,
        "| requests of one record of {RECORD} bytes, {} at a time | requests/s | CPU µs a request | × plain loop |\n|---|---|---|---|\n| plain loop, from memory | {:.1} k | {:.0} | |\n| Tributary, from the embedded log | {:.1} k | {:.0} | {ratio:.2} |\n",
        settings.concurrency,
        median(&plain) / 1e3,
        median(&plain_cpu),
        median(&ours) / 1e3,
        median(&our_cpu),
    );
    found.targets.push(Target::at_least("HTTP sink: rate, × plain loop", 0.9, ratio));
    Ok(())
}

/// So many records, each with a key of its own, in a topic of the worker's log.
fn fill(worker: &TributaryWorker, records: u64) -> Result<()> {
    const AT_ONCE: u64 = 5_000;
    let log = attach_log("embedded", &ClientSettings::new(), &worker.dir().join("data")).map_err(of_log)?;
    let mut producer = log.producer(&ClientSettings::new()).map_err(of_log)?;
    let value = record();
    for (token, from) in (0..records).step_by(AT_ONCE as usize).enumerate() {
        let numbers = from..records.min(from + AT_ONCE);
        let keys = BinaryArray::from_iter_values(numbers.clone().map(|number| number.to_string()));
        let values = BinaryArray::from_iter_values(numbers.map(|_| value.as_bytes()));
        let rows = LogRecords { keys: Some(keys), ..LogRecords::from_values(values) };
        let mut sent = 0;
        while sent < rows.len() {
            sent += producer.send("orders", &rows, sent, token as u64, ASK).map_err(of_log)?;
        }
        producer.finish(token as u64);
    }
    producer.flush(ASK).map_err(of_log)?;
    producer.close(ASK).map_err(of_log)
}

/// Waits until the server has had so many requests; the rate from the first of them to the last.
fn followed(server: &Server, requests: u64) -> Result<f64> {
    let (mut seen, mut moved) = (0, Instant::now());
    wait::until("all requests", Duration::from_secs(300), || {
        let now = server.requests();
        if now != seen {
            (seen, moved) = (now, Instant::now());
        }
        if moved.elapsed() > STUCK {
            return Err(Error::new(format!("{seen} of {requests} requests came, then none for {} s", STUCK.as_secs())));
        }
        Ok((now >= requests).then_some(()))
    })?;
    if server.requests() > requests {
        return Err(Error::new(format!("{} requests came instead of {requests}", server.requests())));
    }
    Ok(server.rate())
}
