//! A REST API into a topic while the worker is killed and the API misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{Checker, HttpServer, Lines, Reply, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_tests::Log;

const KILLS: u64 = 5;
const LINES: u64 = 4_000;
const PAGE: u64 = 50;

/// Serves lines in pages by a cursor; as many as `there` says. One request in eight is answered otherwise than it should.
fn api(there: Arc<AtomicU64>) -> Result<HttpServer> {
    let count = AtomicUsize::new(0);
    HttpServer::start(move |request| {
        let from: u64 = request.query("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let to = (from + PAGE).min(there.load(Ordering::SeqCst));
        let lines = Lines::new(0).with_numbers(from..to.max(from));
        let items: Vec<String> = lines.iter().map(|line| String::from_utf8_lossy(&line).into_owned()).collect();
        let next = if to == from + PAGE { to.to_string() } else { "null".to_owned() };
        let body = format!(r#"{{"items":[{}],"next_cursor":{next}}}"#, items.join(","));
        match count.fetch_add(1, Ordering::SeqCst) % 40 {
            0 => Reply::status(500, "oops"),
            8 => Reply::status(429, "").with("Retry-After", "0"),
            16 => Reply::Reset,
            24 => Reply::HalfBody(200, body.into_bytes()),
            32 => Reply::status(200, "<html>").with("Content-Type", "text/html"),
            _ => Reply::Slow(Duration::from_millis(2), Box::new(Reply::json(body))),
        }
    })
}

#[test]
fn kills_on_kafka() -> Result<()> {
    let Log::Kafka(broker) = Log::kafka()? else { return Err("not Kafka".into()) };
    let mut seed = Seed::announce("kills of an HTTP source");
    let topic = format!("items-{}", std::process::id());
    broker.create_topic(&topic, 1, &[])?;
    let options = WorkerOptions::default().set("offset.flush.interval.ms", "200");
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    let there = Arc::new(AtomicU64::new(LINES / 2));
    let server = api(there.clone())?;
    let config = json!({
        "connector.class": "HttpSource",
        "topic": topic,
        "url": server.url("/items"),
        "addresses.allowed": "loopback",
        "records.pointer": "/items",
        "pagination": "cursor",
        "poll.interval.ms": "200",
        "retry.backoff.ms": "5",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
    });
    worker.rest().post("/connectors", &json!({"name": topic, "config": config}))?.ok()?;
    worker.wait_running(&topic)?;
    for _ in 0..KILLS {
        let goal = server.requests().len() + seed.random_range(1..20);
        let limit = std::time::Instant::now() + Duration::from_secs(5);
        while server.requests().len() < goal && std::time::Instant::now() < limit {
            thread::sleep(Duration::from_millis(1));
        }
        worker.kill9()?;
        // Grows also while nobody looks.
        there.fetch_add(LINES / 2 / KILLS, Ordering::SeqCst);
        worker.spawn()?;
    }
    let lines = Lines::new(LINES);
    let mut last = String::new();
    wait::until("the last line", wait::PATIENCE, || {
        let report = Checker::new([&lines]).topic(&broker, &topic)?;
        last = report.to_string();
        Ok((report.missing == 0).then_some(()))
    })
    .map_err(|error| worker.with_log(format!("{error}; {last}")))?;
    let report = Checker::new([&lines]).topic(&broker, &topic)?;
    println!("topic: {report}");
    report.at_least_once()?;
    worker.stop()
}

/// The example as it is, but for the address.
#[test]
fn the_example_reads_issues() -> Result<()> {
    let server = HttpServer::start(|request| {
        let page: u64 = request.query("page").and_then(|page| page.parse().ok()).unwrap_or(1);
        let numbers = (page - 1) * 100..(page * 100).min(250);
        let issues: Vec<Value> =
            numbers.map(|n| json!({"id": n, "updated_at": format!("2026-01-01T00:{:02}:00Z", n / 10)})).collect();
        let reply = Reply::json(json!(issues));
        if page < 3 { reply.with("Link", &format!(r#"<?page={}>; rel="next""#, page + 1)) } else { reply }
    })?;
    let worker = TributaryWorker::start_embedded()?;
    let (name, config) = super::example("http-source.json", &format!("127.0.0.1:{}", server.port()))?;
    worker.rest().put_connector(&name, &config)?;
    worker.wait_running(&name)?;
    wait::until("250 issues", wait::PATIENCE, || {
        let status = worker.rest().status(&name)?;
        Ok((status["tasks"][0]["progress"]["records_out"] == 250).then_some(()))
    })
    .map_err(|error| worker.with_log(error.to_string()))
}
