//! Keys that nobody knows: no errors, since Connect accepts them, but most often slips of the keyboard.

use std::collections::BTreeSet;

use tributary_sdk::Config;

use super::checked::Checked;
use super::framework::STANDBY_REPLICAS;
use super::infos::ConfigWarning;
use super::nested::aliases;
use crate::config::topic_creation::GROUP_KEYS;
use crate::config::{ClientKind, client_config_def, nearest};
use crate::herder::PluginKind;
use crate::transform::registry::keeps_state;

/// What a cluster of workers looks at when it divides connectors among them.
const PLACEMENT: [&str; 2] = ["tributary.weight", "tributary.worker.labels"];

/// Sources have dead letters here, too; Connect's definition of a source does not say so.
const DEAD_LETTERS: [&str; 3] = [
    "errors.deadletterqueue.topic.name",
    "errors.deadletterqueue.topic.replication.factor",
    "errors.deadletterqueue.context.headers.enable",
];

/// A warning for each key of the config that has no effect, as far as can be told.
pub(super) fn unknown_keys(checked: &Checked<'_>, kind: PluginKind) -> Vec<ConfigWarning> {
    let known: BTreeSet<&str> = checked.known().collect();
    let config = checked.config;
    let unknown = config.0.keys().filter(|key| !known.contains(key.as_str()));
    unknown
        .filter_map(|key| Some(ConfigWarning { name: key.clone(), message: odd(key, config, &known, kind)? }))
        .collect()
}

/// What a worker says that has no others beside it.
pub(super) fn standbys(config: &Config) -> Option<ConfigWarning> {
    let wanted = keeps_state(config) && config.parsed(STANDBY_REPLICAS, 0u32).is_ok_and(|replicas| replicas > 0);
    let message =
        format!("{STANDBY_REPLICAS} has no effect in standalone mode: there is no other worker to follow the state");
    wanted.then(|| ConfigWarning { name: STANDBY_REPLICAS.to_owned(), message })
}

/// What is odd about a key that no definition has; `None` if it means something all the same.
fn odd(key: &str, config: &Config, known: &BTreeSet<&str>, kind: PluginKind) -> Option<String> {
    // The worker's own keys about where a connector runs.
    if PLACEMENT.contains(&key) || DEAD_LETTERS.contains(&key) {
        return None;
    }
    if key == STANDBY_REPLICAS {
        return Some(format!("{key} has no effect: none of the transforms keeps state"));
    }
    if let Some(client) = ClientKind::ALL.into_iter().find(|client| key.starts_with(client.override_prefix())) {
        return odd_override(key, client, config, kind);
    }
    for converter in ["key.converter", "value.converter", "header.converter"] {
        if key.strip_prefix(converter).is_some_and(|rest| rest.starts_with('.')) && config.get(converter).is_none() {
            return Some(format!(
                "{key} has no effect without {converter}: the worker's converter has the worker's settings"
            ));
        }
    }
    for (list, what) in [("transforms", "transform"), ("predicates", "predicate")] {
        let Some((alias, rest)) = key.strip_prefix(list).and_then(|rest| rest.strip_prefix('.')?.split_once('.'))
        else {
            continue;
        };
        let named = aliases(config.get(list).unwrap_or_default());
        if !named.iter().any(|known| known == alias) {
            let near = nearest(alias, named.iter().map(String::as_str));
            let near = near.map(|near| format!("; did you mean {list}.{near}.{rest}?")).unwrap_or_default();
            return Some(format!("{key} has no effect: {list} names no {what} {alias}{near}"));
        }
        // Of a class that is not known the keys are not known either.
        if config.get(&format!("{list}.{alias}.type")).is_none_or(|_| !has_keys(known, &format!("{list}.{alias}."))) {
            return None;
        }
    }
    if let Some(rest) = key.strip_prefix("topic.creation.")
        && kind == PluginKind::Source
    {
        return odd_creation(key, rest, config);
    }
    Some(message(key, nearest(key, known.iter().copied().chain(PLACEMENT))))
}

fn has_keys(known: &BTreeSet<&str>, prefix: &str) -> bool {
    known.iter().any(|key| key.strip_prefix(prefix).is_some_and(|rest| rest != "type" && rest != "plugin.version"))
}

fn odd_override(key: &str, client: ClientKind, config: &Config, kind: PluginKind) -> Option<String> {
    let prefix = client.override_prefix();
    let setting = &key[prefix.len()..];
    let def = client_config_def(client);
    if def.get(setting).is_some() {
        let dead_letters = config.get("errors.deadletterqueue.topic.name").is_some();
        let used = match (client, kind) {
            (ClientKind::Producer, PluginKind::Sink) => dead_letters,
            (ClientKind::Consumer, PluginKind::Source) => config.get("offsets.storage.topic").is_some(),
            _ => true,
        };
        let who = if kind == PluginKind::Sink { "sink" } else { "source" };
        return (!used).then(|| format!("{key} has no effect: this {who} has no such client"));
    }
    // Others may be librdkafka's own.
    let near = nearest(setting, def.keys.iter().map(|key| key.name.as_str()))?;
    Some(message(key, Some(&format!("{prefix}{near}"))))
}

fn odd_creation(key: &str, rest: &str, config: &Config) -> Option<String> {
    let groups = aliases(config.get("topic.creation.groups").unwrap_or_default());
    let known = || groups.iter().map(String::as_str).chain(["default"]);
    // A group's name may have dots.
    if let Some(own) = known().find_map(|group| rest.strip_prefix(group)?.strip_prefix('.')) {
        let near = nearest(own, GROUP_KEYS).filter(|near| *near != own)?;
        let group = &rest[..rest.len() - own.len()];
        return Some(format!("{key} is taken for a setting of topics; did you mean topic.creation.{group}{near}?"));
    }
    let (group, own) = rest.split_once('.').unwrap_or((rest, ""));
    let near = nearest(group, known());
    let near = near.map(|near| format!("; did you mean topic.creation.{near}.{own}?")).unwrap_or_default();
    Some(format!("{key} has no effect: topic.creation.groups names no group {group}{near}"))
}

fn message(key: &str, near: Option<&str>) -> String {
    let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    format!("{key} is not known and has no effect{near}")
}
