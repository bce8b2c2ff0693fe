//! Checks connector configs, without side effects: Kafka Connect's answers, error counts and messages.

mod infos;

use std::sync::Arc;

use tributary_sdk::Config;
use tributary_sdk::config_def::DefaultValue;

use crate::herder::{HerderError, PluginCatalog, PluginClass};

pub use infos::{ConfigInfo, ConfigInfos, ConfigKeyInfo, ConfigValueInfo};

/// Checks connector configs.
pub struct Validator {
    plugins: Arc<dyn PluginCatalog>,
}

impl Validator {
    /// A validator of configs for these plugins.
    pub fn new(plugins: Arc<dyn PluginCatalog>) -> Self {
        Self { plugins }
    }

    /// Every key of the config's class with its value and errors. `Err` if there is no such class.
    pub fn validate(&self, config: &Config) -> Result<ConfigInfos, HerderError> {
        let class = config.get("connector.class").map(str::trim).filter(|class| !class.is_empty());
        let class = class.ok_or_else(|| {
            let name = config.get("name").map(|name| format!("name={name}")).unwrap_or_default();
            HerderError::BadRequest(format!("Connector config {{{name}}} contains no connector type"))
        })?;
        let plugin = self.plugins.connector(class).ok_or_else(|| self.unknown(class))?;
        let configs = plugin.config_def.keys.iter().map(|key| {
            let value = config.get(&key.name);
            let missing = value.is_none() && key.default == DefaultValue::Required;
            let errors = missing
                .then(|| format!("Missing required configuration \"{}\" which has no default value.", key.name))
                .into_iter()
                .collect();
            ConfigInfo {
                definition: Some(key.into()),
                value: ConfigValueInfo {
                    name: key.name.clone(),
                    value: value.map(str::to_owned),
                    recommended_values: key.recommended.clone(),
                    errors,
                    visible: true,
                },
            }
        });
        let configs: Vec<ConfigInfo> = configs.collect();
        Ok(ConfigInfos {
            name: class.to_owned(),
            error_count: configs.iter().map(|config| config.value.errors.len()).sum(),
            groups: Vec::new(),
            configs,
        })
    }

    /// The keys of a class of any kind.
    pub fn keys(&self, class: &str) -> Result<Vec<ConfigKeyInfo>, HerderError> {
        let plugin = self.plugins.classes().iter().find(|plugin| plugin.answers_to(class));
        let plugin = plugin.ok_or_else(|| HerderError::NotFound(format!("Unknown plugin {class}.")))?;
        Ok(plugin.config_def.keys.iter().map(ConfigKeyInfo::from).collect())
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
