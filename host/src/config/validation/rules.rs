//! What holds between keys, in Kafka Connect's words.

use tributary_sdk::Pattern;

use super::WorkerSide;
use super::checked::Checked;
use super::nested::aliases;
use crate::config::ClientKind;

/// A sink reads topics or a pattern of topics, and not its own dead letters.
pub(super) fn topics(checked: &mut Checked<'_>) {
    let value = |key| checked.config.get(key).filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let (topics, regex) = (value("topics"), value("topics.regex"));
    let message = match (&topics, &regex) {
        (Some(_), Some(_)) => Some("topics and topics.regex are mutually exclusive options, but both are set."),
        (None, None) => Some("Must configure one of topics or topics.regex"),
        _ => None,
    };
    let dead_letters = value("errors.deadletterqueue.topic.name");
    if let Some(message) = message {
        checked.error("topics", message);
        checked.error("topics.regex", message);
    }
    let Some(dead_letters) = dead_letters else { return };
    let dead_letters = dead_letters.trim();
    let list: Vec<String> =
        aliases(topics.as_deref().unwrap_or_default()).into_iter().filter(|topic| !topic.is_empty()).collect();
    if list.iter().any(|topic| topic == dead_letters) {
        let list = list.join(", ");
        checked.error("topics", format!("The DLQ topic '{dead_letters}' may not be included in the list of topics ('topics=[{list}]') consumed by the connector"));
    }
    if let Some(regex) = regex
        && Pattern::whole(&regex).is_ok_and(|pattern| crate::log::name_matches(&pattern, dead_letters))
    {
        checked.error("topics.regex", format!("The DLQ topic '{dead_letters}' may not be matched by the regex for the topics ('topics.regex={regex}') consumed by the connector"));
    }
}

/// A sink's consumer group is not the group of the workers.
pub(super) fn consumer_group(checked: &mut Checked<'_>, worker: &WorkerSide) {
    let Some(workers) = &worker.group_id else { return };
    let key = format!("{}group.id", ClientKind::Consumer.override_prefix());
    match checked.config.get(&key).map(str::to_owned) {
        Some(group) => {
            let conflict = format!("Consumer group {group} conflicts with Connect worker group {workers}");
            checked.undefined(&key, if group == *workers { vec![conflict] } else { Vec::new() });
        }
        None => {
            let name = checked.config.get("name").unwrap_or_default().trim().to_owned();
            if *workers == format!("connect-{name}") {
                checked.error(
                    "name",
                    format!(
                        "Consumer group for sink connector named {name} conflicts with Connect worker group {workers}"
                    ),
                );
            }
        }
    }
}

/// Whether this worker delivers exactly once where a source insists on it.
pub(super) fn exactly_once(checked: &mut Checked<'_>, worker: &WorkerSide) {
    let key = "exactly.once.support";
    if checked.is_fine(key) && required(checked.config.get(key)) && !worker.exactly_once {
        checked.error(key, "This worker does not have exactly-once source support enabled.");
    }
}

/// The interval may be left out, but not be negative.
pub(super) fn transaction_boundary(checked: &mut Checked<'_>) {
    let key = "transaction.boundary.interval.ms";
    let Some(text) = checked.config.get(key).map(str::trim) else { return };
    if text.parse::<i64>().is_ok_and(|interval| interval < 0) {
        checked.error(key, format!("Invalid value {text} for configuration {key}: Value must be at least 0"));
    }
}

/// Whether `exactly.once.support` says so.
fn required(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.trim().eq_ignore_ascii_case("required"))
}
