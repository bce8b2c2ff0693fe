//! A connector's or task's config: Kafka's string map, with typed access by a config definition.

use std::collections::BTreeMap;

use crate::errors::{Error, Result};

/// Keys and values as users write them. Secrets are already resolved in what a task receives, and only there;
/// `Debug` shows the keys alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Config(pub BTreeMap<String, String>);

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Config {
    /// The value of `key`, if it is set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The value of `key`; an error that names it when it is not set.
    pub fn required(&self, key: &str) -> Result<&str> {
        self.get(key).ok_or_else(|| {
            Error::failed(format!("missing required configuration \"{key}\" which has no default value"))
        })
    }

    /// The value of `key` parsed, or `default` when it is not set; an error that names key and value when it does not parse.
    pub fn parsed<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T>
    where
        T::Err: std::fmt::Display,
    {
        match self.get(key) {
            None => Ok(default),
            Some(text) => text
                .trim()
                .parse()
                .map_err(|error| Error::failed(format!("invalid value {text} for configuration {key}: {error}"))),
        }
    }

    /// The comma-separated items of `key`, trimmed; empty when it is not set.
    pub fn list(&self, key: &str) -> Vec<&str> {
        self.get(key)
            .map_or_else(Vec::new, |text| text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect())
    }

    /// Adds or replaces a value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    /// The keys that begin with `prefix`, without it.
    pub fn with_prefix(&self, prefix: &str) -> Config {
        let stripped = |(key, value): (&String, &String)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone()));
        Config(self.0.iter().filter_map(stripped).collect())
    }

    /// As a JSON object of strings.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("a map of strings is valid JSON")
    }

    /// From a JSON object; values that are not strings become their JSON text, nulls are left out.
    pub fn from_json(json: &str) -> Result<Self> {
        let map: BTreeMap<String, serde_json::Value> = serde_json::from_str(json)?;
        let text = |(key, value)| match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some((key, text)),
            other => Some((key, other.to_string())),
        };
        Ok(Self(map.into_iter().filter_map(text).collect()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Config {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}
