//! The manifest: `plugin.toml` beside the library, everything about a plugin that can be known without executing it.
//!
//! Fails with the path and the reason; keys that it does not know are refused, so that a misspelt one is not passed over.
//!
//! ```toml
//! name = "ticks"
//! version = "1.0.0"
//! library = "libticks.so"          # in the same directory
//! sha256 = "…"                     # of the library
//! abi = "1.2"                      # of the plugin interface it was built against
//!
//! [[class]]
//! name = "com.example.TicksSourceConnector"
//! kind = "source"                  # source, sink or transform
//! aliases = ["org.old.ClockSourceConnector"]
//! documentation = "Emits a record every second."
//! config-def = '{"keys":[]}'       # the SDK's ConfigDef as JSON, or
//! config-def-file = "ticks.json"   # the name of a file with it, in the same directory
//! ```

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tributary_abi::{ABI_MAJOR, ABI_MINOR};
use tributary_sdk::ConfigDef;

use super::class::Kind;
use super::errors::PluginError;

/// The manifest's file name.
pub const MANIFEST_FILE: &str = "plugin.toml";
/// A manifest is text that people may read: more is a mistake.
const MAX_BYTES: u64 = 16 << 20;

/// A checked manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Name of the plugin.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// File name of the library, in the manifest's directory.
    pub library: String,
    /// SHA-256 of the library, lower-case hex.
    pub sha256: String,
    /// The classes.
    pub classes: Vec<ManifestClass>,
}

/// A class in a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestClass {
    /// Full name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Other full names.
    pub aliases: Vec<String>,
    /// What it is for.
    pub documentation: String,
    /// Its config keys.
    pub config_def: ConfigDef,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    version: String,
    library: String,
    sha256: String,
    abi: String,
    class: Vec<FileClass>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileClass {
    name: String,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    documentation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config_def: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config_def_file: Option<String>,
}

impl Manifest {
    /// Reads and checks a manifest, and the config definitions beside it.
    pub fn read(path: &Path) -> Result<Self, PluginError> {
        let bad = |reason: String| PluginError::BadManifest { path: path.to_owned(), reason };
        let directory = path.parent().unwrap_or(Path::new("."));
        let file: File = toml::from_str(&read_text(path)?).map_err(|error| bad(error.to_string()))?;
        let major = file.abi.split('.').next().unwrap_or_default();
        if major != ABI_MAJOR.to_string() {
            return Err(PluginError::OtherAbi { plugin: path.display().to_string(), found: file.abi });
        }
        for (key, value) in [("name", &file.name), ("version", &file.version)] {
            if value.trim().is_empty() {
                return Err(bad(format!("{key} is empty")));
            }
        }
        if !is_file_name(&file.library) {
            return Err(bad(format!("library must be the name of a file beside the manifest, not {:?}", file.library)));
        }
        if file.sha256.len() != 64 || !file.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad("sha256 must be 64 hexadecimal digits".into()));
        }
        if file.class.is_empty() {
            return Err(bad("there is no [[class]]".into()));
        }
        let mut classes: Vec<ManifestClass> = Vec::with_capacity(file.class.len());
        for class in file.class {
            if classes.iter().any(|known| known.name == class.name) {
                return Err(bad(format!("class {} stands there twice", class.name)));
            }
            classes.push(class.check(directory).map_err(bad)?);
        }
        let sha256 = file.sha256.to_ascii_lowercase();
        Ok(Self { name: file.name, version: file.version, library: file.library, sha256, classes })
    }

    /// The manifest's text, for a library built against this version of the interface.
    pub fn to_toml(&self) -> String {
        let class = |class: &ManifestClass| FileClass {
            name: class.name.clone(),
            kind: class.kind,
            aliases: class.aliases.clone(),
            documentation: class.documentation.clone(),
            config_def: Some(serde_json::to_string(&class.config_def).expect("config definitions are JSON")),
            config_def_file: None,
        };
        let file = File {
            name: self.name.clone(),
            version: self.version.clone(),
            library: self.library.clone(),
            sha256: self.sha256.clone(),
            abi: format!("{ABI_MAJOR}.{ABI_MINOR}"),
            class: self.classes.iter().map(class).collect(),
        };
        toml::to_string(&file).expect("texts and lists are TOML")
    }
}

impl FileClass {
    fn check(self, directory: &Path) -> Result<ManifestClass, String> {
        let name = self.name;
        if name.trim().is_empty() {
            return Err("a class has no name".into());
        }
        let json = match (self.config_def, self.config_def_file) {
            (Some(json), None) => json,
            (None, Some(file)) if is_file_name(&file) => {
                read_text(&directory.join(file)).map_err(|error| format!("class {name}: {error}"))?
            }
            (None, Some(file)) => {
                return Err(format!(
                    "class {name}: config-def-file must be the name of a file beside the manifest, not {file:?}"
                ));
            }
            _ => return Err(format!("class {name} needs either config-def or config-def-file")),
        };
        let config_def = serde_json::from_str(&json)
            .map_err(|error| format!("class {name}: its config definition is malformed: {error}"))?;
        let (aliases, documentation) = (self.aliases, self.documentation);
        Ok(ManifestClass { name, kind: self.kind, aliases, documentation, config_def })
    }
}

/// A plain name: a manifest may not point out of its directory.
fn is_file_name(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|file| file == name)
}

fn read_text(path: &Path) -> Result<String, PluginError> {
    let io = |error: std::io::Error| PluginError::io("cannot read", path, &error);
    let mut text = String::new();
    std::fs::File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(PluginError::BadManifest {
            path: path.to_owned(),
            reason: format!("it is larger than {MAX_BYTES} bytes"),
        });
    }
    Ok(text)
}
