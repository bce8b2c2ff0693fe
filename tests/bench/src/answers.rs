//! How quickly a worker answers GET status to clients that keep their connections.
//!
//! The clients are the same for both workers.

use std::time::Duration;

use serde_json::json;
use tributary_harness::{KafkaBroker, Result};

use crate::clients::{Clients, Sample};
use crate::contender::Contender;
use crate::measure::Spread;
use crate::plan::Plan;
use crate::workers::Worker;

/// Clients that ask at the same time.
pub const CLIENTS: usize = 16;
/// How long they ask in one run.
const RUN: Duration = Duration::from_secs(5);
/// How long they ask before it counts: a JVM takes its time to become quick.
const WARM_UP: Duration = Duration::from_secs(15);
const CONNECTOR: &str = "asked-about";

/// All runs of one worker.
pub struct Answers {
    pub contender: Contender,
    /// Answers a second.
    pub rate: Spread,
    /// Milliseconds until half of the answers, and until 99 of 100.
    pub middle: Spread,
    pub slow: Spread,
    /// The worker's CPU time for an answer, in microseconds.
    pub cpu: Spread,
    pub failure: Option<String>,
}

/// Asks both workers by turns.
pub fn measure(broker: &KafkaBroker, plan: &Plan, runs: usize) -> Result<Vec<Answers>> {
    let asked = [Contender::Connect, Contender::Tributary].into_iter().filter(|contender| plan.rest(*contender));
    let mut workers = Vec::new();
    for contender in asked {
        eprintln!("rest/{}", contender.key());
        let answers = Answers {
            contender,
            rate: Spread::default(),
            middle: Spread::default(),
            slow: Spread::default(),
            cpu: Spread::default(),
            failure: None,
        };
        workers.push((prepare(contender, broker)?, answers));
    }
    // Run 0 warms up and is not counted.
    for run in 0..=runs {
        for (worker, answers) in workers.iter_mut().filter(|(_, answers)| answers.failure.is_none()) {
            match ask(worker, if run == 0 { WARM_UP } else { RUN }) {
                Ok(sample) => {
                    eprintln!("run {run} rest/{}: {:.0} answers/s", answers.contender.key(), sample.rate);
                    if run > 0 {
                        answers.rate.add(sample.rate);
                        answers.middle.add(sample.middle);
                        answers.slow.add(sample.slow);
                        answers.cpu.add(sample.cpu);
                    }
                }
                Err(error) => answers.failure = Some(error.to_string()),
            }
        }
    }
    Ok(workers.into_iter().map(|(_, answers)| answers).collect())
}

fn prepare(contender: Contender, broker: &KafkaBroker) -> Result<Worker> {
    let worker = Worker::start(contender, broker)?;
    let topic = "asked-about";
    if broker.record_count(topic).is_err() {
        broker.create_topic(topic, 1, &[])?;
    }
    let config = json!({
        "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
        "topics": topic,
        "file": "/dev/null",
        "tasks.max": "1",
    });
    worker.rest().put_connector(CONNECTOR, &config)?;
    worker.rest().wait_running(CONNECTOR)?;
    Ok(worker)
}

/// One run.
fn ask(worker: &Worker, time: Duration) -> Result<Sample> {
    let address = worker.rest().base().trim_start_matches("http://").to_owned();
    let request = format!("GET /connectors/{CONNECTOR}/status HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\n\r\n");
    let clients = Clients { address, count: CLIENTS, request: request.into_bytes(), wanted: "RUNNING" };
    clients.run(worker.pid()?, time)
}
