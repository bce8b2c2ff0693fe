//! The same jobs as programs on Kafka Streams and on Flink.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tributary_harness::process::ScratchDir;
use tributary_harness::{ClassPath, Context, Error, KafkaBroker, Result, Server, java_with_compiler};

use super::Job;
use super::watched::{Run, Watched};

/// Who else does the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Streams,
    Flink,
}

impl Peer {
    pub fn title(self) -> &'static str {
        match self {
            Self::Streams => "Kafka Streams 4.3.1",
            Self::Flink => "Flink 2.2.1, state in its heap",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Streams => "StreamsJob",
            Self::Flink => "FlinkJob",
        }
    }

    fn class_path(self) -> Result<String> {
        match self {
            Self::Streams => ClassPath::Streams.resolve(),
            Self::Flink => ClassPath::Flink.resolve(),
        }
    }

    /// Java's own settings: the heap is a quarter of the machine's memory, as by default.
    fn jvm(self) -> &'static [&'static str] {
        match self {
            Self::Streams => &[],
            Self::Flink => {
                &["--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED"]
            }
        }
    }

    /// Compiles the program and lets it do the job.
    pub fn run(self, broker: &KafkaBroker, job: Job, input: &str, output: &str, records: u64) -> Result<Run> {
        let dir = ScratchDir::new("peer")?;
        let class_path = self.class_path()?;
        let java = java_with_compiler()?.program;
        let classes = dir.path().join("classes");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers").join(format!("{}.java", self.class()));
        let compiled = Command::new(&java)
            .args(["-m", "jdk.compiler/com.sun.tools.javac.Main", "-cp", &class_path, "-d"])
            .arg(&classes)
            .arg(&source)
            .stdin(Stdio::null())
            .output()
            .context("cannot run java")?;
        if !compiled.status.success() {
            return Err(Error::new(String::from_utf8_lossy(&compiled.stderr)));
        }
        let logging = dir.path().join("log4j2.properties");
        std::fs::write(&logging, LOG4J)?;
        let state = dir.path().join("state");
        std::fs::create_dir(&state)?;
        // A group of its own for each run.
        let group = output;
        let mut server = Server::new("peer", java, dir.path().join("peer.log"))
            .args(self.jvm().iter().copied())
            .args([format!("-Dlog4j2.configurationFile={}", logging.display())])
            .args(["-cp", &format!("{}:{class_path}", classes.display()), self.class()])
            .args([&broker.bootstrap(), job.key(), input, output, group])
            .args([state.display().to_string()]);
        let watched = Watched::new(broker, group, input, records)?;
        server.start()?;
        let run = watched.follow(server.pid()?, || Ok(())).map_err(|error| server.with_log(error.to_string()))?;
        // Flink commits its results a little later than it tells where it is.
        if self == Self::Flink {
            std::thread::sleep(Duration::from_secs(3));
            server.kill()?;
        } else {
            server.stop(Duration::from_secs(60))?;
        }
        Ok(run)
    }
}

const LOG4J: &str = "\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c:%L)%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
";
