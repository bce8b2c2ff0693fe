//! From a file through a log to an HTTP server that misbehaves, while the worker is killed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{Checker, HttpServer, Lines, Reply, Result, Seed, wait};
use tributary_tests::{FileJob, Log};

const KILLS: u64 = 6;
/// Lines that are added in each life of the worker.
const SHARE: u64 = 1_000;

/// What a server has accepted: the lines of its bodies.
type Accepted = Arc<Mutex<Vec<Vec<u8>>>>;

#[test]
fn kills_on_kafka() -> Result<()> {
    kills(&Log::kafka()?, Seed::announce("kills of an HTTP sink on Kafka"), &json!({}))
}

#[test]
fn kills_on_the_embedded_log_with_batches() -> Result<()> {
    let batches = json!({"batch.max.records": "20", "batch.format": "lines"});
    kills(&Log::Embedded, Seed::announce("kills of a batching HTTP sink on the embedded log"), &batches)
}

/// A server that answers one request in ten otherwise than it should; what it answers with 2xx, it has, and sends back.
fn bad_server(accepted: &Accepted) -> Result<HttpServer> {
    let (accepted, count) = (accepted.clone(), AtomicUsize::new(0));
    HttpServer::start(move |request| {
        let accept = || {
            let mut accepted = accepted.lock().unwrap_or_else(PoisonError::into_inner);
            accepted.extend(request.body.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec));
            Reply::status(200, request.body.strip_suffix(b"\n").unwrap_or(&request.body))
        };
        match count.fetch_add(1, Ordering::SeqCst) % 60 {
            0 => Reply::status(503, "busy"),
            10 => Reply::status(429, "").with("Retry-After", "0"),
            20 => Reply::Reset,
            30 => {
                // Stored, and the answer is lost: it comes again.
                accept();
                Reply::Reset
            }
            40 => Reply::HalfBody(500, b"internal error".to_vec()),
            50 => Reply::Slow(Duration::from_millis(30), Box::new(accept())),
            _ => accept(),
        }
    })
}

fn kills(log: &Log, mut seed: Seed, more: &Value) -> Result<()> {
    let mut job = FileJob::start(&log.bootstrap())?;
    let accepted = Accepted::default();
    let server = bad_server(&accepted)?;
    let lines = Lines::new((KILLS + 1) * SHARE);
    lines.clone().with_numbers(0..SHARE).write(&job.input)?;
    job.create_source(json!({}))?;
    let mut config = json!({
        "connector.class": "HttpSink",
        "topics": job.topic,
        "url": server.url("/lines"),
        "addresses.allowed": "loopback",
        "retry.backoff.ms": "10",
        "response.topic": format!("{}-answers", job.topic),
    });
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more.clone()) {
        config.extend(more);
    }
    let body = json!({"name": job.sink(), "config": config});
    job.worker.rest().post("/connectors", &body)?.ok()?;
    job.worker.wait_running(&job.sink())?;
    let count = || accepted.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    for life in 1..=KILLS {
        // At some point of the work, or while the worker is starting.
        let goal = count() + seed.random_range(0..SHARE);
        let limit = std::time::Instant::now() + Duration::from_secs(5);
        while count() < goal && std::time::Instant::now() < limit {
            thread::sleep(Duration::from_millis(1));
        }
        job.worker.kill9()?;
        lines.clone().with_numbers(life * SHARE..(life + 1) * SHARE).append(&job.input)?;
        job.worker.spawn()?;
    }
    let last = lines.last();
    wait::until("the last line", wait::PATIENCE * 2, || {
        let accepted = accepted.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(last.as_ref().is_some_and(|last| accepted.contains(last)).then_some(()))
    })
    .map_err(|error| job.worker.with_log(format!("{error}; {}", job.statuses())))?;
    let all = accepted.lock().unwrap_or_else(PoisonError::into_inner).join(&b'\n');
    fs::write(&job.output, [all.as_slice(), b"\n"].concat())?;
    let report = Checker::new([&lines]).file(&job.output)?;
    println!("accepted: {report}");
    report.at_least_once()?;
    answers(&job, &lines)?;
    job.worker.stop()
}

/// The topic of the answers has one for each line.
fn answers(job: &FileJob, lines: &Lines) -> Result<()> {
    let file = job.worker.dir().join("answers");
    let config = json!({
        "connector.class": "FileStreamSink",
        "topics": format!("{}-answers", job.topic),
        "file": file,
    });
    job.worker.rest().put_connector("answers", &config)?;
    let answered = wait::until("an answer for each line", wait::PATIENCE, || {
        let report = Checker::new([lines]).file(&file);
        Ok(report.ok().filter(|report| report.clone().at_least_once().is_ok()))
    });
    let report = answered.map_err(|error| job.worker.with_log(format!("{error}; {}", job.statuses())))?;
    println!("answers: {report}");
    Ok(())
}

/// Refused records go to the dead letters with what the server said, and their neighbours to the server; a secret stays one.
#[test]
fn dead_letters_hold_the_answer() -> Result<()> {
    let job = FileJob::start("embedded")?;
    let secret = "a-s3cret-of-this-test";
    let server = HttpServer::start(move |request| {
        let signed = request.header("authorization").unwrap_or_default().to_owned();
        match request.text().as_str() {
            "bad" => Reply::status(422, format!("bad is refused, {signed}")),
            _ => Reply::status(200, ""),
        }
    })?;
    fs::write(&job.input, "one\nbad\ntwo\n")?;
    job.create_source(json!({}))?;
    let letters = format!("{}-letters", job.topic);
    let config = json!({
        "connector.class": "HttpSink",
        "topics": job.topic,
        "url": server.url("/in"),
        "addresses.allowed": "loopback",
        "auth.type": "bearer",
        "auth.token": secret,
        "errors.tolerance": "all",
        "errors.log.enable": "true",
        "errors.log.include.messages": "true",
        "errors.deadletterqueue.topic.name": letters,
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
    });
    job.worker.rest().put_connector(&job.sink(), &config)?;
    let data = job.worker.dir().join("data").display().to_string();
    let shown = wait::until("the letter", wait::PATIENCE, || {
        let args = ["dlq", "show", letters.as_str(), "-J", "-b", "embedded", "-d", data.as_str()];
        let output = std::process::Command::new(tributary_harness::tributary::binary()?).args(args).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Some(text).filter(|text| text.lines().count() == 1 && output.status.success()))
    })
    .map_err(|error| job.worker.with_log(format!("{error}; {}", job.statuses())))?;
    let letter: Value = serde_json::from_str(&shown)?;
    assert_eq!(letter["value"], "bad");
    let message = letter["error"]["exception.message"].as_str().unwrap_or_default();
    assert!(message.contains("422 Unprocessable Entity: bad is refused, [hidden]"), "{letter:#}");
    assert!(message.contains(&server.url("/in")), "{message}");
    wait::until("the neighbours", wait::PATIENCE, || {
        Ok(server.requests().iter().any(|request| request.text() == "two").then_some(()))
    })?;
    let bodies: Vec<_> = server.requests().iter().map(|request| request.text()).collect();
    assert_eq!(bodies, ["one", "bad", "two"]);
    let status = job.worker.rest().status(&job.sink())?.to_string();
    let config = job.worker.rest().get(&format!("/connectors/{}", job.sink()))?.ok()?;
    assert_eq!(config["config"]["auth.token"], secret, "as Kafka Connect: a reference is what hides it");
    for text in [status, job.worker.log(), shown] {
        assert!(!text.contains(secret), "{text}");
    }
    Ok(())
}

/// The example as it is, but for the address.
#[test]
fn the_example_posts_payments() -> Result<()> {
    let server = HttpServer::start(|_| Reply::status(200, ""))?;
    let worker = tributary_harness::TributaryWorker::start_embedded()?;
    let address = format!("127.0.0.1:{}", server.port());
    for file in ["generator-source.json", "http-sink.json"] {
        let (name, mut config) = super::example(file, &address)?;
        if file.starts_with("generator") {
            config["max.records"] = "500".into();
        }
        worker.rest().put_connector(&name, &config)?;
        worker.wait_running(&name)?;
    }
    let payments = |server: &HttpServer| {
        let mut payments = BTreeMap::new();
        for request in server.requests() {
            let items: Vec<Value> = serde_json::from_slice(&request.body).unwrap_or_default();
            for item in items {
                payments.insert(item["payment_id"].to_string(), request.header("idempotency-key").map(str::to_owned));
            }
        }
        payments
    };
    let got = wait::until("500 payments", wait::PATIENCE, || {
        let payments = payments(&server);
        Ok((payments.len() == 500).then_some(payments))
    })
    .map_err(|error| worker.with_log(error.to_string()))?;
    assert!(got.values().all(Option::is_some), "each request has its key");
    Ok(())
}
