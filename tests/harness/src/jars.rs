//! The jars of Kafka 4.3.1, from Maven Central.
//!
//! Which jars, and the SHA-256 of each, is fixed by `jars.lock`, so that a machine needs no Maven and
//! gets the same bytes everywhere. Missing jars are downloaded together by one curl, checked, and
//! renamed into the [cache](crate::cache); a jar that is in the cache has been checked. Without a
//! network, or with a wrong digest, the error names the jar.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::{Context, Error, Result, cache, debian};

/// The version of everything of Kafka's.
pub const KAFKA_VERSION: &str = "4.3.1";

const LOCK: &str = include_str!("../jars.lock");
const MAVEN_CENTRAL: &str = "https://repo1.maven.org/maven2";

/// A set of jars that one purpose needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassPath {
    /// A broker with its controller, and the tool that formats its directory.
    Broker,
    /// A Kafka Connect worker with its converters and transforms.
    Connect,
    /// The file connectors, which Connect loads from its plugin path.
    FileConnectors,
    /// Kafka's command-line tools; on top of [`ClassPath::Broker`].
    Tools,
    /// A client of Connect's REST API, and an interpreter for what it is to do.
    RestClient,
    /// Debezium's core, for its transforms; on top of [`ClassPath::Connect`].
    Debezium,
    /// Kafka Streams.
    Streams,
    /// Flink with its Kafka connector.
    Flink,
}

impl ClassPath {
    fn tag(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Connect => "connect",
            Self::FileConnectors => "plugin",
            Self::Tools => "tools",
            Self::RestClient => "client",
            Self::Debezium => "debezium",
            Self::Streams => "streams",
            Self::Flink => "flink",
        }
    }

    /// The jars as the `-cp` argument wants them, downloaded if they are missing.
    pub fn resolve(self) -> Result<String> {
        let jars: Vec<Jar> = locked(LOCK)?.into_iter().filter(|jar| jar.serves(self)).collect();
        let cache = cache::dir()?.join("jars");
        fs::create_dir_all(&cache)?;
        fetch(&jars, &cache, MAVEN_CENTRAL)?;
        let paths: Vec<String> = jars.iter().map(|jar| cache.join(jar.file_name()).display().to_string()).collect();
        Ok(paths.join(":"))
    }
}

/// One line of the lock file.
#[derive(Debug)]
struct Jar {
    tags: &'static str,
    group: &'static str,
    artifact: &'static str,
    version: &'static str,
    sha256: &'static str,
}

impl Jar {
    fn serves(&self, path: ClassPath) -> bool {
        self.tags.split(',').any(|tag| tag == path.tag())
    }

    fn file_name(&self) -> String {
        format!("{}-{}.jar", self.artifact, self.version)
    }

    fn url(&self, repository: &str) -> String {
        let Self { artifact, version, .. } = self;
        format!("{repository}/{}/{artifact}/{version}/{}", self.group.replace('.', "/"), self.file_name())
    }
}

/// Downloads a file of Maven Central, which is not a jar on a class path, to `into`, and checks its SHA-256.
pub fn fetch_archive(path: &str, digest: &str, into: &Path) -> Result<()> {
    if !debian::has("curl") {
        debian::install("curl").context("archives are downloaded with curl, and there is none")?;
    }
    let url = format!("{MAVEN_CENTRAL}/{path}");
    let output = Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location", "--retry", "3", "--retry-all-errors"])
        .args(["--connect-timeout", "20", "--max-time", "900", "--output"])
        .arg(into)
        .arg(&url)
        .output()
        .context("cannot run curl")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("cannot download {url}: {}", said.trim())));
    }
    let found = sha256(into).context(format_args!("cannot read {}", into.display()))?;
    if found != digest {
        return Err(Error::new(format!(
            "{url} has the SHA-256 {found} instead of {digest}: the download is damaged or was tampered with"
        )));
    }
    Ok(())
}

fn locked(lock: &'static str) -> Result<Vec<Jar>> {
    let lines = lock.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| parse(line).context(format_args!("jars.lock: cannot read \"{line}\""))).collect()
}

fn parse(line: &'static str) -> Option<Jar> {
    let mut fields = line.split_whitespace();
    let tags = fields.next()?;
    let mut coordinates = fields.next()?.split(':');
    let sha256 = fields.next()?;
    Some(Jar { tags, group: coordinates.next()?, artifact: coordinates.next()?, version: coordinates.next()?, sha256 })
}

fn fetch(jars: &[Jar], cache: &Path, repository: &str) -> Result<()> {
    let missing = || jars.iter().filter(|jar| !cache.join(jar.file_name()).exists());
    if missing().next().is_none() {
        return Ok(());
    }
    let _lock = cache::lock(cache, "jars")?;
    // Another process may have fetched them while this one waited.
    let missing: Vec<&Jar> = missing().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let drafts = tempfile::Builder::new().prefix(".download-").tempdir_in(cache)?;
    download(&missing, drafts.path(), repository)?;
    for jar in missing {
        let draft = drafts.path().join(jar.file_name());
        verify(jar, &draft, repository)?;
        fs::rename(draft, cache.join(jar.file_name()))?;
    }
    Ok(())
}

fn download(jars: &[&Jar], into: &Path, repository: &str) -> Result<()> {
    if !debian::has("curl") {
        debian::install("curl").context("Kafka's jars are downloaded with curl, and there is none")?;
    }
    let mut list = String::new();
    for jar in jars {
        let _ = writeln!(list, "url = \"{}\"", jar.url(repository));
        let _ = writeln!(list, "output = \"{}\"", into.join(jar.file_name()).display());
    }
    let mut curl = Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location"])
        .args(["--parallel", "--parallel-max", "16"])
        .args(["--retry", "3", "--retry-delay", "1", "--retry-all-errors"])
        .args(["--connect-timeout", "20", "--max-time", "600"])
        .args(["--config", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run curl")?;
    // Dropped at once, so that curl sees the end of its list.
    curl.stdin.take().context("curl has no stdin")?.write_all(list.as_bytes())?;
    let output = curl.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "cannot download {} jars from {repository}: {}",
        jars.len(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

fn verify(jar: &Jar, file: &Path, repository: &str) -> Result<()> {
    let found = sha256(file).context(format_args!("cannot read {}", file.display()))?;
    if found == jar.sha256 {
        return Ok(());
    }
    Err(Error::new(format!(
        "{} has the SHA-256 {found}, but jars.lock says {}: the download is damaged or was tampered with",
        jar.url(repository),
        jar.sha256
    )))
}

fn sha256(file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => digest.update(&buffer[..n]),
        }
    }
    Ok(digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const JAR: Jar = Jar {
        tags: "broker,connect",
        group: "org.example",
        artifact: "tiny",
        version: "1.0",
        sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    };

    /// A repository in the file system with one "jar", and an empty cache.
    fn repository(content: &str) -> (tempfile::TempDir, String, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("repo/org/example/tiny/1.0");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("tiny-1.0.jar"), content).unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let url = format!("file://{}/repo", dir.path().display());
        (dir, url, cache)
    }

    #[test]
    fn the_lock_file_covers_every_class_path() {
        let jars = locked(LOCK).unwrap();
        for path in [ClassPath::Broker, ClassPath::Connect, ClassPath::FileConnectors] {
            assert!(jars.iter().any(|jar| jar.serves(path) && jar.version == KAFKA_VERSION), "{path:?}");
        }
        assert!(jars.iter().all(|jar| jar.sha256.len() == 64));
    }

    #[test]
    fn a_good_jar_lands_in_the_cache() {
        let (_dir, url, cache) = repository("hello");
        fetch(&[JAR], &cache, &url).unwrap();
        assert_eq!(fs::read_to_string(cache.join("tiny-1.0.jar")).unwrap(), "hello");
        // The second time nothing is fetched.
        fetch(&[JAR], &cache, "file:///nowhere").unwrap();
    }

    #[test]
    fn a_wrong_digest_is_refused_and_leaves_nothing() {
        let (_dir, url, cache) = repository("hello!");
        let error = fetch(&[JAR], &cache, &url).unwrap_err().to_string();
        assert!(error.contains("tiny-1.0.jar has the SHA-256 ce0609"), "{error}");
        assert!(!cache.join("tiny-1.0.jar").exists());
    }

    #[test]
    fn an_absent_jar_is_named() {
        let (dir, _, cache) = repository("hello");
        let error = fetch(&[JAR], &cache, &format!("file://{}/none", dir.path().display())).unwrap_err().to_string();
        assert!(error.contains("cannot download 1 jars"), "{error}");
        assert!(!cache.join("tiny-1.0.jar").exists());
    }
}
