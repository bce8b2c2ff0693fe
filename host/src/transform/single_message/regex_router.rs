//! `RegexRouter`: another topic for those whose whole name matches an expression.

use std::sync::Arc;

use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Pattern, Result, Type};

use super::SingleMessage;
use crate::transform::config::{Settings, invalid};
use crate::transform::part::{Outcome, Part, Target};
use crate::transform::replacement::Replacement;

/// See the module's documentation.
pub struct RegexRouter {
    whole: Pattern,
    regex: Pattern,
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
        Ok(Box::new(Self { whole: settings.whole_regex("regex")?, regex, replacement }))
    }
}

impl SingleMessage for RegexRouter {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let routed = self.whole.is_match(&part.topic).and_then(|matches| match matches {
            true => self.replacement.replace_first(&self.regex, &part.topic).map(Some),
            false => Ok(None),
        });
        match routed {
            Ok(Some(topic)) => part.topic = Arc::from(topic),
            Ok(None) => {}
            Err(message) => return part.refuse_all(Target::Value, &message, outcome),
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
