//! What the control side knows of plugins: names, kinds and config definitions; nothing is opened for it.

use std::cmp::Ordering;

use tributary_sdk::{Config, ConfigDef};

use crate::plugin::{VersionRange, compare_versions};

/// Kinds of plugins, by the names of `GET /connector-plugins`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum PluginKind {
    Sink,
    Source,
    Transformation,
    Predicate,
    Converter,
    HeaderConverter,
}

/// A class of a plugin.
#[derive(Debug, Clone)]
pub struct PluginClass {
    /// Its full (Java) name.
    pub class: String,
    /// Short names that mean the same.
    pub aliases: Vec<String>,
    /// Its kind.
    pub kind: PluginKind,
    /// Its version.
    pub version: String,
    /// Its own keys, without those that every connector has.
    pub config_def: ConfigDef,
}

impl PluginClass {
    /// Whether `name` means this class.
    pub fn answers_to(&self, name: &str) -> bool {
        self.class == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Whether it is a source or a sink.
    pub fn is_connector(&self) -> bool {
        matches!(self.kind, PluginKind::Source | PluginKind::Sink)
    }
}

/// The plugins of a worker. Fixed while it runs.
pub trait PluginCatalog: Send + Sync {
    /// All classes.
    fn classes(&self) -> &[PluginClass];

    /// The connector that `name` means, its newest version.
    fn connector(&self, name: &str) -> Option<&PluginClass> {
        newest_class(self.classes().iter().filter(|plugin| plugin.is_connector() && plugin.answers_to(name)))
    }

    /// The connector of a config, in the version that it asks for; the newest where there is no such version, which the
    /// connector's start then tells.
    fn connector_of(&self, config: &Config) -> Option<&PluginClass> {
        let name = config.get("connector.class")?.trim();
        let range = VersionRange::parse(config.get("connector.plugin.version")).ok().flatten();
        let asked = |plugin: &&PluginClass| range.as_ref().is_none_or(|range| range.contains(&plugin.version));
        let named = self.classes().iter().filter(|plugin| plugin.is_connector() && plugin.answers_to(name));
        newest_class(named.filter(asked)).or_else(|| self.connector(name))
    }
}

/// The newest of classes. Of equal ones the last: installed plugins stand behind built-in ones, and replace them.
pub fn newest_class<'a>(classes: impl Iterator<Item = &'a PluginClass>) -> Option<&'a PluginClass> {
    classes.reduce(|best, class| match compare_versions(&class.version, &best.version) {
        Ordering::Less => best,
        _ => class,
    })
}

impl PluginCatalog for Vec<PluginClass> {
    fn classes(&self) -> &[PluginClass] {
        self
    }
}
