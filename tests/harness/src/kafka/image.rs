//! What all brokers of a machine share: a formatted directory and an archive of loaded classes.
//!
//! Formatting costs a JVM start, loading 7,000 classes two seconds more; both are done once and kept
//! in the [cache](crate::cache) under a name that changes with the Java runtime and the jars. An
//! archive that does not fit is ignored by the JVM, never an error.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::broker::{LOG4J, wait_until_ready};
use super::options::{BrokerOptions, Ports, properties};
use crate::jars::{ClassPath, KAFKA_VERSION};
use crate::java::{Java, java};
use crate::process::{ScratchDir, Server};
use crate::{Context, Error, Result, cache, ports};

const ARCHIVE: &str = "classes.jsa";
const CHECKPOINT: &str = "bootstrap.checkpoint";

/// Everything a broker is started from.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub java: Java,
    class_path: String,
    dir: PathBuf,
}

impl Image {
    /// The image of this machine, made if there is none.
    pub fn get() -> Result<Self> {
        let java = java()?;
        let class_path = ClassPath::Broker.resolve()?;
        let mut key = DefaultHasher::new();
        (&java.version, &class_path).hash(&mut key);
        let name = format!("broker-{KAFKA_VERSION}-{:016x}", key.finish());
        let dir =
            cache::entry(&name, |draft| make(&java, &class_path, draft).context("cannot make the broker's image"))?;
        Ok(Self { java, class_path, dir })
    }

    /// Makes `data` a directory that a node of a cluster can start on.
    pub fn format(&self, data: &Path, cluster: &str, node: u32) -> Result<()> {
        fs::create_dir(data)?;
        fs::copy(self.dir.join(CHECKPOINT), data.join(CHECKPOINT))?;
        let directory = random_id();
        fs::write(
            data.join("meta.properties"),
            format!("version=1\ncluster.id={cluster}\ndirectory.id={directory}\nnode.id={node}\n"),
        )?;
        Ok(())
    }

    /// Runs one of Kafka's own tools to its end, and gives what it printed.
    pub fn run_tool(&self, class: &str, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.java.program)
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &self.class_path, class])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .context(format_args!("cannot run {class}"))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        Err(Error::new(format!("{class}: {printed}{}", String::from_utf8_lossy(&output.stderr))))
    }

    /// The broker of this properties file, not started.
    pub fn server(&self, options: &BrokerOptions, properties: &Path) -> Server {
        let archive = format!("-XX:SharedArchiveFile={}", self.dir.join(ARCHIVE).display());
        server(&self.java, &self.class_path, options, properties, &[archive, "-Xlog:disable".into()])
    }
}

fn server(java: &Java, class_path: &str, options: &BrokerOptions, properties: &Path, extra: &[String]) -> Server {
    let dir = properties.parent().unwrap_or(Path::new("/"));
    Server::new("kafka", &java.program, dir.join("broker.log"))
        .args(options.jvm_args())
        .args(extra)
        .args([format!("-Dlog4j2.configurationFile={}", dir.join("log4j2.properties").display())])
        .args(["-cp", class_path, "kafka.Kafka"])
        .args([properties.display().to_string()])
}

/// Formats a directory, then runs a broker on it that writes down at its end which classes it loaded.
fn make(java: &Java, class_path: &str, draft: &Path) -> Result<()> {
    let scratch = ScratchDir::new("image")?;
    let dir = scratch.path();
    let (data, file) = (dir.join("data"), dir.join("server.properties"));
    let options = BrokerOptions::default();
    let ports = Ports { client: ports::free()?, controller: ports::free()?, ..Ports::default() };
    fs::write(&file, properties(&options, &ports, &data))?;
    fs::write(dir.join("log4j2.properties"), LOG4J)?;
    run_storage_tool(java, class_path, &file)?;
    fs::copy(data.join(CHECKPOINT), draft.join(CHECKPOINT)).context("formatting left no bootstrap checkpoint")?;

    let archive = format!("-XX:ArchiveClassesAtExit={}", draft.join(ARCHIVE).display());
    let mut server = server(java, class_path, &options, &file, &[archive, "-Xlog:disable".into()]);
    server.start()?;
    wait_until_ready(&mut server, ports.client)?;
    // Writing the archive comes after the broker's own shutdown.
    server.stop(Duration::from_secs(120))?;
    if !draft.join(ARCHIVE).exists() {
        return Err(server.with_log("the broker left no class archive"));
    }
    Ok(())
}

fn run_storage_tool(java: &Java, class_path: &str, properties: &Path) -> Result<()> {
    let output = Command::new(&java.program)
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", class_path, "kafka.tools.StorageTool"])
        .args(["format", "--cluster-id", &random_id(), "--config"])
        .arg(properties)
        .stdin(Stdio::null())
        .output()
        .context("cannot run Kafka's storage tool")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "Kafka's storage tool: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )))
}

/// 22 characters as Kafka's ids have: 16 bytes in URL-safe base64. The last one carries two bits only.
pub(super) fn random_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = StdRng::from_os_rng();
    let mut id: Vec<u8> = (0..21).map(|_| ALPHABET[random.random_range(0..64)]).collect();
    // Kafka's own tools refuse an id that looks like an option.
    id[0] = ALPHABET[random.random_range(0..52)];
    id.push(b"AQgw"[random.random_range(0..4)]);
    id.into_iter().map(char::from).collect()
}
