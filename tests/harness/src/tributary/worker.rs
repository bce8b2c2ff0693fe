//! The worker and its life.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;

use super::build::binary;
use super::limit::{Limit, SMALL_DISK};
use crate::process::{ScratchDir, Server};
use crate::rest::Rest;
use crate::{Context, KafkaBroker, Result, Usage, ports, wait};

/// How a worker is set up.
#[derive(Clone, Debug, Default)]
pub struct WorkerOptions {
    settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
    connectors: Vec<Value>,
    listeners: String,
    limit: Option<Limit>,
    group: Option<String>,
}

impl WorkerOptions {
    /// Any property of the worker; the last one wins.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// Runs `tributary distributed` in this group, with topics named after it.
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(name.into());
        self
    }

    /// A further listener, beside the harness' own (`https://127.0.0.1:8443`).
    pub fn listener(mut self, listener: &str) -> Self {
        let _ = write!(self.listeners, ",{listener}");
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

    /// What the worker has little of.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// A `tributary standalone`, or `distributed`, that lives as long as this value.
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
        let command = if options.group.is_some() { "distributed" } else { "standalone" };
        let mut args = vec![command.to_owned(), properties.display().to_string()];
        for (number, connector) in options.connectors.iter().enumerate() {
            let file = dir.path().join(format!("connector-{number}.json"));
            fs::write(&file, connector.to_string())?;
            args.push(file.display().to_string());
        }
        let log = dir.path().join("worker.log");
        let mut server = match options.limit {
            None => Server::new("tributary", binary, log),
            Some(limit) => {
                let disk = dir.path().join(SMALL_DISK);
                fs::create_dir(&disk)?;
                let (program, shell) = limit.wrap(&binary, &disk);
                Server::new("tributary", program, log).args(shell)
            }
        }
        .args(args);
        for (name, value) in options.env {
            server = server.env(name, value);
        }
        let rest = Rest::new(format!("http://127.0.0.1:{port}"));
        Ok(Self { server, rest, properties, dir })
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

    /// Lets files grow as they like again, in the running worker and until its next start.
    pub fn lift_file_size_limit(&self) -> Result<()> {
        let pid = i32::try_from(self.pid()?).ok().and_then(Pid::from_raw).context("a process id out of range")?;
        let free = Rlimit { current: None, maximum: None };
        prlimit(Some(pid), Resource::Fsize, free).context("cannot lift the limit")?;
        Ok(())
    }

    /// The small disk as the worker sees it, for its configs.
    pub fn small_disk(&self) -> PathBuf {
        self.dir().join(SMALL_DISK)
    }

    /// The small disk as everybody else sees it while the worker runs.
    pub fn small_disk_from_outside(&self) -> Result<PathBuf> {
        let path = self.small_disk();
        Ok(Path::new(&format!("/proc/{}/root", self.pid()?)).join(path.strip_prefix("/").unwrap_or(&path)))
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

fn worker_properties(bootstrap: &str, port: u16, dir: &Path, options: &WorkerOptions) -> String {
    let mut text = format!(
        "\
bootstrap.servers={bootstrap}
listeners=http://127.0.0.1:{port}{}
data.dir={}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
",
        options.listeners,
        dir.join("data").display()
    );
    if let Some(group) = &options.group {
        let _ = writeln!(text, "group.id={group}");
        for store in ["config", "offset", "status"] {
            let _ = writeln!(text, "{store}.storage.topic={group}-{store}");
            let _ = writeln!(text, "{store}.storage.replication.factor=1");
        }
        let _ = writeln!(text, "offset.storage.partitions=4");
    }
    for (key, value) in &options.settings {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}
