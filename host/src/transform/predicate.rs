//! Predicates: which records a transform is for.

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray};
use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Pattern, Result, Type};

use super::config::Settings;
use super::part::{Part, Target};

/// Answers for each row of a part.
pub trait Predicate: Send {
    /// As many answers as rows, none of them null.
    fn test(&self, part: &Part<'_>) -> BooleanArray;
}

/// True for records with at least one header of a name.
pub struct HasHeaderKey {
    name: String,
}

/// True for records whose value is null.
pub struct RecordIsTombstone;

/// True for records whose topic matches a regular expression as a whole.
pub struct TopicNameMatches {
    pattern: Pattern,
}

impl HasHeaderKey {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let name = ConfigKey::required("name", Type::String, Importance::Medium, "The header's name.");
        ConfigDef::new().define(name.validator(Validator::NonEmpty))
    }

    /// Takes its config.
    pub fn build(settings: &Settings<'_>) -> Result<Box<dyn Predicate>> {
        Ok(Box::new(Self { name: settings.text("name").to_owned() }))
    }
}

impl Predicate for HasHeaderKey {
    fn test(&self, part: &Part<'_>) -> BooleanArray {
        let Some(headers) = part.headers() else { return vec![false; part.rows.len()].into() };
        let keys = headers.values().as_struct().column(0).as_string::<i32>();
        let offsets = headers.value_offsets();
        let has = |row: usize| (offsets[row]..offsets[row + 1]).any(|i| keys.value(i as usize) == self.name);
        (0..headers.len()).map(|row| Some(headers.is_valid(row) && has(row))).collect()
    }
}

impl RecordIsTombstone {
    /// It needs no config.
    pub fn build(_settings: &Settings<'_>) -> Result<Box<dyn Predicate>> {
        Ok(Box::new(Self))
    }
}

impl Predicate for RecordIsTombstone {
    fn test(&self, part: &Part<'_>) -> BooleanArray {
        part.is_null(Target::Value)
    }
}

impl TopicNameMatches {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let documentation = "A regular expression that the topic's whole name has to match.";
        let pattern = ConfigKey::required("pattern", Type::String, Importance::Medium, documentation);
        ConfigDef::new().define(pattern.validator(Validator::Regex))
    }

    /// Takes its config.
    pub fn build(settings: &Settings<'_>) -> Result<Box<dyn Predicate>> {
        Ok(Box::new(Self { pattern: settings.whole_regex("pattern")? }))
    }
}

impl Predicate for TopicNameMatches {
    fn test(&self, part: &Part<'_>) -> BooleanArray {
        vec![crate::log::name_matches(&self.pattern, &part.topic); part.rows.len()].into()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::single_message::cases::check(include_str!("single_message/cases/predicates.json"));
    }
}
