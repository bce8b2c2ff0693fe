//! A config under way to its answer.

use tributary_sdk::Config;
use tributary_sdk::config_def::{ConfigDef, ConfigKey, ConfigValue, DefaultValue, hash_order};

use super::infos::{ConfigInfo, ConfigInfos, ConfigKeyInfo, ConfigValueInfo, ConfigWarning};

/// Keys with their values, in the order of Connect's answer.
pub(super) struct Checked<'a> {
    /// The config, references resolved where they could be.
    pub config: &'a Config,
    /// Keys that nobody defines and that have something wrong with them: they come first.
    undefined: Vec<ConfigValueInfo>,
    /// The connector's own keys and those that every connector has.
    defined: Vec<(ConfigKey, ConfigValueInfo)>,
    /// Keys of clients and converters. Connect counts such a key once, however many errors it has.
    appended: Vec<(Option<ConfigKey>, ConfigValueInfo)>,
    /// Headings of the keys so far.
    groups: Vec<String>,
}

impl<'a> Checked<'a> {
    pub fn new(config: &'a Config) -> Self {
        Self { config, undefined: Vec::new(), defined: Vec::new(), appended: Vec::new(), groups: Vec::new() }
    }

    /// Checks the keys of a definition; one that is there already is replaced and keeps its place.
    pub fn add(&mut self, def: &ConfigDef) {
        for value in def.validate(self.config) {
            match def.get(&value.name) {
                Some(key) => self.put(key.clone(), value.into()),
                None => self.undefined.push(value.into()),
            }
        }
    }

    /// Adds a key with its value; one that is there already is replaced and keeps its place.
    pub fn put(&mut self, key: ConfigKey, value: ConfigValueInfo) {
        self.group(key.group.as_deref());
        self.undefined.retain(|undefined| undefined.name != value.name);
        match self.defined.iter_mut().find(|(_, present)| present.name == value.name) {
            Some(entry) => *entry = (key, value),
            None => self.defined.push((key, value)),
        }
    }

    /// Adds a key after all those of the connector.
    pub fn append(&mut self, key: Option<ConfigKey>, value: ConfigValueInfo) {
        self.group(key.as_ref().and_then(|key| key.group.as_deref()));
        self.appended.push((key, value));
    }

    fn group(&mut self, group: Option<&str>) {
        if let Some(group) = group
            && !self.groups.iter().any(|known| known == group)
        {
            self.groups.push(group.to_owned());
        }
    }

    /// A key's value, where it is among the connector's.
    pub fn value(&mut self, name: &str) -> Option<&mut ConfigValueInfo> {
        self.defined.iter_mut().map(|(_, value)| value).find(|value| value.name == name)
    }

    /// Checks a defined key once more, as one that is null.
    pub fn nullify(&mut self, name: &str) {
        if let Some((key, value)) = self.defined.iter_mut().find(|(key, _)| key.name == name) {
            let null = ConfigKey { default: DefaultValue::Null, ..key.clone() };
            let checked = null.check(self.config, name);
            (value.value, value.errors) = (checked.value, checked.errors);
        }
    }

    /// Whether a key has no errors so far.
    pub fn is_fine(&mut self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value.errors.is_empty())
    }

    /// Whether a key with this prefix has errors.
    pub fn has_errors_below(&mut self, prefix: &str) -> bool {
        self.values().any(|value| value.name.starts_with(prefix) && !value.errors.is_empty())
    }

    /// Adds an error to a key, which is shown for it if it was not before.
    pub fn error(&mut self, key: &str, message: impl Into<String>) {
        let message = message.into();
        let all = self.defined.iter_mut().map(|(_, value)| value).chain(&mut self.undefined);
        let appended = self.appended.iter_mut().map(|(_, value)| value);
        if let Some(value) = all.chain(appended).find(|value| value.name == key) {
            return value.errors.push(message);
        }
        let value = self.config.get(key).map(str::to_owned);
        self.undefined.push(ConfigValueInfo::bare(key, value, vec![message]));
    }

    /// Shows a key among those that nobody defines.
    pub fn undefined(&mut self, key: &str, errors: Vec<String>) {
        let value = self.config.get(key).map(str::to_owned);
        self.undefined.push(ConfigValueInfo::bare(key, value, errors));
    }

    /// The names of all keys that somebody defines.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        let appended = self.appended.iter().filter_map(|(key, value)| key.as_ref().map(|_| value.name.as_str()));
        self.defined.iter().map(|(key, _)| key.name.as_str()).chain(appended)
    }

    /// Every value, to be looked over once more.
    pub fn values(&mut self) -> impl Iterator<Item = &mut ConfigValueInfo> {
        let defined = self.defined.iter_mut().map(|(_, value)| value);
        defined.chain(&mut self.undefined).chain(self.appended.iter_mut().map(|(_, value)| value))
    }

    /// The answer.
    pub fn finish(self, class: &str, warnings: Vec<ConfigWarning>) -> ConfigInfos {
        let names = self.defined.iter().map(|(_, value)| value).chain(&self.undefined).map(|value| value.name.as_str());
        let order: Vec<String> = hash_order(names).into_iter().map(str::to_owned).collect();
        let mut undefined = self.undefined;
        undefined.sort_by_key(|value| order.iter().position(|name| *name == value.name));
        let messages = |value: &ConfigValueInfo| value.errors.len();
        let own: usize = self.defined.iter().map(|(_, value)| messages(value)).sum();
        let count = undefined.iter().map(messages).sum::<usize>()
            + own
            + self.appended.iter().filter(|(_, value)| !value.errors.is_empty()).count();
        let undefined = undefined.into_iter().map(|value| (None, value));
        let defined = self.defined.into_iter().map(|(key, value)| (Some(key), value));
        let info = |(key, value): (Option<ConfigKey>, ConfigValueInfo)| ConfigInfo {
            definition: key.map(|key| ConfigKeyInfo { name: value.name.clone(), ..ConfigKeyInfo::from(&key) }),
            value,
        };
        ConfigInfos {
            name: class.to_owned(),
            error_count: count,
            groups: self.groups,
            configs: undefined.chain(defined).chain(self.appended).map(info).collect(),
            warnings,
        }
    }
}

impl From<ConfigValue> for ConfigValueInfo {
    fn from(value: ConfigValue) -> Self {
        let ConfigValue { name, value, recommended_values, errors, visible } = value;
        Self { name, value, recommended_values, errors, visible }
    }
}
