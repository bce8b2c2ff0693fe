//! Finds a Java runtime of version 17 or later, which Kafka 4 needs.
//!
//! Looks at `$JAVA_HOME`, then at `PATH`; where there is none and this is root on Debian, installs one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{Context, Error, Result, debian};

const OLDEST: u32 = 17;

/// A Java launcher and what it calls itself.
#[derive(Clone, Debug)]
pub struct Java {
    /// The launcher, to be run.
    pub program: PathBuf,
    /// All of what `-version` prints; two runtimes with the same text share class data.
    pub version: String,
}

/// The Java of this machine, looked for once a process.
pub fn java() -> Result<Java> {
    static FOUND: OnceLock<std::result::Result<Java, String>> = OnceLock::new();
    FOUND.get_or_init(|| find().map_err(|e| e.to_string())).clone().map_err(Error::new)
}

/// A Java that also runs source files (`java File.java`), which takes the compiler of a development kit.
pub fn java_with_compiler() -> Result<Java> {
    static FOUND: OnceLock<std::result::Result<Java, String>> = OnceLock::new();
    let find = || -> Result<Java> {
        let java = java()?;
        if compiles(&java.program) {
            return Ok(java);
        }
        let installed = debian::install("openjdk-17-jdk-headless").or_else(|_| debian::install("default-jdk-headless"));
        installed.context("a Java development kit is needed, and there is only a runtime")?;
        let java = probe(PathBuf::from("java")).context("a development kit was installed, but java does not run")?;
        if compiles(&java.program) { Ok(java) } else { Err(Error::new("java runs, but without its compiler")) }
    };
    FOUND.get_or_init(|| find().map_err(|e| e.to_string())).clone().map_err(Error::new)
}

fn compiles(program: &PathBuf) -> bool {
    let output = Command::new(program).arg("--list-modules").stdin(Stdio::null()).output();
    output.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).lines().any(|line| line.starts_with("jdk.compiler"))
    })
}

fn find() -> Result<Java> {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let candidates = || home.clone().into_iter().chain([PathBuf::from("java")]);
    if let Some(java) = candidates().find_map(probe) {
        return Ok(java);
    }
    // Each release of Debian has its own Java; the oldest that will do comes first, as it is the smallest.
    let installed = debian::install("openjdk-17-jre-headless").or_else(|_| debian::install("default-jre-headless"));
    installed.context("Kafka needs Java 17 or later, and there is none; set JAVA_HOME if it is in an unusual place")?;
    candidates().find_map(probe).context("a Java runtime was installed, but none of version 17 or later runs")
}

fn probe(program: PathBuf) -> Option<Java> {
    let output = Command::new(&program).arg("-version").stdin(Stdio::null()).output().ok()?;
    let version = String::from_utf8_lossy(&output.stderr).into_owned();
    (major(&version)? >= OLDEST).then_some(Java { program, version })
}

/// `17` of `openjdk version "17.0.15" 2025-04-15`; `1` of the old scheme's `"1.8.0_292"`.
fn major(version: &str) -> Option<u32> {
    let number = version.split('"').nth(1)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn reads_every_version_scheme() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(major("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(major("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(major("java version \"1.8.0_292\""), Some(1));
        assert_eq!(major("sh: java: not found"), None);
    }
}
