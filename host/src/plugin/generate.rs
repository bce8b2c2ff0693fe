//! Manifests for libraries: for plugin authors and build scripts, who trust what they have built.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::descriptor::Descriptor;
use super::errors::PluginError;
use super::loader::{digest, execute, inspect};
use super::manifest::{MANIFEST_FILE, Manifest, ManifestClass};

/// Runs a copy, since what was opened once stays mapped, and the original is likely to be built again.
fn describe(library: &Path) -> Result<(String, Descriptor), PluginError> {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let copy = std::env::temp_dir().join(format!("tributary-manifest-{}-{number}.so", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o500)
        .open(&copy)
        .map_err(|error| PluginError::io("cannot create", &copy, &error))?;
    let sha256 = digest(library, Some((&mut file, &copy)));
    drop(file);
    let described = sha256.and_then(|sha256| Ok((sha256, execute(&copy, library)?)));
    let _ = std::fs::remove_file(&copy);
    described
}

/// Writes `plugin.toml` beside a library, from what the library says about itself. **Executes the library.**
pub fn write_manifest(library: &Path) -> Result<PathBuf, PluginError> {
    let library = std::path::absolute(library).map_err(|error| PluginError::io("cannot find", library, &error))?;
    inspect(&library, &library)?;
    let (sha256, descriptor) = describe(&library)?;
    let name = library
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| PluginError::NotALibrary { library: library.clone(), reason: "its name is not UTF-8".into() })?;
    let manifest = Manifest {
        name: descriptor.name,
        version: descriptor.version,
        library: name.to_owned(),
        sha256,
        classes: descriptor
            .classes
            .into_iter()
            .map(|class| ManifestClass {
                name: class.name,
                kind: class.kind,
                aliases: class.aliases,
                documentation: class.documentation,
                config_def: class.config_def,
            })
            .collect(),
    };
    let path = library.with_file_name(MANIFEST_FILE);
    std::fs::write(&path, manifest.to_toml()).map_err(|error| PluginError::io("cannot write", &path, &error))?;
    Ok(path)
}
