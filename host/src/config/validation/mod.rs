//! Checks connector configs, without side effects: Kafka Connect's answers, error counts and messages, in its order.
//!
//! Values are checked as they are after their references (`${file:…}`) are resolved, and shown as they are written: no
//! answer has a resolved value, nor has a message. A reference that leads nowhere is an error of its key. Where there are no
//! providers to ask, as in the command line without a worker's properties, a value with a reference counts as right.
//!
//! | File | What |
//! |---|---|
//! | `framework` | the keys that every connector has |
//! | `classes`, `converters`, `nested` | classes that a config names, and their keys |
//! | `overrides` | client settings |
//! | `rules`, `custom` | what a definition cannot say |
//! | `warnings` | keys that nobody knows |
//! | `checked`, `infos` | the answer, under way and as it is sent |

mod checked;
mod classes;
mod converters;
mod custom;
mod framework;
mod infos;
mod nested;
mod overrides;
mod rules;
mod warnings;

use std::sync::Arc;

use tributary_sdk::Config;
use tributary_sdk::config_def::{ConfigDef, ConfigKey, DefaultValue};

use self::checked::Checked;
use super::providers::{Preview, Providers};
use super::{OverridePolicy, TopicCreation, WorkerConfig};
use crate::herder::{HerderError, PluginCatalog, PluginClass, PluginKind, TaskRunner, newest_class};
use crate::plugin::VersionRange;

pub use framework::{WorkerDefaults, added_def, framework_def};
pub use infos::{ConfigInfo, ConfigInfos, ConfigKeyInfo, ConfigValueInfo, ConfigWarning};

/// Checks connector configs.
pub struct Validator {
    plugins: Arc<dyn PluginCatalog>,
    worker: WorkerSide,
    checks: Option<Arc<dyn TaskRunner>>,
}

/// What a worker's properties have to do with connectors' configs.
#[derive(Default)]
struct WorkerSide {
    defaults: WorkerDefaults,
    policy: Option<OverridePolicy>,
    providers: Option<Providers>,
    group_id: Option<String>,
    exactly_once: bool,
    ignores_topic_creation: bool,
    alone: bool,
}

impl Validator {
    /// A validator of configs for these plugins, on a worker that sets nothing.
    pub fn new(plugins: Arc<dyn PluginCatalog>) -> Self {
        Self { plugins, worker: WorkerSide::default(), checks: None }
    }

    /// With the defaults, the providers and the override policy of a worker.
    pub fn on_worker(mut self, worker: &WorkerConfig) -> Self {
        self.worker = WorkerSide {
            defaults: WorkerDefaults {
                key_converter: Some(worker.key_converter.clone()),
                value_converter: Some(worker.value_converter.clone()),
                header_converter: Some(worker.header_converter.clone()),
            },
            policy: Some(worker.override_policy.clone()),
            providers: Some(worker.providers.clone()),
            group_id: worker.group_id.clone(),
            exactly_once: worker.exactly_once_source(),
            ignores_topic_creation: !worker.topic_creation,
            alone: self.worker.alone,
        };
        self
    }

    /// There are no other workers.
    pub fn standalone(mut self) -> Self {
        self.worker.alone = true;
        self
    }

    /// With the connectors' own checks, which `runner` makes.
    pub fn with_checks(mut self, runner: Arc<dyn TaskRunner>) -> Self {
        self.checks = Some(runner);
        self
    }

    /// Every key of the config with its value and errors. `Err` if there is no such class. Waits for the connector's own
    /// checks if there are any, within their deadline. Reads files of config providers: not on an async thread.
    pub fn validate(&self, config: &Config) -> Result<ConfigInfos, HerderError> {
        self.validate_with_nulls(config, &[])
    }

    /// The same for a config in which some keys are null.
    pub fn validate_with_nulls(&self, written: &Config, nulls: &[String]) -> Result<ConfigInfos, HerderError> {
        let preview = Preview::of(self.worker.providers.as_ref(), written);
        let config = &preview.config;
        let class = config.get("connector.class").map(str::trim).filter(|class| !class.is_empty());
        let class = class.ok_or_else(|| {
            let name = written.get("name").map(|name| format!("name={name}")).unwrap_or_default();
            HerderError::BadRequest(format!("Connector config {{{name}}} contains no connector type"))
        })?;
        let range = VersionRange::parse(config.get("connector.plugin.version")).map_err(HerderError::BadRequest)?;
        let newest = self.plugins.connector(class).ok_or_else(|| self.unknown(class))?;
        let plugin = classes::find_version(&*self.plugins, newest.kind, class, config.get("connector.plugin.version"));
        let mut checked = Checked::new(config);
        let mut warnings = Vec::new();
        match (plugin, range) {
            (Ok(plugin), _) => {
                let plugin = plugin.unwrap_or(newest);
                self.check(&mut checked, plugin, nulls);
                if preview.is_whole() {
                    self.ask_connector(&mut checked, written)?;
                }
                warnings = warnings::unknown_keys(&checked, plugin.kind);
                warnings.extend(warnings::standbys(config).filter(|_| self.worker.alone));
            }
            (Err(error), _) => self.without_version(&mut checked, newest, &error, nulls),
        }
        for value in checked.values() {
            preview.hide(value);
        }
        Ok(checked.finish(written.get("connector.class").unwrap_or(class).trim(), warnings))
    }

    fn check(&self, checked: &mut Checked<'_>, plugin: &PluginClass, nulls: &[String]) {
        self.add_base(checked, framework_def(plugin.kind), plugin, &self.worker.defaults);
        nested::transforms_and_predicates(checked, &*self.plugins, plugin.kind, self.worker.exactly_once);
        if plugin.kind == PluginKind::Sink {
            rules::topics(checked);
            rules::consumer_group(checked, &self.worker);
        } else {
            rules::transaction_boundary(checked);
            rules::exactly_once(checked, &self.worker);
            self.topic_creation(checked);
        }
        null_values(checked, nulls);
        // A key that the connector defines, too, is the connector's.
        checked.add(&plugin.config_def);
        nulls.iter().filter(|name| plugin.config_def.get(name).is_some()).for_each(|name| checked.nullify(name));
        overrides::overrides(checked, plugin.kind, self.worker.policy.as_ref().unwrap_or(&OverridePolicy::All));
        converters::keys(checked, &*self.plugins);
        let fine = |key: &ConfigKey| plugin.config_def.get(&key.name).is_none();
        let keeps_state = crate::transform::registry::keeps_state(checked.config);
        let scope = (keeps_state && plugin.kind == PluginKind::Source).then(framework::state_scope);
        let standbys = keeps_state.then(framework::standby_replicas);
        for key in added_def().keys.into_iter().chain(scope).chain(standbys).filter(fine) {
            let value = key.check(checked.config, &key.name).into();
            checked.append(Some(key), value);
        }
    }

    /// The connector's own checks; they get their secrets where they run.
    fn ask_connector(&self, checked: &mut Checked<'_>, written: &Config) -> Result<(), HerderError> {
        if let Some(runner) = &self.checks {
            for (key, message) in runner.validate_connector(written).map_err(HerderError::Internal)? {
                checked.error(&key, message);
            }
        }
        Ok(())
    }

    /// Connect's answer where the connector has no version that was asked for: the keys that every connector has.
    fn without_version(&self, checked: &mut Checked<'_>, plugin: &PluginClass, error: &str, nulls: &[String]) {
        // Nor the worker's converters, in Connect's answer.
        self.add_base(checked, framework::base_def(), plugin, &WorkerDefaults::default());
        checked.error("connector.class", error);
        checked.error("connector.plugin.version", error);
        null_values(checked, nulls);
    }

    fn add_base(&self, checked: &mut Checked<'_>, def: ConfigDef, plugin: &PluginClass, defaults: &WorkerDefaults) {
        let versions = classes::version_names(&*self.plugins, plugin.kind, &plugin.class);
        let newest = versions.last().cloned().unwrap_or_else(|| plugin.version.clone());
        let mut def = versioned(def, &newest);
        for key in def.keys.iter_mut().filter(|key| key.name == VERSION) {
            key.recommended = versions.clone();
        }
        checked.add(&def);
        converters::classes(checked, &*self.plugins, defaults);
    }

    fn topic_creation(&self, checked: &mut Checked<'_>) {
        if self.worker.ignores_topic_creation {
            return;
        }
        for (key, message) in TopicCreation::new(checked.config).err().unwrap_or_default() {
            checked.error(&key, message);
        }
    }

    /// The keys of a class of any kind, in a version of these (`latest`: the newest): its own, then those that every connector has.
    pub fn keys(&self, class: &str, version: &str) -> Result<Vec<ConfigKeyInfo>, HerderError> {
        let range = VersionRange::parse(Some(version))
            .map_err(|_| HerderError::BadRequest(format!("Invalid version specification: {version}")))?;
        let named = self.plugins.classes().iter().filter(|plugin| plugin.answers_to(class));
        let newest = newest_class(named.clone());
        let newest = newest.ok_or_else(|| HerderError::NotFound(format!("Unknown plugin {class}.")))?;
        let plugin = match range {
            None => newest,
            Some(range) => {
                // A name that means classes of several kinds means the one that it means without a version.
                let same: Vec<_> = named.filter(|plugin| plugin.class == newest.class).collect();
                let fits = same.iter().copied().filter(|plugin| range.contains(&plugin.version));
                newest_class(fits).ok_or_else(|| HerderError::BadRequest(classes::no_version(&same, &range)))?
            }
        };
        let own = plugin.config_def.keys.iter().map(ConfigKeyInfo::from);
        if !plugin.is_connector() {
            return Ok(own.collect());
        }
        let framework = versioned(framework_def(plugin.kind), &plugin.version).extend(added_def()).keys;
        let framework = framework.iter().filter(|key| plugin.config_def.get(&key.name).is_none());
        Ok(own.chain(framework.map(ConfigKeyInfo::from)).collect())
    }

    fn unknown(&self, class: &str) -> HerderError {
        let connectors = self.plugins.classes().iter().filter(|plugin: &&PluginClass| plugin.is_connector());
        let names: Vec<&str> = connectors.map(|plugin| plugin.class.as_str()).collect();
        HerderError::BadRequest(format!(
            "Failed to find any class that implements Connector and which name matches {class}, available connectors are: {}",
            names.join(", ")
        ))
    }
}

const VERSION: &str = "connector.plugin.version";

/// The definition with the class's own version as the default one.
fn versioned(mut def: ConfigDef, version: &str) -> ConfigDef {
    for key in def.keys.iter_mut().filter(|key| key.name == VERSION) {
        key.default = DefaultValue::Value(version.to_owned());
    }
    def
}

/// A key that is null has neither the value nor the default; Connect adds an error of its own.
fn null_values(checked: &mut Checked<'_>, nulls: &[String]) {
    for name in nulls {
        checked.nullify(name);
        checked.error(name, "Null value can not be supplied as the configuration value.");
    }
}
