//! Webhooks into a topic while the worker is killed: what was answered with 2xx is there.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tributary_harness::{Checker, Lines, Result, Seed, TributaryWorker, WorkerOptions, ports, wait};
use tributary_tests::Log;

const KILLS: u64 = 5;
const SENDERS: u64 = 6;

/// Sends a body and answers with the status; 0 where there is no answer.
fn send(stream: &mut Option<TcpStream>, port: u16, body: &[u8]) -> u16 {
    let mut exchange = || -> std::io::Result<u16> {
        let connection = match stream {
            Some(open) => open,
            None => stream.insert(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?),
        };
        connection.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = format!("POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"}") {
            connection.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        let status = String::from_utf8_lossy(&answer).split_whitespace().nth(1).map(str::parse);
        Ok(status.and_then(std::result::Result::ok).unwrap_or(0))
    };
    let status = exchange().unwrap_or(0);
    if status != 200 {
        *stream = None;
    }
    status
}

#[test]
fn kills_on_kafka() -> Result<()> {
    kills(&Log::kafka()?, Seed::announce("kills of a webhook on Kafka"))
}

#[test]
fn kills_on_the_embedded_log() -> Result<()> {
    kills(&Log::Embedded, Seed::announce("kills of a webhook on the embedded log"))
}

/// Each sender has lines of its own and sends each until it is answered with 200.
fn kills(log: &Log, mut seed: Seed) -> Result<()> {
    let topic = format!("hooks-{}-{}", std::process::id(), matches!(log, Log::Embedded));
    if let Log::Kafka(broker) = log {
        broker.create_topic(&topic, 1, &[])?;
    }
    let options = WorkerOptions::default().set("offset.flush.interval.ms", "200");
    let mut worker = TributaryWorker::start_with(&log.bootstrap(), options)?;
    let port = ports::free()?;
    let config = json!({
        "connector.class": "WebhookSource",
        "topic": topic,
        "listen": format!("127.0.0.1:{port}"),
        "path": "/hook",
        "value.format": "text",
        "records": "body",
    });
    worker.rest().post("/connectors", &json!({"name": topic, "config": config}))?.ok()?;
    worker.wait_running(&topic)?;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sent: Arc<Mutex<Vec<Lines>>> = Arc::default();
    let senders: Vec<_> = (0..SENDERS)
        .map(|source| {
            let (stop, answered, sent) = (stop.clone(), answered.clone(), sent.clone());
            thread::spawn(move || {
                let mut stream = None;
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    let line = Lines::new(0).of_source(source as u32).with_numbers(number..number + 1);
                    let body = line.iter().next().unwrap_or_default();
                    // Also after the end has come: a line that was begun is seen through.
                    while send(&mut stream, port, &body) != 200 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                    number += 1;
                }
                let lines = Lines::new(number).of_source(source as u32);
                sent.lock().unwrap_or_else(PoisonError::into_inner).push(lines);
            })
        })
        .collect();
    for _ in 0..KILLS {
        let goal = answered.load(Ordering::SeqCst) + seed.random_range(20..200);
        wait::until("answers", wait::PATIENCE, || Ok((answered.load(Ordering::SeqCst) >= goal).then_some(())))
            .map_err(|error| worker.with_log(error.to_string()))?;
        worker.kill9()?;
        worker.spawn()?;
    }
    let goal = answered.load(Ordering::SeqCst) + 100;
    wait::until("the last answers", wait::PATIENCE, || Ok((answered.load(Ordering::SeqCst) >= goal).then_some(())))
        .map_err(|error| worker.with_log(error.to_string()))?;
    stop.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.join().map_err(|_| "a sender panicked")?;
    }
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let report = match log {
        Log::Kafka(broker) => Checker::new(&sent).topic(broker, &topic)?,
        Log::Embedded => {
            // The whole log, by a sink of its own.
            let output = worker.dir().join("output");
            let config = json!({"connector.class": "FileStreamSink", "file": output, "topics": topic});
            worker.rest().put_connector("out", &config)?;
            let count: u64 = sent.iter().map(Lines::count).sum();
            let lines =
                || std::fs::read(&output).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count() as u64);
            let mut settled = 0;
            wait::until("all lines in the file", wait::PATIENCE, || {
                let now = lines();
                let same = now == std::mem::replace(&mut settled, now);
                Ok((same && now >= count).then_some(()))
            })
            .map_err(|error| worker.with_log(error.to_string()))?;
            Checker::new(&sent).file(&output)?
        }
    };
    println!("topic: {report}");
    report.at_least_once()?;
    worker.stop()
}

/// The example as it is, but for the address.
#[test]
fn the_example_takes_signed_events() -> Result<()> {
    let port = ports::free()?;
    let provider = "org.apache.kafka.common.config.provider.FileConfigProvider";
    let options = WorkerOptions::default().set("config.providers", "file").set("config.providers.file.class", provider);
    let worker = TributaryWorker::start_with("embedded", options)?;
    let (name, mut config) = super::example("webhook-source.json", "x")?;
    config["listen"] = format!("127.0.0.1:{port}").into();
    // The file of the example's reference.
    let secret = worker.dir().join("github.properties");
    std::fs::write(&secret, "secret=It's a Secret to Everybody\n")?;
    config["signature.secret"] = format!("${{file:{}:secret}}", secret.display()).into();
    worker.rest().put_connector(&name, &config)?;
    worker.wait_running(&name)?;
    let body = "Hello, World!";
    let ask = |signature: &str, body: &str| -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let headers =
            format!("Host: h\r\nConnection: close\r\nX-GitHub-Event: ping\r\nX-Hub-Signature-256: {signature}\r\n");
        write!(stream, "POST /github HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    // Signed well, and without the header that becomes the key, and no JSON.
    let answer = ask(good, body)?;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let answer = ask(good, "{}")?;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let status = worker.rest().status(&name)?;
    assert_eq!(status["tasks"][0]["state"], "RUNNING", "{status}");
    assert!(!worker.log().contains("Secret to Everybody"));
    Ok(())
}
