//! Checks connector configs, without side effects: Kafka Connect's answers, error counts and messages.
//!
//! Values are checked as they are written: where one has a reference (`${file:…}`) only its presence is checked, and nothing
//! is resolved, because the answer shows values.

mod framework;
mod infos;
mod nested;
mod rules;

use std::sync::Arc;

use tributary_sdk::Config;
use tributary_sdk::config_def::{ConfigDef, ConfigKey, DefaultValue};

use super::OverridePolicy;
use crate::herder::{HerderError, PluginCatalog, PluginClass, TaskRunner};

pub use framework::{WorkerDefaults, framework_def};
pub use infos::{ConfigInfo, ConfigInfos, ConfigKeyInfo, ConfigValueInfo};

/// Checks connector configs.
pub struct Validator {
    plugins: Arc<dyn PluginCatalog>,
    defaults: WorkerDefaults,
    policy: OverridePolicy,
    checks: Option<Arc<dyn TaskRunner>>,
}

/// A config under way to its answer.
struct Checked<'a> {
    config: &'a Config,
    entries: Vec<(Option<ConfigKey>, ConfigValueInfo)>,
}

impl Validator {
    /// A validator of configs for these plugins, on a worker that sets nothing.
    pub fn new(plugins: Arc<dyn PluginCatalog>) -> Self {
        Self { plugins, defaults: WorkerDefaults::default(), policy: OverridePolicy::All, checks: None }
    }

    /// With the defaults and the override policy of a worker.
    pub fn on_worker(mut self, worker: &super::WorkerConfig) -> Self {
        self.defaults = WorkerDefaults {
            key_converter: Some(worker.key_converter.clone()),
            value_converter: Some(worker.value_converter.clone()),
            header_converter: Some(worker.header_converter.clone()),
        };
        self.policy = worker.override_policy.clone();
        self
    }

    /// With the connectors' own checks, which `runner` makes.
    pub fn with_checks(mut self, runner: Arc<dyn TaskRunner>) -> Self {
        self.checks = Some(runner);
        self
    }

    /// Every key of the config with its value and errors. `Err` if there is no such class. Waits for the connector's own
    /// checks if there are any, within their deadline.
    pub fn validate(&self, config: &Config) -> Result<ConfigInfos, HerderError> {
        let class = config.get("connector.class").map(str::trim).filter(|class| !class.is_empty());
        let class = class.ok_or_else(|| {
            let name = config.get("name").map(|name| format!("name={name}")).unwrap_or_default();
            HerderError::BadRequest(format!("Connector config {{{name}}} contains no connector type"))
        })?;
        let plugin = self.plugins.connector(class).ok_or_else(|| self.unknown(class))?;
        let mut checked = Checked { config, entries: Vec::new() };
        checked.add(versioned(framework_def(plugin.kind, &self.defaults), &plugin.version));
        nested::transforms_and_predicates(&mut checked, &*self.plugins);
        // A key that the connector defines, too, is the connector's.
        checked.add(plugin.config_def.clone());
        rules::name(&mut checked);
        rules::aliases(&mut checked);
        if plugin.kind == crate::herder::PluginKind::Sink {
            rules::topics(&mut checked);
        }
        nested::converters(&mut checked, &*self.plugins);
        rules::overrides(&mut checked, plugin.kind, &self.policy);
        if let Some(runner) = &self.checks {
            for (key, message) in runner.validate_connector(config).map_err(HerderError::Internal)? {
                checked.error(&key, message);
            }
        }
        Ok(checked.finish(class))
    }

    /// The keys of a class of any kind: its own, then those that every connector has.
    pub fn keys(&self, class: &str) -> Result<Vec<ConfigKeyInfo>, HerderError> {
        let plugin = self.plugins.classes().iter().find(|plugin| plugin.answers_to(class));
        let plugin = plugin.ok_or_else(|| HerderError::NotFound(format!("Unknown plugin {class}.")))?;
        let own = plugin.config_def.keys.iter().map(ConfigKeyInfo::from);
        if !plugin.is_connector() {
            return Ok(own.collect());
        }
        let framework = versioned(framework_def(plugin.kind, &WorkerDefaults::default()), &plugin.version).keys;
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

/// The definition with the class's own version as the default one.
fn versioned(mut def: ConfigDef, version: &str) -> ConfigDef {
    for key in def.keys.iter_mut().filter(|key| key.name == "connector.plugin.version") {
        key.default = DefaultValue::Value(version.to_owned());
    }
    def
}

impl Checked<'_> {
    /// Checks the keys of a definition; one that is there already is replaced.
    fn add(&mut self, def: ConfigDef) {
        for value in def.validate(self.config) {
            let info = ConfigValueInfo {
                name: value.name,
                value: value.value,
                recommended_values: value.recommended_values,
                errors: value.errors,
                visible: value.visible,
            };
            self.put(def.get(&info.name).cloned(), info);
        }
    }

    fn put(&mut self, key: Option<ConfigKey>, mut info: ConfigValueInfo) {
        // What a reference leads to is known only where it is used.
        if let Some(text) = self.config.get(&info.name).filter(|text| text.contains("${")) {
            info.value = Some(text.to_owned());
            info.errors.clear();
        }
        match self.entries.iter_mut().find(|(_, present)| present.name == info.name) {
            Some(entry) => *entry = (key, info),
            None => self.entries.push((key, info)),
        }
    }

    /// Adds an error to a key, which is shown for it if it was not before.
    fn error(&mut self, key: &str, message: impl Into<String>) {
        if !self.entries.iter().any(|(_, info)| info.name == key) {
            let value = self.config.get(key).map(str::to_owned);
            let (recommended_values, errors) = (Vec::new(), Vec::new());
            self.put(None, ConfigValueInfo { name: key.to_owned(), value, recommended_values, errors, visible: true });
        }
        if let Some((_, info)) = self.entries.iter_mut().find(|(_, info)| info.name == key) {
            info.errors.push(message.into());
        }
    }

    fn finish(self, class: &str) -> ConfigInfos {
        let mut groups: Vec<String> = Vec::new();
        for group in self.entries.iter().filter_map(|(key, _)| key.as_ref()?.group.clone()) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        ConfigInfos {
            name: class.to_owned(),
            error_count: self.entries.iter().map(|(_, info)| info.errors.len()).sum(),
            groups,
            configs: self
                .entries
                .into_iter()
                .map(|(key, value)| ConfigInfo { definition: key.as_ref().map(ConfigKeyInfo::from), value })
                .collect(),
        }
    }
}
