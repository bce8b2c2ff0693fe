//! Python environments with pinned packages, for clients that are written in it.
//!
//! A list of requirements names every package with its version and the SHA-256 of its files, so that the same bytes are
//! installed everywhere; pip checks them. An environment is made once a machine and kept in the [cache](crate::cache).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::{Context, Error, Result, cache, debian};

/// An environment; its packages are imported by [`Python::command`].
#[derive(Clone, Debug)]
pub struct Python {
    packages: PathBuf,
}

impl Python {
    /// The environment of these requirements (lines of `name==version --hash=sha256:…`), installed if it is not there yet.
    pub fn with(name: &str, requirements: &str) -> Result<Self> {
        let version = version()?;
        let mut digest = Sha256::new();
        digest.update(requirements);
        digest.update(&version);
        let digest: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let packages =
            cache::entry(&format!("python-{name}-{digest}"), |place| install(requirements, place).context(name))?;
        Ok(Self { packages })
    }

    /// `python3` that knows the packages, and no others.
    pub fn command(&self) -> Command {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &self.packages).env("PYTHONNOUSERSITE", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("PYTHONUNBUFFERED", "1").env_remove("PYTHONHOME").stdin(Stdio::null());
        command
    }
}

/// What `python3` calls itself; an environment of one version is none of another's.
fn version() -> Result<String> {
    let ask = || Command::new("python3").arg("--version").stdin(Stdio::null()).output();
    let output = match ask() {
        Ok(output) => output,
        Err(_) => {
            debian::install("python3").context("some clients are written in Python, and there is none")?;
            ask().context("cannot run python3")?
        }
    };
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Not a virtual environment: those know where they were made, and this one is moved to its place.
fn install(requirements: &str, place: &Path) -> Result<()> {
    let has_pip = || {
        let pip = Command::new("python3").args(["-m", "pip", "--version"]).stdin(Stdio::null()).output();
        pip.is_ok_and(|output| output.status.success())
    };
    if !has_pip() {
        debian::install("python3-pip").context("Python packages are installed with pip, and there is none")?;
    }
    let list = place.join("requirements.txt");
    std::fs::write(&list, requirements)?;
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--require-hashes", "--only-binary", ":all:", "--target"])
        .arg(place)
        .arg("--requirement")
        .arg(&list)
        .stdin(Stdio::null())
        .output()
        .context("cannot run pip")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!("pip cannot install the packages: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
