//! Converters: which class each of the three is, and the keys of those that the config names itself.

use tributary_sdk::config_def::{ConfigKey, DefaultValue, Importance, Type, Width, hash_order};

use super::checked::Checked;
use super::classes::{Unusable, class_names, find, find_version, version_names};
use super::framework::{COMMON, WorkerDefaults};
use super::infos::ConfigValueInfo;
use crate::herder::{PluginCatalog, PluginKind};
use crate::plugin::VersionRange;

/// One of the three.
struct Role {
    key: &'static str,
    kind: PluginKind,
    label: &'static str,
    what: &'static str,
    order: i32,
}

const KEY: Role =
    Role { key: "key.converter", kind: PluginKind::Converter, label: "Key converter", what: "record keys", order: 6 };
const VALUE: Role = Role {
    key: "value.converter",
    kind: PluginKind::Converter,
    label: "Value converter",
    what: "record values",
    order: 8,
};
const HEADER: Role = Role {
    key: "header.converter",
    kind: PluginKind::HeaderConverter,
    label: "Header converter",
    what: "header values",
    order: 10,
};

/// `*.converter` and `*.converter.plugin.version`.
pub(super) fn classes(checked: &mut Checked<'_>, plugins: &dyn PluginCatalog, worker: &WorkerDefaults) {
    for (role, default) in
        [(KEY, &worker.key_converter), (VALUE, &worker.value_converter), (HEADER, &worker.header_converter)]
    {
        role.check(checked, plugins, default.as_deref());
    }
}

/// The definitions alone, where there is no config.
pub(super) fn definitions() -> impl Iterator<Item = ConfigKey> {
    [KEY, VALUE, HEADER].into_iter().flat_map(|role| [role.class_key(), role.version_key()])
}

/// The keys of converters that the config names; those of the worker were checked at its start.
pub(super) fn keys(checked: &mut Checked<'_>, plugins: &dyn PluginCatalog) {
    for role in [HEADER, KEY, VALUE] {
        let version_key = role.version_name();
        let Some(class) = checked.config.get(role.key) else { continue };
        if !checked.is_fine(role.key) || !checked.is_fine(&version_key) {
            continue;
        }
        match find_version(plugins, role.kind, class, checked.config.get(&version_key)) {
            Ok(Some(plugin)) => role.add_keys(checked, plugin),
            Ok(None) => {}
            Err(error) => {
                checked.error(role.key, error.clone());
                checked.error(&version_key, error);
            }
        }
    }
}

impl Role {
    fn version_name(&self) -> String {
        format!("{}.plugin.version", self.key)
    }

    fn class_key(&self) -> ConfigKey {
        let documentation = format!("Converter class for {}; the worker's if it is not set.", self.what);
        let label = format!("{} class", self.label);
        ConfigKey::nullable(self.key, Type::Class, Importance::Low, &documentation).ui(
            COMMON,
            self.order,
            Width::Short,
            &label,
        )
    }

    fn version_key(&self) -> ConfigKey {
        let documentation = format!(
            "Version of the {}, or a range of versions; the newest if it is not set.",
            self.label.to_lowercase()
        );
        let label = format!("{} version", self.label);
        ConfigKey::nullable(&self.version_name(), Type::String, Importance::Low, &documentation).ui(
            COMMON,
            self.order + 1,
            Width::Short,
            &label,
        )
    }

    fn check(&self, checked: &mut Checked<'_>, plugins: &dyn PluginCatalog, worker: Option<&str>) {
        let own = checked.config.get(self.key);
        let (mut key, mut version) = (self.class_key(), self.version_key());
        let full = |class: &str| find(plugins, self.kind, self.key, class).map(|plugin| plugin.class.clone());
        if let Some(worker) = worker {
            key.default = DefaultValue::Value(full(worker).unwrap_or_else(|_| worker.to_owned()));
        }
        let mut value = ConfigValueInfo {
            name: self.key.to_owned(),
            value: None,
            recommended_values: class_names(plugins, self.kind),
            errors: Vec::new(),
            visible: true,
        };
        match own.map(full) {
            None => {
                value.value = if let DefaultValue::Value(class) = &key.default { Some(class.clone()) } else { None }
            }
            Some(Ok(class)) => value.value = Some(class),
            Some(Err(Unusable::Unknown(error))) => value.errors.push(error),
            Some(Err(Unusable::Unfit(error))) => {
                value.value = own.map(|class| class.trim().to_owned());
                value.errors.push(error);
            }
        }
        if let Some(class) = &value.value {
            version.recommended = version_names(plugins, self.kind, class);
            if let Some(newest) = version.recommended.last() {
                version.default = DefaultValue::Value(newest.clone());
            }
        }
        let mut version_value: ConfigValueInfo = version.check(checked.config, &version.name).into();
        version_value.visible = value.value.is_some();
        version_value.errors.extend(VersionRange::parse(checked.config.get(&version.name)).err());
        checked.put(key, value);
        checked.put(version, version_value);
    }

    fn add_keys(&self, checked: &mut Checked<'_>, plugin: &crate::herder::PluginClass) {
        let prefix = format!("{}.", self.key);
        let mut config = checked.config.with_prefix(&prefix);
        if config.get("converter.type").is_none() {
            config.set("converter.type", &self.key[..self.key.len() - ".converter".len()]);
        }
        let def = &plugin.config_def;
        for name in hash_order(def.keys.iter().map(|key| key.name.as_str())) {
            let Some(key) = def.get(name) else { continue };
            let mut value: ConfigValueInfo = key.check(&config, &key.name).into();
            value.name = format!("{prefix}{name}");
            checked.append(Some(key.clone()), value);
        }
    }
}
