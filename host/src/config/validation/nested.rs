//! Transforms and predicates in a connector's config: their classes, and the keys of these under their prefix.

use tributary_sdk::Config;
use tributary_sdk::config_def::{ConfigDef, ConfigKey, DefaultValue, Importance, Type, Width};

use super::checked::Checked;
use super::classes::{Unusable, class_names, find, find_version, interface, version_names};
use super::custom;
use super::infos::ConfigValueInfo;
use crate::herder::{PluginCatalog, PluginKind};
use crate::transform::cuts::{self, Facts};
use crate::transform::registry;

/// `transforms.<alias>.*` and `predicates.<alias>.*`.
/// `of` is what the connector is; `exactly_once`: whether the worker's sources deliver so.
pub(super) fn transforms_and_predicates(
    checked: &mut Checked<'_>,
    plugins: &dyn PluginCatalog,
    of: PluginKind,
    exactly_once: bool,
) {
    for (list, kind, heading) in
        [("transforms", PluginKind::Transformation, "Transforms"), ("predicates", PluginKind::Predicate, "Predicates")]
    {
        for alias in aliases(checked.config.get(list).unwrap_or_default()) {
            let group = format!("{heading}: {alias}");
            Alias { plugins, list, kind, alias: &alias, group, of, exactly_once }.check(checked);
        }
    }
    // In sources there are none.
    if of == PluginKind::Sink {
        check_cuts(checked);
    }
}

/// Cuts of the chain that do not go together. Transforms that cannot be built have been told.
fn check_cuts(checked: &mut Checked<'_>) {
    let fact = |alias: &String| {
        let prefix = format!("transforms.{alias}.");
        let class = checked.config.get(&format!("{prefix}type"))?.trim();
        let stateful = registry::stateful(class, alias, &own_keys(checked, &prefix))?.ok()?;
        Some(Facts::of(alias, checked.config.get(&format!("{prefix}repartition")), &*stateful.1))
    };
    let facts: Vec<_> = aliases(checked.config.get("transforms").unwrap_or_default()).iter().filter_map(fact).collect();
    if let Err((alias, message)) = cuts::check(&facts) {
        checked.error(&format!("transforms.{alias}.repartition"), message);
    }
}

/// As Kafka splits a list: an item may be empty. Each item once.
pub(super) fn aliases(text: &str) -> Vec<String> {
    let mut aliases: Vec<String> = Vec::new();
    if !text.trim().is_empty() {
        for alias in text.trim().split(',').map(str::trim) {
            if !aliases.iter().any(|known| known == alias) {
                aliases.push(alias.to_owned());
            }
        }
    }
    aliases
}

struct Alias<'a> {
    plugins: &'a dyn PluginCatalog,
    list: &'a str,
    kind: PluginKind,
    alias: &'a str,
    group: String,
    of: PluginKind,
    exactly_once: bool,
}

impl Alias<'_> {
    fn check(&self, checked: &mut Checked<'_>) {
        let Self { plugins, list, kind, alias, group, .. } = self;
        let prefix = format!("{list}.{alias}.");
        let (type_key, version_key) = (format!("{prefix}type"), format!("{prefix}plugin.version"));
        let interface = interface(*kind);
        let word = interface.to_lowercase();

        let class = checked.config.get(&type_key);
        let found = class.map(|class| find(*plugins, *kind, &type_key, class));
        let (shown, mut errors) = match (&found, class) {
            (Some(Ok(plugin)), _) => (Some(plugin.class.clone()), Vec::new()),
            (Some(Err(Unusable::Unknown(error))), _) => (None, vec![error.clone()]),
            (Some(Err(Unusable::Unfit(error))), class) => {
                (class.map(|class| class.trim().to_owned()), vec![error.clone()])
            }
            (None, _) => {
                let missing = format!("Missing required configuration \"{type_key}\" which has no default value.");
                (None, vec![missing])
            }
        };
        if let Some(error) = self.negate_alone(checked, &prefix) {
            // Connect looks no further at a class that it could load.
            if shown.is_some() {
                errors.clear();
            }
            errors.push(error);
        }

        let mut key =
            ConfigKey::required(&type_key, Type::Class, Importance::High, &format!("Class of the {word} '{alias}'."));
        key = key.ui(group, 0, Width::Long, &format!("{interface} type for {alias}"));
        let mut type_value = ConfigValueInfo {
            name: type_key.clone(),
            value: shown.clone(),
            recommended_values: class_names(*plugins, *kind),
            errors,
            visible: true,
        };

        let newest = shown.as_deref().and_then(|class| version_names(*plugins, *kind, class).pop());
        let mut version = ConfigKey::nullable(
            &version_key,
            Type::String,
            Importance::High,
            &format!("Version of the {word} '{alias}'; the newest if it is not set."),
        );
        version = version.ui(group, 1, Width::Long, &format!("{interface} version for {alias}"));
        version.recommended = shown.as_deref().map(|class| version_names(*plugins, *kind, class)).unwrap_or_default();
        if let Some(newest) = newest {
            version.default = DefaultValue::Value(newest);
        }
        let mut version_value: ConfigValueInfo = version.check(checked.config, &version_key).into();

        let mut usable = None;
        if let Some(Ok(plugin)) = &found {
            match find_version(*plugins, *kind, &plugin.class, checked.config.get(&version_key)) {
                Ok(plugin) => usable = plugin,
                Err(error) => {
                    if type_value.errors.is_empty() {
                        type_value.errors.push(error.clone());
                    }
                    version_value.errors.push(error);
                }
            }
        }
        checked.put(key, type_value);
        checked.put(version, version_value);
        if let Some(plugin) = usable {
            self.add_keys(checked, &prefix, &plugin.class, &plugin.config_def);
            self.unknown_predicate(checked, &prefix);
            self.buildable(checked, &prefix, &plugin.class, &plugin.config_def);
            self.stateful(checked, &prefix, &plugin.class);
        }
    }

    /// What single keys do not tell: expressions that cannot be compiled, keys that need each other. Connect finds this only when the
    /// task starts, and fails it.
    fn buildable(&self, checked: &mut Checked<'_>, prefix: &str, class: &str, def: &ConfigDef) {
        // Missing and ill-typed values have been told.
        if checked.has_errors_below(prefix) {
            return;
        }
        let own = own_keys(checked, prefix);
        let built = match self.kind {
            PluginKind::Predicate => registry::predicate(class, &own).map(|built| built.map(drop)),
            _ => registry::transform(class, &own).map(|built| built.map(drop)),
        };
        if let Some(Err(error)) = built {
            let message = error.to_string();
            // `Invalid value … for configuration <key>: …`
            let named = def.keys.iter().find(|key| message.contains(&format!(" for configuration {}:", key.name)));
            let key = named.map_or_else(|| format!("{prefix}type"), |key| format!("{prefix}{}", key.name));
            checked.error(&key, message);
        }
    }

    /// What single keys of a transform with state do not tell, and where there can be none.
    fn stateful(&self, checked: &mut Checked<'_>, prefix: &str, class: &str) {
        if self.kind != PluginKind::Transformation || !registry::is_stateful(class) {
            return;
        }
        let type_key = format!("{prefix}type");
        // Missing and ill-typed values have been told.
        if !checked.has_errors_below(prefix)
            && let Some(Err(error)) = registry::stateful(class, self.alias, &own_keys(checked, prefix))
        {
            checked.error(&type_key, error.to_string());
        }
        let repartition = format!("{prefix}repartition");
        if self.of == PluginKind::Source
            && checked.config.get(&repartition).is_some_and(|wanted| wanted.trim().eq_ignore_ascii_case("auto"))
        {
            checked.error(
                &repartition,
                "a source's records cannot be brought together by another key before they are written: write them to a topic, and read that \
                 with a KafkaSink that has the transform. Set none",
            );
        }
        if self.of == PluginKind::Source {
            self.stateful_in_source(checked, &type_key, class);
        } else if checked.config.get("topics.regex").is_some() {
            checked.error(
                "topics.regex",
                format!("{class} keeps state for each partition, so it has to be known which there are: name the topics in topics"),
            );
        }
    }

    /// A source's state is committed in the transactions of exactly-once delivery.
    fn stateful_in_source(&self, checked: &mut Checked<'_>, type_key: &str, class: &str) {
        if !self.exactly_once {
            checked.error(
                type_key,
                format!(
                    "{class} keeps state, which has to be committed together with the source's offsets: set \
                     exactly.once.source.support=enabled on the worker, or remove the transform {}",
                    self.alias
                ),
            );
        }
    }

    /// The class's own keys under the prefix, and those that every transform has; Kafka sorts and numbers them anew.
    fn add_keys(&self, checked: &mut Checked<'_>, prefix: &str, class: &str, def: &ConfigDef) {
        let mut all = ConfigDef::default();
        if self.kind == PluginKind::Transformation {
            all = implicit();
        }
        let own = def.keys.iter().filter(|key| all.get(&key.name).is_none()).cloned().collect::<Vec<_>>();
        all.keys.extend(own);
        for (at, key) in all.sorted().into_iter().enumerate() {
            let embedded = ConfigKey {
                name: format!("{prefix}{}", key.name),
                group: Some(
                    key.group.as_ref().map_or_else(|| self.group.clone(), |group| format!("{}: {group}", self.group)),
                ),
                order_in_group: 2 + i32::try_from(at).unwrap_or(0),
                dependents: key.dependents.iter().map(|dependent| format!("{prefix}{dependent}")).collect(),
                ..key.clone()
            };
            let mut value: ConfigValueInfo = embedded.check(checked.config, &key.name).into();
            value.errors.extend(custom::check(class, &key.name, checked.config.get(&embedded.name)));
            checked.put(embedded, value);
        }
    }

    fn negate_alone(&self, checked: &Checked<'_>, prefix: &str) -> Option<String> {
        let (negate, predicate) = (format!("{prefix}negate"), format!("{prefix}predicate"));
        let has = |key: &str| checked.config.get(key).is_some();
        (self.kind == PluginKind::Transformation && has(&negate) && !has(&predicate)).then(|| {
            format!("Config '{negate}' was provided but there is no config '{predicate}' defining a predicate to be negated.")
        })
    }

    /// Connect finds this only when the task starts, and fails it.
    fn unknown_predicate(&self, checked: &mut Checked<'_>, prefix: &str) {
        let key = format!("{prefix}predicate");
        if self.kind != PluginKind::Transformation {
            return;
        }
        if let Some(name) = checked.config.get(&key).map(str::to_owned) {
            let known = aliases(checked.config.get("predicates").unwrap_or_default());
            if !known.iter().any(|known| known == name.trim()) {
                checked.error(
                    &key,
                    format!("Invalid value {name} for configuration {key}: predicates names no such alias"),
                );
            }
        }
    }
}

/// The keys that are the class's own.
fn own_keys(checked: &Checked<'_>, prefix: &str) -> Config {
    let mut own = checked.config.with_prefix(prefix);
    ["type", "plugin.version", "predicate", "negate"].iter().for_each(|key| _ = own.0.remove(*key));
    own
}

/// What every transform has.
fn implicit() -> ConfigDef {
    let predicate = "Alias of the predicate that says which records the transform is for.";
    let negate = "Whether the transform is for the other records.";
    ConfigDef::new()
        .define(ConfigKey::nullable("predicate", Type::String, Importance::Medium, predicate))
        .define(ConfigKey::optional("negate", Type::Boolean, "false", Importance::Medium, negate))
}
