//! `Filter`: drops every record; a predicate says which.

use tributary_sdk::{ConfigDef, Result};

use super::SingleMessage;
use crate::transform::config::Settings;
use crate::transform::part::{Outcome, Part, Target};

/// See the module's documentation.
pub struct Filter;

impl Filter {
    /// It has no keys.
    pub fn config_def() -> ConfigDef {
        ConfigDef::new()
    }

    /// Takes its config.
    pub fn build(_target: Target, _settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        Ok(Box::new(Self))
    }
}

impl SingleMessage for Filter {
    fn apply<'a>(&'a self, part: Part<'a>, outcome: &mut Outcome<'a>) {
        outcome.dropped += part.rows.len();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/filter.json"));
    }
}
