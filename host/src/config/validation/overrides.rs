//! Client settings of a connector, as far as the worker's policy allows them.

use tributary_sdk::config_def::{ConfigKey, hash_order};

use super::checked::Checked;
use super::infos::ConfigValueInfo;
use crate::config::{ClientKind, OverridePolicy, client_config_def};
use crate::herder::PluginKind;

/// The settings of the clients that the connector has: Connect looks at no others.
pub(super) fn overrides(checked: &mut Checked<'_>, kind: PluginKind, policy: &OverridePolicy) {
    let config = checked.config;
    let set = |key: &str| config.get(key).is_some_and(|value| !value.trim().is_empty());
    let dead_letters = set("errors.deadletterqueue.topic.name");
    let own_offsets = kind == PluginKind::Source && set("offsets.storage.topic");
    let creates = config.0.keys().any(|key| key.starts_with("topic.creation."));
    for (client, used) in [
        (ClientKind::Producer, kind == PluginKind::Source || dead_letters),
        (ClientKind::Consumer, kind == PluginKind::Sink || own_offsets),
        (ClientKind::Admin, if kind == PluginKind::Source { creates || own_offsets } else { dead_letters }),
    ] {
        if used {
            settings(checked, client, policy);
        }
    }
}

fn settings(checked: &mut Checked<'_>, client: ClientKind, policy: &OverridePolicy) {
    let prefix = client.override_prefix();
    let own = checked.config.with_prefix(prefix);
    let def = client_config_def(client);
    for name in hash_order(own.0.keys().map(String::as_str)) {
        let text = own.get(name).unwrap_or_default();
        let (key, mut value) = match def.get(name) {
            Some(key) => {
                // Only the type counts: what the client makes of the value is its own affair.
                let prefixed = ConfigKey { name: format!("{prefix}{name}"), validator: None, ..key.clone() };
                let value = ConfigValueInfo::from(prefixed.check(checked.config, &prefixed.name));
                (Some(prefixed), value)
            }
            None => (None, ConfigValueInfo::bare(name, Some(text.to_owned()), Vec::new())),
        };
        value.name = format!("{prefix}{name}");
        value.errors.extend(policy.refusal(name, text));
        checked.append(key, value);
    }
}
