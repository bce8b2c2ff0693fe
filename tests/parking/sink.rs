//! A worker with a file sink that parks quickly, and the lines that went to its topic.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_harness::process::ScratchDir;
use tributary_harness::{
    Checker, Context, Error, KafkaBroker, Lines, Report, Result, TributaryWorker, WorkerOptions, wait,
};

/// A second without records is enough, and everything else that takes its time is quicker, too.
fn quickly() -> WorkerOptions {
    WorkerOptions::default()
        .set("sink.parking.delay.ms", "500")
        .set("offset.flush.interval.ms", "200")
        .set("consumer.session.timeout.ms", "6000")
        .set("consumer.heartbeat.interval.ms", "500")
        .set("consumer.fetch.max.wait.ms", "300")
        .set("metadata.max.age.ms", "1000")
}

/// See the module's documentation. The topic has the connector's name; each partition gets lines of a source of its own.
pub struct Sink {
    pub worker: TributaryWorker,
    pub name: String,
    producer: BaseProducer,
    sent: Vec<Lines>,
    dir: ScratchDir,
}

impl Sink {
    /// A sink of a topic with so many partitions, on a worker of its own.
    pub fn start(broker: &KafkaBroker, partitions: i32) -> Result<Self> {
        Self::start_with(broker, &broker.bootstrap(), partitions, &[])
    }

    /// The same with further settings of the worker.
    pub fn start_with(
        broker: &KafkaBroker,
        bootstrap: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let name = format!("parking-{}", NUMBERS.fetch_add(1, Ordering::Relaxed));
        broker.create_topic(&name, partitions, &[])?;
        let options = settings.iter().fold(quickly(), |options, (key, value)| options.set(key, value));
        let worker = TributaryWorker::start_with(bootstrap, options)?;
        let producer = broker.client().set("linger.ms", "0").create()?;
        let sent = (0..partitions).map(|partition| Lines::new(0).of_source(partition as u32)).collect();
        let sink = Self { worker, name, producer, sent, dir: ScratchDir::new("parking")? };
        sink.configure(json!({}))?;
        sink.worker.wait_running(&sink.name)?;
        Ok(sink)
    }

    /// The output.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("output")
    }

    /// Sets the connector's config, with more than it has always.
    pub fn configure(&self, more: Value) -> Result<()> {
        let mut config =
            json!({"connector.class": "FileStreamSink", "topics": self.name, "file": self.file(), "tasks.max": "1"});
        config.as_object_mut().context("an object")?.extend(more.as_object().cloned().unwrap_or_default());
        self.worker.rest().put_connector(&self.name, &config).map(drop)
    }

    /// The topic has more partitions now.
    pub fn more_partitions(&mut self, broker: &KafkaBroker, partitions: u32) -> Result<()> {
        // The former one learns of them late.
        self.producer = broker.client().set("linger.ms", "0").create()?;
        self.sent.extend((self.sent.len() as u32..partitions).map(|partition| Lines::new(0).of_source(partition)));
        Ok(())
    }

    /// Sends lines to a partition.
    pub fn send(&mut self, partition: usize, count: u64) -> Result<()> {
        let sent = &mut self.sent[partition];
        let begin = sent.count();
        *sent = Lines::new(begin + count).of_source(partition as u32);
        for line in sent.clone().with_numbers(begin..begin + count).iter() {
            let record = BaseRecord::<(), [u8]>::to(&self.name).partition(partition as i32).payload(&line);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        self.producer.flush(Duration::from_secs(60)).map_err(Into::into)
    }

    /// A metric of the connector's first task.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let answer = self.worker.rest().get("/metrics")?;
        let series = format!("{name}{{connector=\"{}\",task=\"0\"}} ", self.name);
        let value = |line: &str| line.strip_prefix(&series)?.trim().parse().ok();
        Ok(answer.body.as_str().unwrap_or_default().lines().find_map(value))
    }

    pub fn is_parked(&self) -> Result<bool> {
        Ok(self.metric("tributary_task_parked")? == Some(1.0))
    }

    pub fn wait_parked(&self) -> Result<()> {
        let parked = wait::until("the task to be parked", wait::PATIENCE, || Ok(self.is_parked()?.then_some(())));
        parked.map_err(|error| self.with_log(&error))
    }

    /// Waits until as many lines have been written as were sent, or more.
    pub fn wait_written(&self) -> Result<()> {
        let expected: u64 = self.sent.iter().map(Lines::bytes).sum();
        let written = wait::until("all lines to be written", wait::PATIENCE, || {
            let length = self.file().metadata().map_or(0, |file| file.len());
            if length >= expected { Ok(Some(())) } else { Err(Error::new(format!("{length} of {expected} bytes"))) }
        });
        written.map_err(|error| self.with_log(&error))
    }

    /// What came of all that was sent.
    pub fn judge(&self) -> Result<Report> {
        Checker::new(&self.sent).file(&self.file())
    }

    /// Waits for what was sent; nothing may be missing or come twice.
    pub fn check(&self) -> Result<()> {
        self.wait_written()?;
        self.judge()?.exactly_once().map_err(|error| self.with_log(&error))
    }

    pub fn with_log(&self, error: &Error) -> Error {
        self.worker.with_log(error.to_string())
    }
}
