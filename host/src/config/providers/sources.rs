//! The places that references lead to.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use tributary_sdk::Config;

use super::super::properties;

/// Where a provider gets values.
#[derive(Debug)]
pub(super) enum Source {
    /// Keys of `.properties` files.
    File(Allowed),
    /// Files of a directory: the name is the key, the text the value.
    Directory(Allowed),
    /// Environment variables whose names match.
    Env(Option<Regex>),
}

/// What lies behind one path.
pub(super) enum Values {
    File(HashMap<String, String>),
    Directory(PathBuf),
    Env(Option<Regex>),
}

/// `allowed.paths`; none: everything.
#[derive(Debug)]
pub(super) struct Allowed(Vec<PathBuf>);

impl Source {
    pub fn new(class: &str, params: &Config) -> Result<Self, String> {
        match class.rsplit('.').next().unwrap_or(class) {
            "FileConfigProvider" => Ok(Self::File(Allowed::new(params)?)),
            "DirectoryConfigProvider" => Ok(Self::Directory(Allowed::new(params)?)),
            "EnvVarConfigProvider" => {
                let pattern = params.get("allowlist.pattern").map(|pattern| Regex::new(&format!("^(?:{pattern})$")));
                Ok(Self::Env(pattern.transpose().map_err(|error| format!("allowlist.pattern: {error}"))?))
            }
            _ => Err(format!(
                "{class} is not known; there are FileConfigProvider, DirectoryConfigProvider and EnvVarConfigProvider"
            )),
        }
    }

    /// What lies behind `path`. Errors show no contents.
    pub fn read(&self, path: &str) -> Result<Values, String> {
        match self {
            Self::File(_) | Self::Directory(_) if path.is_empty() => {
                Err("it has no path; write ${provider:path:key}".to_owned())
            }
            // Kafka's provider takes none either.
            Self::Env(_) if !path.is_empty() => Err(format!("environment variables have no path, and it has {path:?}")),
            Self::File(allowed) => {
                let path = allowed.check(path)?;
                let unreadable = |reason: &dyn std::fmt::Display| format!("cannot read {}: {reason}", path.display());
                let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&error))?;
                let pairs = properties::parse(&text)
                    .map_err(|error| unreadable(&format!("its line {} is malformed", error.line)))?;
                Ok(Values::File(pairs.into_iter().collect()))
            }
            Self::Directory(allowed) => Ok(Values::Directory(allowed.check(path)?)),
            Self::Env(pattern) => Ok(Values::Env(pattern.clone())),
        }
    }
}

impl Values {
    pub fn get(&self, key: &str) -> Result<String, String> {
        match self {
            Self::File(values) => values.get(key).cloned().ok_or_else(|| format!("the file has no key {key}")),
            Self::Directory(directory) => {
                if key.contains('/') || key == ".." {
                    return Err(format!("{key} is not the name of a file"));
                }
                let path = directory.join(key);
                std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
            }
            Self::Env(Some(pattern)) if !pattern.is_match(key) => {
                Err(format!("the provider's allowlist.pattern does not allow {key}"))
            }
            Self::Env(_) => std::env::var(key).map_err(|_| format!("the environment has no variable {key}")),
        }
    }
}

impl Allowed {
    fn new(params: &Config) -> Result<Self, String> {
        let paths = params.list("allowed.paths").into_iter().map(|path| {
            let path = Path::new(path);
            if !path.is_absolute() {
                return Err(format!("allowed.paths: {} has to begin with /", path.display()));
            }
            path.canonicalize().map_err(|error| format!("allowed.paths: {}: {error}", path.display()))
        });
        paths.collect::<Result<_, _>>().map(Self)
    }

    /// The path if it may be read; what counts is where its links lead to.
    fn check(&self, path: &str) -> Result<PathBuf, String> {
        let path = PathBuf::from(path);
        if self.0.is_empty() {
            return Ok(path);
        }
        let real = path.canonicalize().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if self.0.iter().any(|allowed| real.starts_with(allowed)) {
            Ok(real)
        } else {
            Err(format!("the provider's allowed.paths do not allow {}", path.display()))
        }
    }
}
