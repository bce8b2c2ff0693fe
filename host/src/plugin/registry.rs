//! The registry: every class that this worker knows, by the names that users write.
//!
//! Promises: nothing of a plugin is executed to fill it. A class is found by its full name, an alias (the Java class name
//! of what it stands in for), the last part of either, and that without `Connector`; of several versions the newest is
//! taken. An unknown name fails with the nearest known ones.

use std::sync::Arc;

use tributary_sdk::Plugin;

use super::class::{ClassInfo, Inner, Location, PluginClass};
use super::descriptor::Descriptor;
use super::errors::PluginError;
use super::version;

/// The known classes.
#[derive(Debug, Default, Clone)]
pub struct Registry {
    classes: Vec<PluginClass>,
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
            self.classes.push(PluginClass(Arc::new(Inner { info, tables: class.tables })));
        }
        self
    }

    /// Every class and version.
    pub fn classes(&self) -> &[PluginClass] {
        &self.classes
    }

    /// The source or sink connector that `connector.class` names; the newest, unless a version is asked for.
    pub fn connector(&self, name: &str, version: Option<&str>) -> Result<PluginClass, PluginError> {
        self.resolve("connector", name, version, |info| info.kind.is_connector())
    }

    /// The transform that `transforms.<alias>.type` names.
    pub fn transform(&self, name: &str, version: Option<&str>) -> Result<PluginClass, PluginError> {
        self.resolve("transform", name, version, |info| !info.kind.is_connector())
    }

    fn resolve(
        &self,
        what: &str,
        name: &str,
        version: Option<&str>,
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
            if let Some(version) = version {
                let known: Vec<&str> = found.iter().map(|class| class.info().version.as_str()).collect();
                let known = known.join(", ");
                found.retain(|class| class.info().version == version);
                if found.is_empty() && !known.is_empty() {
                    return Err(PluginError::UnknownClass(format!(
                        "{what} {name} has no version {version}: there is {known}"
                    )));
                }
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
            "there is no {what} class {name}{hint}; known classes: {known}; is its directory in plugin.path?"
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
            _ => simple.strip_suffix("Connector").filter(|short| !short.is_empty()),
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
