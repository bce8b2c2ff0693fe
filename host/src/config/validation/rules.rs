//! What holds between keys, in Kafka Connect's words.

use regex::Regex;

use super::Checked;
use crate::config::{ClientKind, OverridePolicy};
use crate::herder::PluginKind;

/// A name is not empty and has no control characters.
pub(super) fn name(checked: &mut Checked<'_>) {
    let Some(name) = checked.config.get("name") else { return };
    if name.trim().is_empty() {
        checked.error("name", format!("Invalid value {name} for configuration name: String may not be empty"));
    } else if name.chars().any(char::is_control) {
        checked.error(
            "name",
            format!(
                "Invalid value {} for configuration name: String may not contain control characters",
                name.escape_debug()
            ),
        );
    }
}

/// An alias stands once in its list.
pub(super) fn aliases(checked: &mut Checked<'_>) {
    for key in ["transforms", "predicates"] {
        let aliases = checked.config.list(key);
        if aliases.iter().enumerate().any(|(at, alias)| aliases[..at].contains(alias)) {
            let shown = aliases.join(", ");
            checked.error(key, format!("Invalid value [{shown}] for configuration {key}: Duplicate alias provided."));
        }
    }
}

/// A sink reads topics or a pattern of topics, and not its own dead letters.
pub(super) fn topics(checked: &mut Checked<'_>) {
    let value = |key| checked.config.get(key).filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let (topics, regex) = (value("topics"), value("topics.regex"));
    let message = match (&topics, &regex) {
        (Some(_), Some(_)) => Some("topics and topics.regex are mutually exclusive options, but both are set."),
        (None, None) => Some("Must configure one of topics or topics.regex"),
        _ => None,
    };
    if let Some(message) = message {
        checked.error("topics", message);
        checked.error("topics.regex", message);
    }
    let Some(dead_letters) = value("errors.deadletterqueue.topic.name") else { return };
    let dead_letters = dead_letters.trim();
    let list = checked.config.list("topics");
    if list.contains(&dead_letters) {
        let list = list.join(", ");
        checked.error("topics", format!("The DLQ topic '{dead_letters}' may not be included in the list of topics ('topics=[{list}]') consumed by the connector"));
    }
    if let Some(regex) = regex
        && Regex::new(&format!("^(?:{regex})$")).is_ok_and(|pattern| pattern.is_match(dead_letters))
    {
        checked.error("topics.regex", format!("The DLQ topic '{dead_letters}' may not be matched by the regex for the topics ('topics.regex={regex}') consumed by the connector"));
    }
}

/// Client settings as far as the worker's policy allows, of the clients that the connector has.
pub(super) fn overrides(checked: &mut Checked<'_>, kind: PluginKind, policy: &OverridePolicy) {
    let config = checked.config;
    let dead_letters = config.get("errors.deadletterqueue.topic.name").is_some_and(|topic| !topic.trim().is_empty());
    for client in ClientKind::ALL {
        let used = match client {
            ClientKind::Producer => kind == PluginKind::Source || dead_letters,
            ClientKind::Consumer => kind == PluginKind::Sink,
            ClientKind::Admin => dead_letters || config.0.keys().any(|key| key.starts_with("topic.creation.")),
        };
        let prefix = client.override_prefix();
        for (setting, value) in config.with_prefix(prefix).0 {
            if used && let Some(refusal) = policy.refusal(&setting, &value) {
                checked.error(&format!("{prefix}{setting}"), refusal);
            }
        }
    }
}
