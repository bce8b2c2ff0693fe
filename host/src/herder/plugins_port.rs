//! What the control side knows of plugins: names, kinds and config definitions; nothing is opened for it.

use tributary_sdk::ConfigDef;

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

    /// The connector that `name` means.
    fn connector(&self, name: &str) -> Option<&PluginClass> {
        self.classes().iter().find(|plugin| plugin.is_connector() && plugin.answers_to(name))
    }
}

impl PluginCatalog for Vec<PluginClass> {
    fn classes(&self) -> &[PluginClass] {
        self
    }
}
