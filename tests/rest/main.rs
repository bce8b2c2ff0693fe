//! The REST API, with the real Kafka Connect as the judge.

mod answers;
mod clients;
mod fuzz;
mod http;
mod offsets;
mod runner;
mod scenario;
mod stamps;
mod versions;
mod wire;

use std::collections::BTreeMap;

use tributary_harness::{ConnectOptions, ConnectWorker, KafkaBroker, Result, TributaryWorker, WorkerOptions};

use runner::{Runner, Side};
use scenario::Scenario;

/// Every step of every scenario is sent to Connect, to Tributary on Kafka and to Tributary on the embedded log.
///
/// `TRIBUTARY_SCENARIO=offsets` runs those whose name has this in it.
#[test]
fn answers_are_those_of_connect() -> Result<()> {
    let wanted = std::env::var("TRIBUTARY_SCENARIO").unwrap_or_default();
    let mut by_settings: BTreeMap<BTreeMap<String, String>, Vec<(String, Scenario)>> = BTreeMap::new();
    for (name, scenario) in Scenario::all()? {
        if name.contains(&wanted) {
            by_settings.entry(scenario.worker.clone()).or_default().push((name, scenario));
        }
    }
    let mut differences = Vec::new();
    for (settings, scenarios) in &by_settings {
        differences.extend(run(settings, scenarios)?);
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(tributary_harness::Error::new(format!("{} answers differ:\n{}", differences.len(), differences.join("\n"))))
}

fn run(settings: &BTreeMap<String, String>, scenarios: &[(String, Scenario)]) -> Result<Vec<String>> {
    // Two brokers: consumer groups are named after connectors, and those have the same names everywhere.
    let (broker, other) = (KafkaBroker::shared()?, KafkaBroker::start()?);
    let mut options = ConnectOptions::default().small();
    let mut own = WorkerOptions::default();
    for (key, value) in settings {
        options = options.set(key, value);
        own = own.set(key, value);
    }
    let connect = ConnectWorker::start_with(&other, options)?;
    let kafka = TributaryWorker::start_with(&broker.bootstrap(), own.clone())?;
    let embedded = TributaryWorker::start_with("embedded", own)?;
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?];
    let side =
        |name, rest, place: usize| Side { name, rest, dir: dirs[place].path(), topic: format!("topic-of-{name}") };
    let mut runner = Runner {
        connect: side("connect", connect.rest(), 0),
        ours: vec![side("kafka", kafka.rest(), 1), side("embedded", embedded.rest(), 2)],
        differences: Vec::new(),
    };
    for (name, scenario) in scenarios {
        let start = std::time::Instant::now();
        let before = runner.differences.len();
        runner.run(name, scenario)?;
        for difference in &runner.differences[before..] {
            println!("{difference}");
        }
        println!(
            "{name}: {} steps in {:.1} s: {}",
            scenario.steps.len(),
            start.elapsed().as_secs_f64(),
            scenario.about
        );
    }
    Ok(runner.differences)
}
