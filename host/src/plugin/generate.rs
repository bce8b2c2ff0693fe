//! Manifests for libraries: for plugin authors and build scripts, who trust what they have built.

use std::path::{Path, PathBuf};

use super::errors::PluginError;
use super::loader::{digest, execute, inspect};
use super::manifest::{MANIFEST_FILE, Manifest, ManifestClass};

/// Writes `plugin.toml` beside a library, from what the library says about itself. **Executes the library.**
pub fn write_manifest(library: &Path) -> Result<PathBuf, PluginError> {
    let library = std::path::absolute(library).map_err(|error| PluginError::io("cannot find", library, &error))?;
    let sha256 = digest(&library, None)?;
    inspect(&library, &library)?;
    let descriptor = execute(&library, &library)?;
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
