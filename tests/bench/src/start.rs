//! How long a worker takes from its start to the first answer of its REST API, and what it weighs idle.

use std::thread;
use std::time::{Duration, Instant};

use tributary_harness::{KafkaBroker, Result, Usage, wait};

use crate::contender::Contender;
use crate::measure::Spread;
use crate::plan::Plan;
use crate::workers::Worker;

/// Long enough for what a start leaves behind to settle.
const SETTLE: Duration = Duration::from_secs(5);

/// The starts of one worker.
pub struct Starts {
    pub contender: Contender,
    /// Seconds to the first answer.
    pub seconds: Spread,
    /// Bytes resident without a connector.
    pub idle_rss: u64,
    /// Threads without a connector.
    pub threads: u64,
    pub failure: Option<String>,
}

/// Starts each worker some times.
pub fn measure(broker: &KafkaBroker, plan: &Plan, runs: usize) -> Result<Vec<Starts>> {
    let workers = [Contender::Connect, Contender::Tributary];
    let asked = workers.into_iter().filter(|contender| plan.start(*contender));
    Ok(asked.map(|contender| starts(broker, contender, runs)).collect())
}

fn starts(broker: &KafkaBroker, contender: Contender, runs: usize) -> Starts {
    eprintln!("start/{}", contender.key());
    let mut starts = Starts { contender, seconds: Spread::default(), idle_rss: 0, threads: 0, failure: None };
    for _ in 0..runs {
        match start(broker, contender) {
            Ok((seconds, idle)) => {
                starts.seconds.add(seconds);
                starts.idle_rss = starts.idle_rss.max(idle.rss);
                starts.threads = starts.threads.max(idle.threads);
            }
            Err(error) => {
                starts.failure = Some(error.to_string());
                break;
            }
        }
    }
    starts
}

fn start(broker: &KafkaBroker, contender: Contender) -> Result<(f64, Usage)> {
    let mut worker = Worker::prepare(contender, broker)?;
    let start = Instant::now();
    worker.spawn()?;
    while worker.rest().get("/connectors").and_then(|answer| answer.ok()).is_err() {
        if start.elapsed() > wait::PATIENCE {
            return Err("the REST API did not answer".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let seconds = start.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    Ok((seconds, Usage::of(worker.pid()?)?))
}
