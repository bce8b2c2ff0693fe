//! The registry: every class that this worker knows, by the names that users write.
//!
//! Promises: nothing of a plugin is executed to fill it. A class is found by its full name, an alias (the Java class name
//! of what it stands in for), the last part of either, and that without `Connector`; of several versions the newest is
//! taken, of equal ones the installed rather than the built-in. An unknown name fails with the nearest known one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tributary_sdk::Plugin;

use super::class::{ClassInfo, Code, Inner, Location, PluginClass};
use super::descriptor::Descriptor;
use super::errors::PluginError;
use super::loader::Library;
use super::manifest::{MANIFEST_FILE, Manifest};
use super::version;
use super::version_range::VersionRange;

/// The known classes, and what was found unfit.
#[derive(Debug, Default, Clone)]
pub struct Registry {
    classes: Vec<PluginClass>,
    problems: Vec<Problem>,
}

/// Something in `plugin.path` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub error: PluginError,
}

impl Registry {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a plugin that is linked into the worker, through the same function tables as a library's.
    ///
    /// # Panics
    /// If the plugin breaks the ABI: the SDK's own descriptors do not.
    pub fn with_builtin(mut self, plugin: Plugin) -> Self {
        let descriptor: *const tributary_abi::Plugin = plugin.into_descriptor();
        // SAFETY: made by the SDK, static.
        let descriptor = unsafe { Descriptor::read(descriptor, "built in") }.expect("built-in plugins follow the ABI");
        for class in descriptor.classes {
            let info = ClassInfo {
                class: class.name,
                kind: class.kind,
                aliases: class.aliases,
                plugin: descriptor.name.clone(),
                version: descriptor.version.clone(),
                documentation: class.documentation,
                config_def: class.config_def,
                location: Location::BuiltIn,
            };
            self.classes.push(PluginClass(Arc::new(Inner { info, code: Code::Linked(class.tables) })));
        }
        self
    }

    /// Adds the plugins in the directories of `plugin.path`: each a directory with a manifest, or one that holds such
    /// directories. Executes nothing. Libraries are copied below `work_dir` when they are opened. What is wrong with one
    /// plugin is among [`Self::problems`] and leaves the others alone.
    pub fn scan(mut self, plugin_path: &[PathBuf], work_dir: &Path) -> Self {
        for path in plugin_path {
            match std::fs::read_dir(path) {
                Err(error) => {
                    self.problem(path, PluginError::io("cannot read the plugin.path directory", path, &error))
                }
                Ok(entries) => {
                    let mut directories: Vec<PathBuf> =
                        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
                    directories.sort();
                    directories.insert(0, path.clone());
                    for directory in directories {
                        self.scan_directory(&directory, work_dir);
                    }
                }
            }
        }
        self
    }

    fn scan_directory(&mut self, directory: &Path, work_dir: &Path) {
        let manifest_path = directory.join(MANIFEST_FILE);
        if manifest_path.is_file() {
            match Manifest::read(&manifest_path) {
                Ok(manifest) => self.add(&manifest_path, Library::new(manifest, directory, work_dir)),
                Err(error) => self.problem(&manifest_path, error),
            }
            return;
        }
        // A library that somebody put there in the hope that it is found.
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut libraries: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "so")).collect();
        libraries.sort();
        for library in libraries {
            self.problem(&library.clone(), PluginError::NoManifest { library });
        }
    }

    fn add(&mut self, manifest_path: &Path, library: Library) {
        if !library.path().is_file() {
            let reason = format!("its library {} is not there", library.path().display());
            return self.problem(manifest_path, PluginError::BadManifest { path: manifest_path.to_owned(), reason });
        }
        let library = Arc::new(library);
        let manifest = library.manifest();
        for class in &manifest.classes {
            let same = self.classes.iter().find(|known| match &known.0.code {
                Code::Library(_) => known.info().class == class.name && known.info().version == manifest.version,
                Code::Linked(_) => false,
            });
            if let Some(same) = same {
                let first = &same.info().location;
                let reason =
                    format!("class {} version {} is also in {first}, which is used", class.name, manifest.version);
                self.problem(manifest_path, PluginError::BadManifest { path: manifest_path.to_owned(), reason });
                continue;
            }
            let info = ClassInfo {
                class: class.name.clone(),
                kind: class.kind,
                aliases: class.aliases.clone(),
                plugin: manifest.name.clone(),
                version: manifest.version.clone(),
                documentation: class.documentation.clone(),
                config_def: class.config_def.clone(),
                location: Location::Library(library.path().to_owned()),
            };
            self.classes.push(PluginClass(Arc::new(Inner { info, code: Code::Library(library.clone()) })));
        }
    }

    fn problem(&mut self, path: &Path, error: PluginError) {
        self.problems.push(Problem { path: path.to_owned(), error });
    }

    /// What in `plugin.path` cannot be used.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Every class and version.
    pub fn classes(&self) -> &[PluginClass] {
        &self.classes
    }

    /// The source or sink connector that `connector.class` names; the newest, or the newest of a range of versions.
    pub fn connector(&self, name: &str, version: Option<&str>) -> Result<PluginClass, PluginError> {
        self.resolve("connector", name, version, None, |info| info.kind.is_connector())
    }

    /// The transform that `transforms.<alias>.type` names; the newest, or the newest of a range of versions.
    pub fn transform(&self, name: &str, version: Option<&str>) -> Result<PluginClass, PluginError> {
        self.resolve("transform", name, version, None, |info| !info.kind.is_connector())
    }

    /// The same for a connector, whose own library comes first where it has the transform in a version that is asked for: as in
    /// Kafka Connect, what is shipped together runs together.
    pub fn transform_beside(
        &self,
        connector: &PluginClass,
        name: &str,
        version: Option<&str>,
    ) -> Result<PluginClass, PluginError> {
        let own = Some(&connector.info().location);
        self.resolve("transform", name, version, own, |info| !info.kind.is_connector())
    }

    fn resolve(
        &self,
        what: &str,
        name: &str,
        version: Option<&str>,
        first: Option<&Location>,
        kind: impl Fn(&ClassInfo) -> bool,
    ) -> Result<PluginClass, PluginError> {
        let name = name.trim();
        let of_kind = || self.classes.iter().filter(|class| kind(class.info()));
        // The most exact match counts: a full name is never ambiguous with somebody's short one.
        for rank in 0..3 {
            let mut found: Vec<_> = of_kind().filter(|class| names(class.info(), rank).any(|n| n == name)).collect();
            let mut candidates: Vec<String> = found.iter().map(|class| class.info().class.clone()).collect();
            candidates.sort();
            candidates.dedup();
            if candidates.len() > 1 {
                return Err(PluginError::Ambiguous { name: name.to_owned(), candidates });
            }
            let range = VersionRange::parse(version).map_err(PluginError::UnknownClass)?;
            if let Some(range) = range {
                let known: Vec<&str> = found.iter().map(|class| class.info().version.as_str()).collect();
                if let Some(class) = candidates.first()
                    && !known.iter().any(|version| range.contains(version))
                {
                    return Err(PluginError::UnknownClass(range.no_version(class, &known)));
                }
                found.retain(|class| range.contains(&class.info().version));
            }
            if let Some(own) = found.iter().find(|class| Some(&class.info().location) == first) {
                return Ok((*own).clone());
            }
            if let Some(newest) =
                found.into_iter().max_by(|a, b| version::compare(&a.info().version, &b.info().version))
            {
                return Ok(newest.clone());
            }
        }
        Err(self.unknown(what, name, kind))
    }

    fn unknown(&self, what: &str, name: &str, kind: impl Fn(&ClassInfo) -> bool) -> PluginError {
        let mut known: Vec<&str> =
            self.classes.iter().filter(|c| kind(c.info())).map(|c| c.info().class.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        let all_names =
            self.classes.iter().filter(|c| kind(c.info())).flat_map(|c| (0..3).flat_map(|r| names(c.info(), r)));
        let nearest = all_names.map(|n| (distance(&n.to_lowercase(), &name.to_lowercase()), n)).min();
        let hint = match nearest {
            Some((distance, nearest)) if distance <= name.len().max(6) / 3 => format!(" (did you mean {nearest}?)"),
            _ => String::new(),
        };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        PluginError::UnknownClass(format!(
            "there is no {what} class {name}{hint}; known classes: {known}; {}",
            match self.problems.len() {
                0 => "is its directory in plugin.path?".to_owned(),
                1 => format!("one plugin could not be used: {}", self.problems[0].error),
                count => format!("{count} plugins could not be used, `tributary plugins` shows why"),
            }
        ))
    }
}

/// The names of a class: full ones (rank 0), their last parts (1), those without the suffix `Connector` (2).
fn names(info: &ClassInfo, rank: usize) -> impl Iterator<Item = &str> {
    std::iter::once(info.class.as_str()).chain(info.aliases.iter().map(String::as_str)).filter_map(move |full| {
        let simple = full.rsplit('.').next().unwrap_or(full);
        match rank {
            0 => Some(full),
            1 => Some(simple),
            // As Kafka Connect does: up to the last `Connector`, wherever it stands.
            _ => simple.rfind("Connector").filter(|&at| at > 0).map(|at| &simple[..at]),
        }
    })
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
