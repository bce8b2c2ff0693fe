//! The main job: lines of a file into a topic and out of it into another file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tributary_harness::{Error, Lines, Result, TributaryWorker, WorkerOptions, wait};

/// Nothing new in the output for so long means that nothing more will come.
const STUCK: Duration = Duration::from_secs(60);

/// A worker with a source and a sink, and their files in its directory.
#[derive(Debug)]
pub struct FileJob {
    /// The worker.
    pub worker: TributaryWorker,
    /// The topic between the two; no other job uses it.
    pub topic: String,
    /// What the source reads.
    pub input: PathBuf,
    /// What the sink writes.
    pub output: PathBuf,
}

impl FileJob {
    /// Starts a worker, without connectors yet.
    pub fn start(bootstrap: &str) -> Result<Self> {
        Self::start_with(bootstrap, WorkerOptions::default())
    }

    /// Starts a worker with these options, without connectors yet.
    pub fn start_with(bootstrap: &str, options: WorkerOptions) -> Result<Self> {
        static JOBS: AtomicU32 = AtomicU32::new(0);
        // Offsets are committed often, so that a crash in a short test finds some.
        let worker = TributaryWorker::start_with(bootstrap, options.set("offset.flush.interval.ms", "200"))?;
        let (input, output) = (worker.dir().join("input"), worker.dir().join("output"));
        // A sink's group is named after its connector, and so are offsets: on a shared broker both names are the job's own.
        let topic = format!("lines-{}-{}", std::process::id(), JOBS.fetch_add(1, Ordering::Relaxed));
        Ok(Self { worker, topic, input, output })
    }

    /// The name of the source connector.
    pub fn source(&self) -> String {
        format!("source-{}", self.topic)
    }

    /// The name of the sink connector.
    pub fn sink(&self) -> String {
        format!("sink-{}", self.topic)
    }

    /// Creates the source, with further config, and waits until it runs.
    pub fn create_source(&self, more: Value) -> Result<()> {
        let config = json!({"connector.class": "FileStreamSource", "file": self.input, "topic": self.topic});
        self.worker.rest().put_connector(&self.source(), &merged(config, more))?;
        self.worker.wait_running(&self.source())
    }

    /// Creates the sink, with further config.
    pub fn create_sink(&self, more: Value) -> Result<()> {
        let config = json!({"connector.class": "FileStreamSink", "file": self.output, "topics": self.topic});
        self.worker.rest().put_connector(&self.sink(), &merged(config, more)).map(drop)
    }

    /// Creates both and waits until they run.
    pub fn create_both(&self) -> Result<()> {
        self.create_source(json!({}))?;
        self.create_sink(json!({}))?;
        self.worker.wait_running(&self.sink())
    }

    /// Bytes in the output.
    pub fn written(&self) -> u64 {
        fs::metadata(&self.output).map_or(0, |file| file.len())
    }

    /// Waits until the last of these lines is the last of the output.
    pub fn wait_for(&self, lines: &Lines) -> Result<()> {
        let mut last = lines.last().ok_or("no lines to wait for")?;
        last.push(b'\n');
        let (mut length, mut moved) = (0, Instant::now());
        let outcome = wait::until("the last line to be written", Duration::MAX, || {
            let now = self.written();
            if now != length {
                (length, moved) = (now, Instant::now());
            }
            let done = tail(&self.output, last.len())? == last;
            Ok((done || moved.elapsed() > STUCK).then_some(done))
        });
        if outcome? {
            return Ok(());
        }
        Err(self.worker.with_log(format!("the output stays at {length} bytes; {}", self.statuses())))
    }

    /// Waits until the worker has logged this.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        let what = format!("\"{text}\" in the worker's log");
        let outcome = wait::until(&what, wait::PATIENCE, || Ok(self.worker.log().contains(text).then_some(())));
        outcome.map_err(|error| self.worker.with_log(format!("{error}; {}", self.statuses())))
    }

    /// Restarts the only task of the sink over REST.
    pub fn restart_sink_task(&self) -> Result<()> {
        let path = format!("/connectors/{}/tasks/0/restart", self.sink());
        self.worker.rest().post(&path, &Value::Null)?.ok().map(drop)
    }

    /// The status of both connectors, for messages.
    pub fn statuses(&self) -> String {
        let status = |name: &str| match self.worker.rest().status(name) {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        format!("source {}; sink {}", status(&self.source()), status(&self.sink()))
    }
}

/// The last bytes of a file, fewer if it has no more.
fn tail(path: &Path, length: usize) -> Result<Vec<u8>, Error> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::with_capacity(length);
    if let Ok(mut file) = fs::File::open(path) {
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(length as u64)))?;
        file.take(length as u64).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn merged(mut config: Value, more: Value) -> Value {
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}
