//! The webhook source: a listener whose requests become records.
//!
//! Promises: a request is answered with 2xx only when every record of it is acknowledged by the log, filtered by a transform, or
//! disposed of as a failed record. Everything else is an answer by which the sender knows that it has to send again, or a broken
//! connection. So nothing that was answered with 2xx is lost in a kill, and what was sent again comes twice. Records of a request
//! stay in their order.
//!
//! Fails: an address that is taken is waited for. A request is refused alone: see [`listener`]. While the log is away, requests wait
//! for `answer.timeout.ms`, within `buffer.bytes`, and get 503.
//!
//! How the task learns of acknowledgements: each poll's last record has an offset, the number of the poll, and the worker tells up to
//! which one the log has them. That these offsets are stored as well nobody waits for, as a webhook cannot be read again. Where
//! records are written in transactions, a commit is asked for as long as requests wait.

pub(crate) mod body;
mod inbox;
mod limit;
mod listener;
mod patient;
pub(crate) mod signature;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tributary_sdk::{
    Config, ConfigDef, Context, Error, ExactlyOnceSupport, Output, Records, Result, SourceConnector, SourcePosition,
    SourceTask,
};

use crate::config::failed;
use crate::config::webhook::WebhookConfig;
use inbox::Inbox;
use limit::Limit;
use listener::{Claim, Shared};

/// Key of a task config: its number, so that each has offsets of its own.
const TASK: &str = "webhook.task";
/// Key of a task config: how many tasks there are.
const TASKS: &str = "webhook.tasks";
/// In offsets: the number of the poll.
const POLL: &str = "poll";
/// What one poll hands over.
const POLL_RECORDS: usize = 5_000;
const POLL_BYTES: usize = 4 << 20;
/// How long a poll waits when no request does.
const IDLE: Duration = Duration::from_secs(1);
/// How long it waits while requests wait to be answered, at first and later.
const BUSY: Duration = Duration::from_millis(5);
const STUCK: Duration = Duration::from_millis(20);
/// How long the last answers may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Listens for webhooks.
#[derive(Debug, Default)]
pub struct WebhookSource {
    config: Config,
}

impl SourceConnector for WebhookSource {
    type Task = WebhookSourceTask;

    fn config_def() -> ConfigDef {
        WebhookConfig::definition()
    }

    fn validate(&mut self, config: &Config) -> Vec<(String, String)> {
        // What the definition finds by itself is told already.
        if Self::config_def().parse(config).is_err() {
            return Vec::new();
        }
        WebhookConfig::parse(config).err().into_iter().collect()
    }

    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        WebhookConfig::parse(config).map_err(failed)?;
        self.config = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        let config = |task: usize| {
            let mut config = self.config.clone();
            config.set(TASK, task.to_string());
            config.set(TASKS, max_tasks.to_string());
            config
        };
        Ok((0..max_tasks).map(config).collect())
    }

    fn alter_offsets(&mut self, _: &Config, offsets: &[SourcePosition]) -> Result<bool> {
        match offsets.iter().find(|position| position.offset.is_some()) {
            None => Ok(true),
            Some(_) => Err(Error::failed("a webhook cannot be read again: its offsets can only be reset")),
        }
    }

    fn exactly_once_support(&mut self, _: &Config) -> Option<ExactlyOnceSupport> {
        // What a sender repeats comes twice.
        Some(ExactlyOnceSupport::Unsupported)
    }
}

/// One listener, and the requests that wait for their answers.
#[derive(Default)]
pub struct WebhookSourceTask(Option<Running>);

impl std::fmt::Debug for WebhookSourceTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSourceTask").field("started", &self.0.is_some()).finish()
    }
}

struct Running {
    shared: Arc<Shared>,
    runtime: Runtime,
    /// Ends when all connections have.
    ended: mpsc::Receiver<()>,
    partition: Value,
    /// Given up when the listener is gone.
    _claim: Option<Claim>,
}

impl SourceTask for WebhookSourceTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = WebhookConfig::parse(config).map_err(failed)?;
        let task = config.get(TASK).unwrap_or("0");
        let (listen, path) = (parsed.listen, parsed.path.clone());
        // One task needs the address for itself; several share it with each other only.
        let share = config.get(TASKS).and_then(|tasks| tasks.parse().ok()).is_some_and(|tasks: usize| tasks > 1);
        let claim = share.then(|| Claim::of(listen, config.get("name").unwrap_or_default())).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("webhook")
            .enable_all()
            .build()
            .map_err(|error| Error::retriable(format!("cannot start a runtime: {error}")))?;
        let listener = {
            let _inside = runtime.enter();
            listener::bind(listen, share)?
        };
        let shared = Arc::new(Shared {
            context: context.clone(),
            inbox: Inbox::new(parsed.buffer),
            limit: parsed.rate.map(Limit::new),
            config: parsed,
            closing: watch::channel(false).0,
        });
        let (alive, ended) = mpsc::channel(1);
        runtime.spawn(listener::run(shared.clone(), listener, alive));
        context.info(format!("webhooks are taken at {listen}{path}"));
        let partition = json!({"webhook": format!("{listen}{path}"), "task": task});
        self.0 = Some(Running { shared, runtime, ended, partition, _claim: claim });
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        self.0.as_mut().ok_or_else(|| Error::failed("the task is not started"))?.poll(output)
    }

    fn commit(&mut self, positions: &[SourcePosition]) -> Result<()> {
        // It has been told already, unless the worker is one that tells nothing before.
        if let Some(running) = &self.0 {
            safe(&running.shared.inbox, &running.partition, positions);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(running) = self.0.take() {
            running.stop();
        }
        Ok(())
    }

    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let shared = self.0.as_ref()?.shared.clone();
        Some(Box::new(move || {
            shared.closing.send_replace(true);
            // Their senders learn that they have to send again.
            shared.inbox.close();
        }))
    }

    fn acknowledger(&self) -> Option<Box<dyn Fn(&[SourcePosition]) + Send + Sync>> {
        let Running { shared, partition, .. } = self.0.as_ref()?;
        let (shared, partition) = (shared.clone(), partition.clone());
        Some(Box::new(move |positions| safe(&shared.inbox, &partition, positions)))
    }
}

/// What lies before these positions is safe.
fn safe(inbox: &Inbox, partition: &Value, positions: &[SourcePosition]) {
    let own = positions.iter().filter(|position| position.partition == *partition);
    let poll = |position: &SourcePosition| position.offset.as_ref()?.get(POLL)?.as_u64();
    if let Some(until) = own.filter_map(poll).max() {
        inbox.safe(until);
    }
}

impl Running {
    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let inbox = &self.shared.inbox;
        let wait = match inbox.oldest().map(|since| since.elapsed()) {
            None => IDLE,
            Some(waits) if waits < BUSY => BUSY,
            Some(waits) => {
                self.shared.context.request_commit();
                if waits < 10 * STUCK { BUSY } else { STUCK }
            }
        };
        let Some((poll, taken)) = inbox.take(POLL_RECORDS, POLL_BYTES, wait) else { return Ok(()) };
        let mut records = Records::to(self.shared.config.topic.clone()).from(&self.partition);
        let mut left: usize = taken.iter().map(Vec::len).sum();
        for record in taken.into_iter().flatten() {
            left -= 1;
            let last = left == 0;
            records.push(if last { record.offset(&json!({POLL: poll})) } else { record })?;
        }
        // If the worker does not take them, the task ends, and with it the requests: unanswered.
        records.emit(output)
    }

    fn stop(mut self) {
        self.shared.closing.send_replace(true);
        self.shared.inbox.close();
        // What the log has not acknowledged until now, it may or may not have.
        self.shared.inbox.give_up();
        let _ = self.runtime.block_on(async { tokio::time::timeout(LAST_ANSWERS, self.ended.recv()).await });
        self.runtime.shutdown_background();
    }
}
