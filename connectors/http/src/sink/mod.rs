//! The HTTP sink: each record, or each run of records, becomes a request.
//!
//! Promises: a record whose offset is committed was answered with 2xx, was refused for a reason that is told by its row, or was left
//! out because the config says so. `put` returns when every record of the batch has its answer; with `concurrency=1` requests are
//! sent in the order of the partition, with more in the order of each key. After a crash, records since the last commit are sent again,
//! with the same idempotency key.
//!
//! Fails: see [`deliver`]. What may pass is waited for; what a record is to blame for is told by its row, with the server's
//! answer; what somebody has to mend (credentials, a refused address) fails the task.

mod deliver;
mod progress;
mod ready;
mod requests;
mod responses;

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::sink::TopicPartitionOffset;
use tributary_sdk::{Batch, Column, Config, ConfigDef, Context, Error, Failures, Result, SinkConnector, SinkTask};

use crate::config::failed;
use crate::config::sink::{RESPONSE_TOPIC, SinkConfig};
use deliver::Delivery;
use progress::Progress;

/// How long requests under way may still take when the task has to stop: their records need not be sent again then.
const LAST_ANSWERS: Duration = Duration::from_millis(1200);

/// Sends records to one URL, from as many tasks as there are.
#[derive(Debug, Default)]
pub struct HttpSink {
    config: Config,
}

impl SinkConnector for HttpSink {
    type Task = HttpSinkTask;

    fn config_def() -> ConfigDef {
        SinkConfig::definition()
    }

    fn validate(&mut self, config: &Config) -> Vec<(String, String)> {
        // What the definition finds by itself is told already.
        if Self::config_def().parse(config).is_err() {
            return Vec::new();
        }
        SinkConfig::parse(config).err().into_iter().collect()
    }

    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = SinkConfig::parse(config).map_err(failed)?;
        if parsed.shows_credentials {
            context.warn("credentials are sent without TLS: everybody on the way can read them; use an https URL");
        }
        self.config = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        Ok(vec![self.config.clone(); max_tasks])
    }

    fn alter_offsets(&mut self, _config: &Config, _offsets: &[TopicPartitionOffset]) -> Result<bool> {
        // The group's offsets are the only ones there are.
        Ok(true)
    }
}

/// Sends records as requests.
#[derive(Default)]
pub struct HttpSinkTask(Option<Sender>);

struct Sender {
    context: Context,
    config: SinkConfig,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    /// How far a batch has come that will be put again.
    progress: Option<Progress>,
}

impl std::fmt::Debug for HttpSinkTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSinkTask").field("started", &self.0.is_some()).finish()
    }
}

impl SinkTask for HttpSinkTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let config = SinkConfig::parse(config).map_err(failed)?;
        if let Some(topic) = &config.response_topic {
            let nothing = Batch::new(topic.as_str(), Column::text(StringArray::from(Vec::<&str>::new())));
            context.produce(nothing).map_err(|error| Error::failed(format!("{RESPONSE_TOPIC}: {error}")))?;
        }
        // On the task's own thread: a request costs no change of threads.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::retriable(format!("cannot start a runtime: {error}")))?;
        let (stop, _) = watch::channel(false);
        self.0 = Some(Sender { context: context.clone(), config, runtime, stop, progress: None });
        Ok(())
    }

    fn open(&mut self, _partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        if let Some(sender) = &mut self.0 {
            sender.progress = None;
        }
        Ok(Vec::new())
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        self.0.as_mut().ok_or_else(|| Error::failed("the task is not started"))?.put(&batch, failures)
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(sender) = self.0.take() {
            // A look-up of a name may hang in the system's resolver.
            sender.runtime.shutdown_background();
        }
        Ok(())
    }

    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let stop = self.0.as_ref()?.stop.clone();
        Some(Box::new(move || _ = stop.send_replace(true)))
    }
}

impl Sender {
    fn put(&mut self, batch: &Batch, failures: &mut Failures) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let known = self.progress.take().filter(|progress| progress.is_of(batch));
        let progress = known.unwrap_or_else(|| Progress::of(batch));
        let delivery = Delivery::new(&self.context, &self.config, batch, progress, &self.stop);
        let mut stopped = self.stop.subscribe();
        self.runtime.block_on(async {
            // Connections that were closed since the last batch are noticed first.
            tokio::task::yield_now().await;
            tokio::select! {
                () = delivery.run() => {}
                () = async {
                    let _ = stopped.wait_for(|stop| *stop).await;
                    tokio::time::sleep(LAST_ANSWERS).await;
                } => {}
            }
        });
        let (progress, counts, outcome) = delivery.finish();
        self.context.count("http-requests", counts.requests);
        if counts.retries > 0.0 {
            self.context.count("http-retries", counts.retries);
        }
        match outcome {
            Ok(()) => {
                progress.report(failures);
                Ok(())
            }
            Err(error) => {
                self.progress = Some(progress);
                Err(error)
            }
        }
    }
}
