//! Webhooks into a topic while the worker is killed: what was answered with 2xx is there.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use rand::Rng;
use serde_json::json;
use tributary_harness::{Checker, Lines, Result, Seed, TributaryWorker, WorkerOptions, ports, wait};
use tributary_tests::{Log, Workers};

use crate::senders::Senders;

const KILLS: u64 = 5;

#[test]
fn kills_on_kafka() -> Result<()> {
    kills(&Log::kafka()?, Seed::announce("kills of a webhook on Kafka"))
}

#[test]
fn kills_on_the_embedded_log() -> Result<()> {
    kills(&Log::Embedded, Seed::announce("kills of a webhook on the embedded log"))
}

/// While the worker is killed again and again.
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
    let senders = Senders::start(port);
    for _ in 0..KILLS {
        senders.wait_for(seed.random_range(20..200)).map_err(|error| worker.with_log(error.to_string()))?;
        worker.kill9()?;
        worker.spawn()?;
    }
    senders.wait_for(100).map_err(|error| worker.with_log(error.to_string()))?;
    let sent = senders.finish()?;
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

/// Two workers, each with a task, and one port: who is killed leaves it to the other.
#[test]
fn workers_share_a_port() -> Result<()> {
    let mut seed = Seed::announce("kills of one of two workers behind a port");
    let log = Log::kafka()?;
    let Log::Kafka(broker) = &log else { unreachable!("it was asked for") };
    let topic = format!("shared-hooks-{}", std::process::id());
    broker.create_topic(&topic, 1, &[])?;
    let mut workers = Workers::start(&log.bootstrap(), 2)?;
    let port = ports::free()?;
    let config = json!({
        "connector.class": "WebhookSource",
        "tasks.max": "2",
        "topic": topic,
        "listen": format!("127.0.0.1:{port}"),
        "path": "/hook",
        "value.format": "text",
        "records": "body",
    });
    workers.rest(0).put_connector(&topic, &config)?;
    workers.wait_balanced(0, 2, &[0, 1])?;
    let senders = Senders::start(port);
    for killed in [1, 0] {
        senders.wait_for(seed.random_range(100..300))?;
        workers.get_mut(killed).kill9()?;
        // The other goes on, whatever becomes of the task of the one that is gone.
        senders.wait_for(200).map_err(|error| workers.with_logs(error.to_string()))?;
        workers.get_mut(killed).restart()?;
        workers.wait_balanced(1 - killed, 2, &[0, 1])?;
    }
    senders.wait_for(100)?;
    let report = Checker::new(&senders.finish()?).topic(broker, &topic)?;
    println!("topic: {report}");
    report.at_least_once()
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
