//! The config definition: one text that makes the validation, the REST answers and the reference documentation.
//!
//! Everything that Kafka Connect's `ConfigKeyInfo` shows. It is data (it crosses the plugin boundary and stands in the
//! manifest as JSON), so that a worker can validate a config without executing anything of the plugin.
//! [`ConfigDef::validate`] answers with Kafka's own messages; [`ConfigDef::parse`] gives a connector typed values.

mod java_order;
mod markdown;
mod parse;
mod validate;

use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Serialize};

pub use java_order::hash_order;
pub use parse::{FromConfig, Parsed};
pub use validate::ConfigValue;

/// A value's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Type {
    /// `true` or `false`, any case.
    Boolean,
    /// Text.
    String,
    /// 32-bit integer.
    Int,
    /// 16-bit integer.
    Short,
    /// 64-bit integer.
    Long,
    /// Floating point.
    Double,
    /// Comma-separated text.
    List,
    /// A class name or alias.
    Class,
    /// Text that is never shown.
    Password,
}

impl FromStr for Type {
    type Err = String;

    /// By Kafka's name of the type, such as `BOOLEAN`.
    fn from_str(name: &str) -> Result<Self, String> {
        let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
        Self::deserialize(name).map_err(|error| error.to_string())
    }
}

/// How much a key matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// How wide a user interface should draw the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Width {
    None,
    Short,
    Medium,
    Long,
}

/// What values are allowed beyond the type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validator {
    /// A number not below `min` and not above `max`, where given.
    Range {
        /// Least value.
        min: Option<f64>,
        /// Greatest value.
        max: Option<f64>,
    },
    /// One of these, exactly. For a list: each item is, and none stands twice.
    OneOf(Vec<String>),
    /// One of these, in any case.
    OneOfIgnoreCase(Vec<String>),
    /// Not the empty text. For a list: there is an item, none is empty, and none stands twice.
    NonEmpty,
    /// A list with an item, whatever it is.
    NonEmptyList,
    /// A list that may be empty; no item of it is empty, and none stands twice.
    Distinct,
    /// Anything but null.
    NonNull,
    /// Not empty and without control characters, or null.
    Name,
    /// A list of which no item stands twice: aliases.
    Aliases,
    /// A regular expression that compiles.
    Regex,
}

impl Validator {
    /// A number not below `min`.
    pub fn at_least(min: impl Into<f64>) -> Self {
        Self::Range { min: Some(min.into()), max: None }
    }

    /// A number from `min` to `max`, both allowed.
    pub fn between(min: impl Into<f64>, max: impl Into<f64>) -> Self {
        Self::Range { min: Some(min.into()), max: Some(max.into()) }
    }

    /// One of these, exactly.
    pub fn one_of(values: &[&str]) -> Self {
        Self::OneOf(values.iter().map(|&value| value.to_owned()).collect())
    }
}

/// The default of a key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultValue {
    /// There is none: the key is required.
    #[default]
    Required,
    /// Nothing: the key may be left out.
    Null,
    /// This text.
    Value(String),
}

/// One key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigKey {
    /// The key.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Its default.
    pub default: DefaultValue,
    /// How much it matters.
    pub importance: Importance,
    /// What it means, in whole sentences.
    pub documentation: String,
    /// The heading that a user interface puts it under.
    pub group: Option<String>,
    /// Place within the group, from 1; -1 without a group.
    pub order_in_group: i32,
    /// Width in a user interface.
    pub width: Width,
    /// Label in a user interface; the key itself if there is none.
    pub display_name: String,
    /// Keys whose validity or recommendation depends on this one.
    pub dependents: Vec<String>,
    /// What is allowed.
    pub validator: Option<Validator>,
    /// Values that a user interface proposes.
    pub recommended: Vec<String>,
    /// Not shown or documented.
    pub internal: bool,
}

impl ConfigKey {
    /// A required key; the other properties are set with the methods below.
    pub fn required(name: &str, kind: Type, importance: Importance, documentation: &str) -> Self {
        Self::with_default(name, kind, DefaultValue::Required, importance, documentation)
    }

    /// A key with a default.
    pub fn optional(name: &str, kind: Type, default: &str, importance: Importance, documentation: &str) -> Self {
        Self::with_default(name, kind, DefaultValue::Value(default.to_owned()), importance, documentation)
    }

    /// A key that may be left out and has no default.
    pub fn nullable(name: &str, kind: Type, importance: Importance, documentation: &str) -> Self {
        Self::with_default(name, kind, DefaultValue::Null, importance, documentation)
    }

    fn with_default(
        name: &str,
        kind: Type,
        default: DefaultValue,
        importance: Importance,
        documentation: &str,
    ) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            default,
            importance,
            documentation: documentation.to_owned(),
            group: None,
            order_in_group: -1,
            width: Width::None,
            display_name: name.to_owned(),
            dependents: Vec::new(),
            validator: None,
            recommended: Vec::new(),
            internal: false,
        }
    }

    /// Sets the heading, the place under it, the width and the label.
    pub fn ui(mut self, group: &str, order_in_group: i32, width: Width, display_name: &str) -> Self {
        self.group = Some(group.to_owned());
        self.order_in_group = order_in_group;
        self.width = width;
        self.display_name = display_name.to_owned();
        self
    }

    /// Sets what is allowed.
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validator = Some(validator);
        self
    }

    /// Sets the keys that depend on this one.
    pub fn dependents(mut self, dependents: &[&str]) -> Self {
        self.dependents = dependents.iter().map(|&key| key.to_owned()).collect();
        self
    }

    /// Sets the proposed values.
    pub fn recommended(mut self, values: &[&str]) -> Self {
        self.recommended = values.iter().map(|&value| value.to_owned()).collect();
        self
    }
}

/// All keys of a connector or transform, in the order of their definition.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ConfigDef {
    /// The keys.
    pub keys: Vec<ConfigKey>,
}

impl ConfigKey {
    /// The order in which Kafka shows keys that it sorts: by group, place in it, required ones, importance and name.
    fn rank(&self, groups: &[&str]) -> (usize, i32, bool, Importance, &str) {
        let group = self.group.as_deref();
        let at = group.map_or(0, |group| groups.iter().position(|known| *known == group).map_or(0, |at| at + 1));
        (at, self.order_in_group, self.default != DefaultValue::Required, self.importance, &self.name)
    }
}

impl ConfigDef {
    /// The headings, in the order of their first keys.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups = Vec::new();
        for group in self.keys.iter().filter_map(|key| key.group.as_deref()) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// The keys as Kafka sorts them.
    pub fn sorted(&self) -> Vec<&ConfigKey> {
        let groups = self.groups();
        let mut keys: Vec<&ConfigKey> = self.keys.iter().collect();
        keys.sort_by(|a, b| a.rank(&groups).cmp(&b.rank(&groups)));
        keys
    }

    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    ///
    /// # Panics
    /// If it is already defined.
    pub fn define(mut self, key: ConfigKey) -> Self {
        assert!(self.get(&key.name).is_none(), "configuration {} is defined twice", key.name);
        self.keys.push(key);
        self
    }

    /// Adds the keys of another definition after these.
    ///
    /// # Panics
    /// If a key is defined in both.
    pub fn extend(self, other: ConfigDef) -> Self {
        other.keys.into_iter().fold(self, Self::define)
    }

    /// A key by name.
    pub fn get(&self, name: &str) -> Option<&ConfigKey> {
        self.keys.iter().find(|key| key.name == name)
    }
}
