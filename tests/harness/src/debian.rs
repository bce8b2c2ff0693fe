//! Installs a missing tool where that can be done without asking: as root on Debian and its kin.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Context, Error, Result};

/// Whether `program` runs at all.
pub fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Installs a package with apt-get, or says why not and what the reader can do.
pub fn install(package: &str) -> Result<()> {
    let apt = Path::new("/usr/bin/apt-get");
    if !apt.exists() || !rustix::process::geteuid().is_root() {
        return Err(Error::new(format!("not root on Debian, so install it by hand: apt-get install {package}")));
    }
    // One process at a time: dpkg refuses a second one instead of waiting.
    let _lock = crate::cache::lock(&crate::cache::dir()?, "apt-get")?;
    let run = |args: &[&str]| -> Result<bool> {
        let output = Command::new(apt)
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .context("cannot run apt-get")?;
        if !output.status.success() {
            eprintln!("apt-get {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.status.success())
    };
    let install = ["install", "-y", "--no-install-recommends", package];
    // The package lists of a fresh image are absent or stale.
    if run(&install)? || (run(&["update"])? && run(&install)?) {
        return Ok(());
    }
    Err(Error::new(format!("apt-get install {package} failed")))
}
