//! What the suites share.

use tributary_sdk::config_def::{ConfigDef, DefaultValue, Type};
use tributary_sdk::{Config, Error};

use crate::services::TestServices;

/// Repeatable chance.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % end.max(1) as u64) as usize
    }
}

pub const SECRET: &str = "tributary-suite-s3cret";

/// The config with every password key set to a secret, unless `config` needs its own there.
pub fn with_secrets(def: &ConfigDef, config: &Config) -> (Config, Vec<String>) {
    let mut config = config.clone();
    let mut secrets = vec![SECRET.to_owned()];
    for key in def.keys.iter().filter(|key| key.kind == Type::Password) {
        match config.get(&key.name) {
            Some(own) => secrets.push(own.to_owned()),
            None => config.set(&key.name, SECRET),
        }
    }
    secrets.retain(|secret| !secret.is_empty());
    (config, secrets)
}

/// Variations of a config that are each wrong in one key: what error messages are made of.
pub fn spoiled(def: &ConfigDef, config: &Config) -> Vec<Config> {
    let spoil = |key: &&tributary_sdk::ConfigKey| key.kind != Type::Password;
    def.keys
        .iter()
        .filter(spoil)
        .map(|key| {
            let mut config = config.clone();
            // Neither number nor name, and no path: nothing can be made under it.
            config.set(&key.name, "/no-such-thing\0");
            config
        })
        .collect()
}

pub fn assert_hidden(services: &TestServices, errors: &[Error], secrets: &[String]) {
    for secret in secrets {
        let line =
            services.logs().into_iter().find(|line| line.message.contains(secret) || line.fields.contains(secret));
        assert!(line.is_none(), "a log line shows a secret: {line:?}");
        let error = errors.iter().find(|error| format!("{error} {error:?}").contains(secret.as_str()));
        assert!(error.is_none(), "an error shows a secret: {error:?}");
    }
}

pub fn assert_sound(def: &ConfigDef) {
    for key in &def.keys {
        let name = &key.name;
        assert!(!key.documentation.trim().is_empty(), "configuration {name} has no documentation");
        assert!(key.documentation.trim().ends_with('.'), "the documentation of {name} is no whole sentence");
        assert!(!name.trim().is_empty() && name.trim() == name, "configuration {name:?} has a blank in its name");
        for dependent in &key.dependents {
            assert!(def.get(dependent).is_some(), "{dependent}, which depends on {name}, is not defined");
        }
    }
    // Defaults have to pass their own validation: only the required keys may have something against an empty config.
    for value in def.validate(&Config::default()) {
        let required = def.get(&value.name).is_some_and(|key| key.default == DefaultValue::Required);
        assert!(required || value.errors.is_empty(), "the default of {} is invalid: {:?}", value.name, value.errors);
    }
    let json = serde_json::to_string(def).expect("definitions are JSON");
    assert_eq!(&serde_json::from_str::<ConfigDef>(&json).expect("definitions are read back"), def);
}
