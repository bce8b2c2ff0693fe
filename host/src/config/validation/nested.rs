//! Transforms, predicates and converters in a connector's config: their classes, and the keys of these under their prefix.

use tributary_sdk::config_def::{ConfigDef, ConfigKey, Importance, Type, Width};

use super::Checked;
use crate::herder::{PluginCatalog, PluginClass, PluginKind};

/// `transforms.<alias>.*` and `predicates.<alias>.*`.
pub(super) fn transforms_and_predicates(checked: &mut Checked<'_>, plugins: &dyn PluginCatalog) {
    for (list, kind, what, group) in [
        ("transforms", PluginKind::Transformation, "Transformation", "Transforms"),
        ("predicates", PluginKind::Predicate, "Predicate", "Predicates"),
    ] {
        let mut aliases = checked.config.list(list);
        aliases.dedup();
        for alias in aliases {
            let (prefix, group) = (format!("{list}.{alias}."), format!("{group}: {alias}"));
            let type_key = format!("{prefix}type");
            let documentation = format!("Class of the {} '{alias}'.", what.to_lowercase());
            let label = format!("{what} type for {alias}");
            let key = ConfigKey::required(&type_key, Type::Class, Importance::High, &documentation);
            checked.add(ConfigDef::new().define(key.ui(&group, 0, Width::Long, &label)));
            if kind == PluginKind::Transformation {
                checked.add(implicit(&prefix, &group));
                let (negate, predicate) = (format!("{prefix}negate"), format!("{prefix}predicate"));
                match (checked.config.get(&negate), checked.config.get(&predicate)) {
                    (Some(_), None) => checked.error(
                        &type_key,
                        format!("Config '{negate}' was provided but there is no config '{predicate}' defining a predicate to be negated."),
                    ),
                    (_, Some(name)) if !checked.config.list("predicates").contains(&name.trim()) => {
                        checked.error(&predicate, format!("Invalid value {name} for configuration {predicate}: predicates names no such alias"));
                    }
                    _ => {}
                }
            }
            let Some(class) = checked.config.get(&type_key) else { continue };
            match find(plugins, class, kind) {
                Some(plugin) => checked.add(prefixed(&plugin.config_def, &prefix, Some(&group))),
                None => checked.error(&type_key, unknown(class, &type_key)),
            }
        }
    }
}

/// Converters that the config names itself; those of the worker were checked at its start.
pub(super) fn converters(checked: &mut Checked<'_>, plugins: &dyn PluginCatalog) {
    for (key, kind) in [
        ("header.converter", PluginKind::HeaderConverter),
        ("key.converter", PluginKind::Converter),
        ("value.converter", PluginKind::Converter),
    ] {
        let Some(class) = checked.config.get(key) else { continue };
        match find(plugins, class, kind) {
            None => checked.error(key, unknown(class, key)),
            Some(plugin) => {
                let mut def = prefixed(&plugin.config_def, &format!("{key}."), None);
                // The worker sets it.
                def.keys.retain(|nested| nested.name != format!("{key}.converter.type"));
                checked.add(def);
            }
        }
    }
}

fn find<'a>(plugins: &'a dyn PluginCatalog, class: &str, kind: PluginKind) -> Option<&'a PluginClass> {
    plugins.classes().iter().find(|plugin| plugin.kind == kind && plugin.answers_to(class.trim()))
}

/// Kafka's words for a class that is not there.
fn unknown(class: &str, key: &str) -> String {
    format!("Invalid value {class} for configuration {key}: Class {class} could not be found.")
}

/// What every transform has.
fn implicit(prefix: &str, group: &str) -> ConfigDef {
    let key = |name: &str| format!("{prefix}{name}");
    ConfigDef::new()
        .define(
            ConfigKey::nullable(
                &key("predicate"),
                Type::String,
                Importance::Medium,
                "Alias of the predicate that says which records the transform is for.",
            )
            .ui(group, 1, Width::None, &key("predicate")),
        )
        .define(
            ConfigKey::optional(
                &key("negate"),
                Type::Boolean,
                "false",
                Importance::Medium,
                "Whether the transform is for the other records.",
            )
            .ui(group, 2, Width::None, &key("negate")),
        )
}

/// The keys under a prefix, and under a heading if one is given.
fn prefixed(def: &ConfigDef, prefix: &str, group: Option<&str>) -> ConfigDef {
    let mut def = def.clone();
    for key in &mut def.keys {
        if key.display_name == key.name {
            key.display_name = format!("{prefix}{}", key.name);
        }
        key.name = format!("{prefix}{}", key.name);
        key.dependents.iter_mut().for_each(|dependent| dependent.insert_str(0, prefix));
        if let Some(group) = group {
            key.group = Some(group.to_owned());
        }
    }
    def
}
