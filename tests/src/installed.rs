//! Test plugins where a worker finds them.

use std::path::Path;
use std::process::Command;

use tributary_harness::{Error, Result, tributary};

/// Puts a test plugin (`ledger`, `picky`) with its manifest below a directory, for `plugin.path`.
pub fn install_plugin(plugins: &Path, name: &str) -> Result<()> {
    let (library, place) = (format!("libtributary_plugin_{name}.so"), plugins.join(name));
    let binary = tributary::binary()?;
    std::fs::create_dir_all(&place)?;
    std::fs::copy(binary.with_file_name(&library), place.join(&library))?;
    let output = Command::new(&binary).args(["plugins", "manifest"]).arg(place.join(&library)).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(String::from_utf8_lossy(&output.stderr)))
}
