//! `RegexRouter`: another topic for those whose whole name matches an expression.

use std::sync::Arc;

use regex::Regex;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use super::SingleMessage;
use crate::transform::config::{Settings, invalid, whole};
use crate::transform::part::{Outcome, Part, Target};
use crate::transform::replacement::Replacement;

/// See the module's documentation.
pub struct RegexRouter {
    whole: Regex,
    regex: Regex,
    replacement: Replacement,
}

impl RegexRouter {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let replacement = "The new name; $1 stands for the first group of the expression, ${name} for a named one.";
        ConfigDef::new()
            .define(
                ConfigKey::required(
                    "regex",
                    Type::String,
                    Importance::High,
                    "The expression that a whole topic name has to match.",
                )
                .validator(Validator::Regex),
            )
            .define(ConfigKey::required("replacement", Type::String, Importance::High, replacement))
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let regex = settings.regex("regex")?;
        let text = settings.text("replacement");
        let replacement = Replacement::new(text, &regex).map_err(|what| invalid("replacement", text, what))?;
        Ok(Box::new(Self { whole: whole(&regex), regex, replacement }))
    }
}

impl SingleMessage for RegexRouter {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if self.whole.is_match(&part.topic) {
            part.topic = Arc::from(self.replacement.replace_first(&self.regex, &part.topic));
        }
        outcome.push(part);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/regex_router.json"));
    }
}
