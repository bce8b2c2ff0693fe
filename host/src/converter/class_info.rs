//! What the REST API lists and validates about a built-in class.

use tributary_sdk::ConfigDef;

/// The kind of a built-in class, by the names that `GET /connector-plugins` uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ClassKind {
    Converter,
    HeaderConverter,
    Transformation,
    Predicate,
}

/// A built-in class.
#[derive(Debug, Clone)]
pub struct ClassInfo {
    /// Kafka Connect's Java name.
    pub class: &'static str,
    /// Short names that mean the same.
    pub aliases: &'static [&'static str],
    /// Its kind.
    pub kind: ClassKind,
    /// Makes its config definition; keys are without the prefix (`transforms.<alias>.`, `value.converter.`).
    pub config_def: fn() -> ConfigDef,
}

impl ClassInfo {
    /// Whether `name` means this class.
    pub fn answers_to(&self, name: &str) -> bool {
        self.class == name || self.aliases.contains(&name)
    }
}
