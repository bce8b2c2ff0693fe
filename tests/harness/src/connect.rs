//! A real Kafka Connect 4.3.1 worker with the file connectors, to compare with.
//!
//! Distributed, it keeps its configs, offsets and status in three topics of its own on the broker;
//! standalone, in a file. The heap is what its start script gives it, so that what is measured here
//! is what its users see. A start waits until the REST API answers.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::jars::ClassPath;
use crate::java::java;
use crate::process::{ScratchDir, Server};
use crate::rest::Rest;
use crate::{KafkaBroker, Result, Usage, ports, wait};

/// How a worker is set up.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    standalone: bool,
    jvm: Vec<String>,
    settings: Vec<(String, String)>,
}

impl Default for ConnectOptions {
    /// Distributed, with the heap and the collector of `connect-distributed.sh`.
    fn default() -> Self {
        let jvm = ["-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"];
        let more = ["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"];
        Self { standalone: false, jvm: jvm.into_iter().chain(more).map(String::from).collect(), settings: Vec::new() }
    }
}

impl ConnectOptions {
    /// Runs `connect-standalone` instead.
    pub fn standalone(mut self) -> Self {
        self.standalone = true;
        self
    }

    /// A small heap and quick compiling, for tests that compare answers, not speed.
    pub fn small(mut self) -> Self {
        self.jvm = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(String::from).to_vec();
        self
    }

    /// Any setting of the worker; the last one wins.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }
}

/// A Kafka Connect worker that lives as long as this value.
#[derive(Debug)]
pub struct ConnectWorker {
    // The process must be gone before its directory is.
    server: Server,
    rest: Rest,
    _dir: ScratchDir,
}

impl ConnectWorker {
    /// Starts a distributed worker.
    pub fn start(broker: &KafkaBroker) -> Result<Self> {
        Self::start_with(broker, ConnectOptions::default())
    }

    /// Starts a worker.
    pub fn start_with(broker: &KafkaBroker, options: ConnectOptions) -> Result<Self> {
        let mut worker = Self::prepare(broker, options)?;
        worker.restart()?;
        Ok(worker)
    }

    /// Sets a worker up without starting it.
    pub fn prepare(broker: &KafkaBroker, options: ConnectOptions) -> Result<Self> {
        let dir = ScratchDir::new("connect")?;
        let port = ports::free()?;
        let file = dir.path().join("worker.properties");
        let logging = dir.path().join("log4j2.properties");
        fs::write(&logging, LOG4J)?;
        let plugins = ClassPath::FileConnectors.resolve()?;
        let offsets = dir.path().join("offsets");
        fs::write(&file, properties(&broker.bootstrap(), port, &plugins, &offsets, &options))?;
        let class = if options.standalone { "ConnectStandalone" } else { "ConnectDistributed" };
        let server = Server::new("connect", java()?.program, dir.path().join("connect.log"))
            .args(options.jvm)
            .args([format!("-Dlog4j2.configurationFile={}", logging.display())])
            .args(["-cp".into(), ClassPath::Connect.resolve()?, format!("org.apache.kafka.connect.cli.{class}")])
            .args([file.display().to_string()]);
        Ok(Self { server, rest: Rest::new(format!("http://127.0.0.1:{port}")), _dir: dir })
    }

    /// Its REST API.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Shuts it down in order with SIGTERM and waits.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop(Duration::from_secs(60)).map(drop)
    }

    /// Starts the process without waiting for it to answer.
    pub fn spawn(&mut self) -> Result<()> {
        self.server.start()
    }

    /// Starts it, or starts it again on the same port, files and topics.
    pub fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        let rest = &self.rest;
        self.server.wait_until("answering", wait::PATIENCE, || {
            let answer = rest.get("/connectors")?;
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
}

fn properties(bootstrap: &str, port: u16, plugins: &str, offsets: &Path, options: &ConnectOptions) -> String {
    let mut text = format!(
        "\
bootstrap.servers={bootstrap}
listeners=http://127.0.0.1:{port}
plugin.path={plugins}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
"
    );
    if options.standalone {
        let _ = writeln!(text, "offset.storage.file.filename={}", offsets.display());
    } else {
        // Workers that share a broker but not a port are clusters of their own.
        let _ = writeln!(text, "group.id=connect-{port}\nscheduled.rebalance.max.delay.ms=0");
        for store in ["config", "offset", "status"] {
            let _ = writeln!(text, "{store}.storage.topic=connect-{port}-{store}");
            let _ = writeln!(text, "{store}.storage.replication.factor=1");
        }
        let _ = writeln!(text, "offset.storage.partitions=4");
    }
    for (key, value) in &options.settings {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// As the worker's own configuration logs, but for the layout.
const LOG4J: &str = "\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %X{connector.context}%m (%c:%L)%n
rootLogger.level=info
rootLogger.appenderRef.out.ref=out
";
