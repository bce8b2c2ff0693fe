//! The worker and its life.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::build::binary;
use crate::process::{ScratchDir, Server};
use crate::rest::Rest;
use crate::{KafkaBroker, Result, Usage, ports, wait};

/// How a worker is set up.
#[derive(Clone, Debug, Default)]
pub struct WorkerOptions {
    settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
    connectors: Vec<Value>,
    file_size_limit: Option<u64>,
}

impl WorkerOptions {
    /// Any property of the worker; the last one wins.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// An environment variable of the process.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A connector for the command line: `{"name":…,"config":{…}}`.
    pub fn connector(mut self, connector: Value) -> Self {
        self.connectors.push(connector);
        self
    }

    /// No file may grow past this many bytes, rounded down to blocks of 512: what writing to a full disk is like.
    pub fn file_size_limit(mut self, bytes: u64) -> Self {
        self.file_size_limit = Some(bytes);
        self
    }
}

/// A `tributary standalone` that lives as long as this value.
#[derive(Debug)]
pub struct TributaryWorker {
    // The process must be gone before its directory is.
    server: Server,
    rest: Rest,
    properties: PathBuf,
    dir: ScratchDir,
}

impl TributaryWorker {
    /// Starts a worker on a broker.
    pub fn start(broker: &KafkaBroker) -> Result<Self> {
        Self::start_with(&broker.bootstrap(), WorkerOptions::default())
    }

    /// Starts a worker on the embedded log.
    pub fn start_embedded() -> Result<Self> {
        Self::start_with("embedded", WorkerOptions::default())
    }

    /// Starts a worker on what `bootstrap.servers` names.
    pub fn start_with(bootstrap: &str, options: WorkerOptions) -> Result<Self> {
        let mut worker = Self::prepare(bootstrap, options)?;
        worker.restart()?;
        Ok(worker)
    }

    /// Sets a worker up without starting it.
    pub fn prepare(bootstrap: &str, options: WorkerOptions) -> Result<Self> {
        let binary = binary()?;
        let dir = ScratchDir::new("worker")?;
        let port = ports::free()?;
        let properties = dir.path().join("worker.properties");
        fs::write(&properties, worker_properties(bootstrap, port, dir.path(), &options))?;
        let mut args = vec!["standalone".to_owned(), properties.display().to_string()];
        for (number, connector) in options.connectors.iter().enumerate() {
            let file = dir.path().join(format!("connector-{number}.json"));
            fs::write(&file, connector.to_string())?;
            args.push(file.display().to_string());
        }
        let log = dir.path().join("worker.log");
        let mut server = match options.file_size_limit {
            None => Server::new("tributary", binary, log),
            // The shell sets the limit and becomes the worker. Without the signal ignored, the first write
            // past the limit would kill it; a full disk only fails the write.
            Some(bytes) => Server::new("tributary", "sh", log)
                .args(["-c", r#"trap "" XFSZ; ulimit -f "$0"; exec "$@""#])
                .args([(bytes / SHELL_BLOCK).to_string(), binary.display().to_string()]),
        }
        .args(args);
        for (name, value) in options.env {
            server = server.env(name, value);
        }
        Ok(Self { server, rest: Rest::new(format!("http://127.0.0.1:{port}")), properties, dir })
    }

    /// Its REST API.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Waits until a connector and its tasks are RUNNING.
    pub fn wait_running(&self, connector: &str) -> Result<()> {
        self.rest.wait_running(connector).map_err(|error| self.server.with_log(error.to_string()))
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Shuts it down in order with SIGTERM; one that does not end well is an error.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.server.stop(Duration::from_secs(30))?;
        if status.success() { Ok(()) } else { Err(self.server.with_log(format!("tributary ended with {status}"))) }
    }

    /// Starts the process without waiting for it to answer.
    pub fn spawn(&mut self) -> Result<()> {
        self.server.start()
    }

    /// Starts it, or starts it again on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        let rest = &self.rest;
        self.server.wait_until("answering", wait::PATIENCE, || {
            let answer = rest.get("/health")?;
            Ok((answer.status == 200).then_some(()))
        })
    }

    /// Freezes it with SIGSTOP.
    pub fn sigstop(&self) -> Result<()> {
        self.server.signal(Signal::STOP)
    }

    /// Lets it go on after [`sigstop`](Self::sigstop).
    pub fn sigcont(&self) -> Result<()> {
        self.server.signal(Signal::CONT)
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// What it costs.
    pub fn usage(&self) -> Result<Usage> {
        self.server.usage()
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Result<u32> {
        self.server.pid()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// An error that ends with the tail of its log.
    pub fn with_log(&self, message: impl Into<String>) -> crate::Error {
        self.server.with_log(message)
    }

    /// Where its properties, log and data are; tests may put files of their own there.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its properties file, for the other commands of the binary.
    pub fn properties(&self) -> &Path {
        &self.properties
    }
}

/// `ulimit -f` counts in blocks of this many bytes in every POSIX shell.
const SHELL_BLOCK: u64 = 512;

fn worker_properties(bootstrap: &str, port: u16, dir: &Path, options: &WorkerOptions) -> String {
    let mut text = format!(
        "\
bootstrap.servers={bootstrap}
listeners=http://127.0.0.1:{port}
offset.storage.file.filename={}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
",
        dir.join("data").display()
    );
    for (key, value) in &options.settings {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}
