//! Lines that go from files through topics into files, and who ran what according to the status topic.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tributary_harness::{Checker, Context, Error, KafkaBroker, Lines, Result, wait};
use tributary_tests::Workers;

/// Lines that are added to each input at a time.
const SHARE: u64 = 2_000;

/// Pairs of a source and a sink.
pub struct Jobs {
    group: String,
    dir: tempfile::TempDir,
    count: u32,
    /// Lines in each input so far.
    lines: u64,
}

impl Jobs {
    /// Creates so many pairs over different workers and waits until all run.
    pub fn create(workers: &Workers, count: u32) -> Result<Self> {
        let jobs = Self { group: workers.group.clone(), dir: tempfile::tempdir()?, count, lines: SHARE };
        for number in 0..count {
            jobs.of(number).with_numbers(0..SHARE).write(&jobs.input(number))?;
            let rest = workers.rest(number as usize % workers.count());
            let source =
                json!({"connector.class": "FileStreamSource", "file": jobs.input(number), "topic": jobs.topic(number)});
            rest.put_connector(&jobs.source(number), &source)?;
            let sink =
                json!({"connector.class": "FileStreamSink", "file": jobs.output(number), "topics": jobs.topic(number)});
            rest.put_connector(&jobs.sink(number), &sink)?;
        }
        let all: Vec<String> = jobs.sources().into_iter().chain(jobs.sinks()).collect();
        workers.wait_running(0, &all).map_err(|error| workers.with_logs(error.to_string()))?;
        Ok(jobs)
    }

    fn of(&self, number: u32) -> Lines {
        Lines::new(self.lines).of_source(number)
    }

    fn input(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("input-{number}"))
    }

    fn output(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("output-{number}"))
    }

    fn topic(&self, number: u32) -> String {
        format!("{}-lines-{number}", self.group)
    }

    fn source(&self, number: u32) -> String {
        format!("{}-in-{number}", self.group)
    }

    fn sink(&self, number: u32) -> String {
        format!("{}-out-{number}", self.group)
    }

    /// The names of the sources.
    pub fn sources(&self) -> Vec<String> {
        (0..self.count).map(|number| self.source(number)).collect()
    }

    /// The names of the sinks.
    pub fn sinks(&self) -> Vec<String> {
        (0..self.count).map(|number| self.sink(number)).collect()
    }

    /// Adds lines to every input.
    pub fn more(&mut self) -> Result<()> {
        let numbers = self.lines..self.lines + SHARE;
        self.lines = numbers.end;
        (0..self.count).try_for_each(|number| self.of(number).with_numbers(numbers.clone()).append(&self.input(number)))
    }

    /// Waits until the last line of every input is in its output.
    pub fn wait_delivered(&self, workers: &Workers) -> Result<()> {
        for number in 0..self.count {
            let mut last = self.of(number).last().context("no lines")?;
            last.push(b'\n');
            let what = format!("the last line of job {number}");
            wait::until(&what, 2 * wait::PATIENCE, || {
                let written = fs::read(self.output(number))?;
                let found = written.windows(last.len()).rev().take(1 << 20).any(|window| window == last);
                if found { Ok(Some(())) } else { Err(Error::new(format!("{} bytes are there", written.len()))) }
            })
            .map_err(|error| workers.with_logs(error.to_string()))?;
        }
        Ok(())
    }

    /// Judges everything that was delivered.
    pub fn check(&self, broker: &KafkaBroker) -> Result<()> {
        for number in 0..self.count {
            let lines = self.of(number);
            let topic = Checker::new([&lines]).topic(broker, &self.topic(number))?;
            println!("topic {number}: {topic}");
            topic.at_least_once()?;
            let file = Checker::new([&lines]).file(&self.output(number))?;
            println!("file {number}: {file}");
            file.at_least_once()?;
        }
        Ok(())
    }
}

/// What was reported of a task, in the order in which it was written.
#[derive(Debug, Clone)]
struct Report {
    state: String,
    worker: String,
    generation: i64,
}

impl Report {
    fn repeats_or_follows(&self, other: &Self) -> bool {
        self.generation > other.generation || (self.generation == other.generation && self.worker == other.worker)
    }
}

/// Who ran what, by the status topic.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<String, Vec<Report>>);

impl Owners {
    /// Reads the status topic of a group to its present end.
    pub fn read(broker: &KafkaBroker, group: &str) -> Result<Self> {
        let topic = format!("{group}-status");
        let consumer: BaseConsumer = broker
            .client()
            .set("group.id", "owners")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()?;
        let ends = broker.watermarks(&topic)?;
        let mut assignment = TopicPartitionList::new();
        let mut open = 0;
        for (partition, (first, next)) in (0..).zip(&ends) {
            if next > first {
                assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
                open += 1;
            }
        }
        consumer.assign(&assignment)?;
        let mut owners = Self::default();
        while open > 0 {
            match consumer.poll(Duration::from_secs(30)) {
                Some(Ok(record)) => owners.take(record.key(), record.payload()),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => return Err(error).context("cannot read the status topic"),
                None => return Err(Error::new("nothing comes from the status topic")),
            }
        }
        Ok(owners)
    }

    fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = String::from_utf8_lossy(key.unwrap_or_default());
        let Some(task) = key.strip_prefix("status-task-") else { return };
        let Ok(status) = serde_json::from_slice::<Value>(value.unwrap_or_default()) else { return };
        let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
        let generation = status["generation"].as_i64().unwrap_or(-1);
        let report = Report { state: text("state"), worker: text("worker_id"), generation };
        self.0.entry(task.to_owned()).or_default().push(report);
    }

    /// Fails if a task was reported by a worker that it had been taken from.
    ///
    /// A report that was on its way when a worker was frozen may come late, since nothing can fence it; then the task's worker
    /// has to say again what is true.
    pub fn check(&self) -> Result<()> {
        for (task, reports) in &self.0 {
            let mut reports_in_order = reports.iter().peekable();
            let Some(mut owner) = reports_in_order.next() else { continue };
            while let Some(report) = reports_in_order.next() {
                let given_up = owner.state == "UNASSIGNED" || report.generation > owner.generation;
                let late = report.generation < owner.generation;
                if late && reports_in_order.peek().is_some_and(|next| next.repeats_or_follows(owner)) {
                    continue;
                }
                if late || (report.worker != owner.worker && !given_up) {
                    return Err(Error::new(format!("task {task}: {owner:?}, then {report:?}; all: {reports:#?}")));
                }
                owner = report;
            }
        }
        Ok(())
    }

    /// Who reported a task last.
    pub fn last_worker(&self, task: &str) -> Result<&str> {
        let reports = self.0.get(task).context("no reports of the task")?;
        Ok(reports.last().map(|report| report.worker.as_str()).unwrap_or_default())
    }

    /// How many reports of a task a worker has written.
    pub fn reports_by(&self, task: &str, worker: &str) -> usize {
        self.0.get(task).map_or(0, |reports| reports.iter().filter(|report| report.worker == worker).count())
    }

    /// How often each task came to run that had run before.
    pub fn starts_since(&self, before: &Self) -> BTreeMap<String, usize> {
        let starts = |(task, reports): (&String, &Vec<Report>)| {
            let known = before.0.get(task).map_or(0, Vec::len);
            (task.clone(), reports[known..].iter().filter(|report| report.state == "RUNNING").count())
        };
        self.0.iter().map(starts).collect()
    }
}
