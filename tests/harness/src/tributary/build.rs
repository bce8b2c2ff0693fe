//! Builds the binary that the tests run, as they themselves were built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{Context, Error, Result};

/// The binary `tributary`, built by the first call of the process together with the plugin libraries,
/// which lie in the same directory.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|e| e.to_string())).clone().map_err(Error::new)
}

fn build() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRIBUTARY_BIN") {
        return Ok(path.into());
    }
    let exe = std::env::current_exe()?;
    let place = Place::of(&exe).context(format_args!("{} is not in a cargo target directory", exe.display()))?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells a test about its package. Build scripts that look at these (ring's) would run again for each package
    // that has tests, and nearly everything would be compiled anew.
    let of_package = |name: &str| {
        ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.starts_with(prefix)) || name == "OUT_DIR"
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    let output = command
        .args(["build", "--quiet", "--workspace"])
        .args(["--profile", &place.profile, "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&place.target)
        .stdin(Stdio::null())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("cannot build the worker:\n{errors}")));
    }
    let binary = place.dir.join("tributary");
    if binary.exists() { Ok(binary) } else { Err(Error::new(format!("cargo left no {}", binary.display()))) }
}

/// Where cargo put an executable, and so how it was built.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    target: PathBuf,
    dir: PathBuf,
    profile: String,
}

impl Place {
    /// `target/debug/deps/delivery-0123` and `target/release/bench` show their profile.
    fn of(exe: &Path) -> Option<Self> {
        let mut dir = exe.parent()?;
        if dir.file_name()? == "deps" {
            dir = dir.parent()?;
        }
        let profile = match dir.file_name()?.to_str()? {
            "debug" => "dev",
            other => other,
        };
        Some(Self { target: dir.parent()?.into(), dir: dir.into(), profile: profile.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_shows_in_the_path() {
        let place = |exe: &str| Place::of(Path::new(exe)).map(|place| (place.target, place.profile));
        assert_eq!(place("/t/debug/deps/delivery-01"), Some(("/t".into(), "dev".into())));
        assert_eq!(place("/t/release/bench"), Some(("/t".into(), "release".into())));
    }
}
