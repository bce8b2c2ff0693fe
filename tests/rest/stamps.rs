//! The plugin `stamp`, in as many versions as a test wants.

use std::path::Path;
use std::process::Command;

use tributary_harness::tributary::binary;
use tributary_harness::{Error, Result};

/// What the library is built as.
const BUILT: &str = "7001.0.0";

/// Puts a version of the plugin with its manifest below a directory, for `plugin.path`. It has to be as long as [`BUILT`].
pub fn install(plugins: &Path, version: &str) -> Result<()> {
    assert_eq!(version.len(), BUILT.len());
    let name = "libtributary_plugin_stamp.so";
    let place = plugins.join(version);
    std::fs::create_dir_all(&place)?;
    let mut library = std::fs::read(binary()?.with_file_name(name))?;
    let mut places = 0;
    for at in 0..library.len() - BUILT.len() {
        if library[at..].starts_with(BUILT.as_bytes()) {
            library[at..at + BUILT.len()].copy_from_slice(version.as_bytes());
            places += 1;
        }
    }
    assert!(places > 0, "the library does not say its version");
    std::fs::write(place.join(name), library)?;
    let output = Command::new(binary()?).args(["plugins", "manifest"]).arg(place.join(name)).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(String::from_utf8_lossy(&output.stderr)))
}
