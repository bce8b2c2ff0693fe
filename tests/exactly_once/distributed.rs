//! A group of workers whose sources deliver exactly once: fencing of former tasks, takeovers, zombies.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{Checker, Context, Error, KafkaBroker, Lines, Result, Seed, wait};
use tributary_tests::{SESSION, Workers};

use crate::support::{exactly_once, position};

/// Lines that are added to each file at a time.
const SHARE: u64 = 3_000;

/// Sources with files, a topic each.
struct Sources {
    group: String,
    dir: tempfile::TempDir,
    lines: Vec<Lines>,
}

impl Sources {
    fn create(workers: &Workers, count: u32, more: &Value) -> Result<Self> {
        let lines = (0..count).map(|number| Lines::new(0).of_source(number)).collect();
        let mut sources = Self { group: workers.group.clone(), dir: tempfile::tempdir()?, lines };
        sources.more()?;
        for number in 0..count {
            sources.put(workers, number, more)?;
        }
        workers.wait_running(0, &sources.names()).map_err(|error| workers.with_logs(error.to_string()))?;
        Ok(sources)
    }

    fn put(&self, workers: &Workers, number: u32, more: &Value) -> Result<()> {
        let mut config = json!({
            "connector.class": "FileStreamSource", "file": self.input(number), "topic": self.topic(number),
            "batch.size": "200", "errors.restart.backoff.initial.ms": "50",
        });
        config.as_object_mut().context("an object")?.extend(more.as_object().cloned().unwrap_or_default());
        let rest = workers.rest(number as usize % workers.count());
        rest.put_connector(&self.name(number), &config).map(drop)
    }

    fn input(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("input-{number}"))
    }

    fn topic(&self, number: u32) -> String {
        format!("{}-lines-{number}", self.group)
    }

    fn name(&self, number: u32) -> String {
        format!("{}-source-{number}", self.group)
    }

    fn names(&self) -> Vec<String> {
        (0..self.lines.len() as u32).map(|number| self.name(number)).collect()
    }

    fn more(&mut self) -> Result<()> {
        for number in 0..self.lines.len() {
            let (input, before) = (self.input(number as u32), self.lines[number].count());
            self.lines[number] = Lines::new(before + SHARE).of_source(number as u32);
            self.lines[number].clone().with_numbers(before..before + SHARE).append(&input)?;
        }
        Ok(())
    }

    /// Waits for all lines and judges them: each once, and the stored offsets agree.
    fn check(&self, workers: &Workers, broker: &KafkaBroker) -> Result<()> {
        for (number, lines) in (0..).zip(&self.lines) {
            let what = format!("all lines of source {number}");
            let found = wait::until(&what, 2 * wait::PATIENCE, || {
                let mut count = 0;
                tributary_harness::checker::read_topic(broker, &self.topic(number), |_, _| count += 1)?;
                let all = count >= lines.count();
                if all { Ok(Some(())) } else { Err(Error::new(format!("{count} of {}", lines.count()))) }
            });
            found.map_err(|error| workers.with_logs(error.to_string()))?;
            let report = Checker::new([lines]).topic(broker, &self.topic(number))?;
            println!("source {number}: {report}");
            report.exactly_once().map_err(|error| workers.with_logs(error.to_string()))?;
            assert_eq!(position(workers.rest(0), &self.name(number))?, Some(lines.bytes()));
        }
        Ok(())
    }
}

fn quick() -> tributary_harness::WorkerOptions {
    let session = SESSION.as_millis().to_string();
    exactly_once().set("session.timeout.ms", &session).set("heartbeat.interval.ms", "1000")
}

/// Workers that are killed, and workers that stand still until others have their tasks, and then go on.
#[test]
fn takeovers_and_zombies() -> Result<()> {
    let mut seed = Seed::announce("exactly once: takeovers and zombies");
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 3, quick())?;
    let interval = seed.random_range(5..200).to_string();
    let more = json!({"transaction.boundary": "interval", "transaction.boundary.interval.ms": interval});
    let mut sources = Sources::create(&workers, 4, &more)?;
    for round in 0..5 {
        sources.more()?;
        thread::sleep(Duration::from_millis(seed.random_range(0..1_000)));
        let victim = seed.random_range(0..3);
        if round % 2 == 0 {
            println!("round {round}: SIGSTOP of worker {victim}");
            workers.get(victim).sigstop()?;
            thread::sleep(SESSION + Duration::from_millis(seed.random_range(0..4_000)));
            sources.more()?;
            workers.get(victim).sigcont()?;
        } else {
            println!("round {round}: kill -9 of worker {victim}");
            workers.get_mut(victim).kill9()?;
            thread::sleep(Duration::from_millis(seed.random_range(0..3_000)));
            sources.more()?;
            workers.get_mut(victim).restart()?;
        }
    }
    sources.check(&workers, &broker)?;
    workers.stop()
}

/// Configs that change while records flow: the former tasks' producers are fenced before the new tasks start.
#[test]
fn former_tasks_are_fenced() -> Result<()> {
    let mut seed = Seed::announce("exactly once: reconfigurations");
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 2, quick())?;
    let topic = format!("{}-generated", workers.group);
    let name = format!("{}-generator", workers.group);
    let config = |tasks: usize| {
        json!({"connector.class": "GeneratorSource", "schema": "orders", "format": "json", "rate": "2000", "topic": topic,
               "tasks.max": tasks.to_string(), "errors.restart.backoff.initial.ms": "50"})
    };
    let mut sources = Sources::create(&workers, 2, &json!({}))?;
    for round in 0..5 {
        let tasks = [3, 1, 4, 2, 1][round];
        workers.rest(round % 2).put_connector(&name, &config(tasks))?;
        for number in 0..2 {
            sources.put(&workers, number, &json!({"batch.size": (150 + round).to_string()}))?;
        }
        sources.more()?;
        let all = [sources.names(), vec![name.clone()]].concat();
        workers.wait_running(0, &all).map_err(|error| workers.with_logs(error.to_string()))?;
        // Tasks that were replaced before they ran have left no producers to fence, and no record.
        wait::until("the tasks to start", wait::PATIENCE, || {
            let found = workers.rest(0).get(&format!("/connectors/{name}/tasks"))?.ok()?;
            let configured = found.as_array().map_or(0, Vec::len) == tasks;
            Ok((configured && task_counts(&broker, &workers.group)?.contains(&(tasks as u64))).then_some(()))
        })?;
        thread::sleep(Duration::from_millis(seed.random_range(0..800)));
    }
    sources.check(&workers, &broker)?;
    workers.stop()
}

/// What the config topic says of how many producers there may be, as Kafka Connect writes it.
fn task_counts(broker: &KafkaBroker, group: &str) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    tributary_harness::checker::read_topic(broker, &format!("{group}-config"), |_, value| {
        let value: Value = serde_json::from_slice(value.unwrap_or_default()).unwrap_or_default();
        counts.extend(value["task-count"].as_u64());
    })?;
    Ok(counts)
}

/// `PUT /connectors/{c}/fence` is the workers' own.
#[test]
fn strangers_fence_nothing() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start_with(&broker.bootstrap(), 1, quick())?;
    // Until there is a session key, nobody can be asked for a signature.
    let answer = wait::until("an answer", wait::PATIENCE, || {
        let answer = workers.rest(0).put("/connectors/any/fence", &json!({}))?;
        Ok((answer.status != 503).then_some(answer))
    })?;
    assert_eq!(answer.status, 400, "{}", answer.body);
    workers.stop()
}
