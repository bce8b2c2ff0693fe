//! A transform's or predicate's config, read by its definition.

use tributary_sdk::config_def::{DefaultValue, Validator};
use tributary_sdk::{Config, ConfigDef, Error, Pattern, Result, Type};

/// Typed access. Missing keys and ill-typed values are refused with Kafka's words.
#[derive(Debug)]
pub struct Settings<'a> {
    def: ConfigDef,
    config: &'a Config,
}

impl<'a> Settings<'a> {
    /// Checks the config (keys without prefix) against the definition.
    pub fn new(def: ConfigDef, config: &'a Config) -> Result<Self> {
        let settings = Self { def, config };
        for key in &settings.def.keys {
            let Some(value) = settings.raw(&key.name) else {
                if key.default == DefaultValue::Required {
                    config.required(&key.name)?;
                }
                continue;
            };
            if key.kind == Type::Boolean {
                settings.boolean(&key.name)?;
            }
            let bad = |what: String| Err(invalid(&key.name, value, what));
            match &key.validator {
                Some(Validator::NonEmpty | Validator::NonEmptyList) if value.is_empty() => {
                    return bad("String must be non-empty".to_owned());
                }
                Some(Validator::OneOf(known)) if !known.iter().any(|known| known == value) => {
                    return bad(format!("String must be one of: {}", known.join(", ")));
                }
                Some(Validator::OneOfIgnoreCase(known)) if !known.iter().any(|k| k.eq_ignore_ascii_case(value)) => {
                    return bad(format!("String must be one of (case insensitive): {}", known.join(", ")));
                }
                Some(Validator::Regex) => {
                    regex(&key.name, value, Pattern::new)?;
                }
                _ => {}
            }
        }
        Ok(settings)
    }

    fn raw(&self, key: &str) -> Option<&str> {
        let key = self.def.get(key).unwrap_or_else(|| panic!("the key {key} is not defined"));
        match (self.config.get(&key.name), &key.default) {
            // As Kafka reads every value.
            (Some(value), _) => Some(value.trim()),
            (None, DefaultValue::Value(default)) => Some(default),
            (None, _) => None,
        }
    }

    /// The value, or the default; `None` when there is neither.
    pub fn string(&self, key: &str) -> Option<&str> {
        self.raw(key)
    }

    /// The value as it is written, with the blanks around it that Kafka takes away from every other value.
    pub fn as_written(&self, key: &str) -> &str {
        self.config.get(key).unwrap_or_else(|| self.text(key))
    }

    /// Whether the config has the key itself.
    pub fn is_set(&self, key: &str) -> bool {
        self.config.get(key).is_some()
    }

    /// The value of a key that is required or has a default.
    pub fn text(&self, key: &str) -> &str {
        self.raw(key).unwrap_or("")
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Result<bool> {
        let value = self.text(key);
        match value.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(invalid(key, value, "Expected value to be either true or false".to_owned())),
        }
    }

    /// Comma-separated items, trimmed.
    pub fn list(&self, key: &str) -> Vec<&str> {
        let text = self.text(key).trim();
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
    }

    /// A regular expression that matches whole texts only, as Java's `matches()`.
    pub fn whole_regex(&self, key: &str) -> Result<Pattern> {
        regex(key, self.text(key), Pattern::whole)
    }

    /// A regular expression.
    pub fn regex(&self, key: &str) -> Result<Pattern> {
        regex(key, self.text(key), Pattern::new)
    }
}

/// Kafka's words for a value that a definition does not allow.
pub fn invalid(key: &str, value: &str, what: impl std::fmt::Display) -> Error {
    Error::failed(format!("Invalid value {value} for configuration {key}: {what}"))
}

fn regex(key: &str, value: &str, make: fn(&str) -> std::result::Result<Pattern, String>) -> Result<Pattern> {
    make(value).map_err(|what| invalid(key, value, format!("Invalid regex: {what}")))
}
