//! Which letters a command is about.

use super::letter::{Context, Letter};
use crate::task::letter_headers::{CONNECTOR, EXCEPTION, MESSAGE, STAGE, TOPIC};

/// All conditions that are given have to hold. A letter without context headers meets none of them but the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The connector's name.
    pub connector: Option<String>,
    /// The stage, such as `VALUE_CONVERTER`, in any case.
    pub stage: Option<String>,
    /// Part of the exception's class or message, in any case.
    pub reason: Option<String>,
    /// The topic that the record came from, or was to go to.
    pub origin: Option<String>,
    /// The record's timestamp is this or later, in ms since the epoch.
    pub since: Option<i64>,
}

impl Filter {
    /// Whether a letter is meant.
    pub fn matches(&self, letter: &Letter<'_>, context: &Context) -> bool {
        let value = |name: &str| context.get(name).map(String::as_str);
        let equal = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| value(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted)))
        };
        let exactly =
            |wanted: &Option<String>, name| wanted.as_deref().is_none_or(|wanted| value(name) == Some(wanted));
        let mentions = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
        exactly(&self.connector, CONNECTOR)
            && equal(&self.stage, STAGE)
            && exactly(&self.origin, TOPIC)
            && self.reason.as_ref().is_none_or(|part| {
                [EXCEPTION, MESSAGE].iter().any(|name| value(name).is_some_and(|text| mentions(text, part)))
            })
            && self.since.is_none_or(|since| letter.timestamp().is_some_and(|time| time >= since))
    }

    /// The conditions as text, always in the same order; empty without any.
    pub fn describe(&self) -> String {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        let texts = [
            ("connector", self.connector.clone()),
            ("stage", lower(&self.stage)),
            ("reason", lower(&self.reason)),
            ("origin", self.origin.clone()),
        ];
        let mut parts: Vec<String> =
            texts.into_iter().filter_map(|(name, value)| Some(format!("--{name} {}", value?))).collect();
        parts.extend(self.since.map(|since| format!("--since {since}")));
        parts.join(" ")
    }
}
