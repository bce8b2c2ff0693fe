//! References in configs, `${provider:path:key}`: secrets stand elsewhere and are fetched where they are needed.
//!
//! Promises: a resolved value never appears in an error or a log line. A reference to a provider that is not configured
//! stays as it is, as in Kafka (it may be text that only looks like one). Fails, naming key and reference, when the file, the
//! variable or the key in it is missing: Kafka passes the reference itself on as the password then, which nobody wants.

mod sources;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use regex::Regex;
use tributary_sdk::Config;

use self::sources::Source;
use super::ConfigError;

/// `${provider:path:key}` or `${provider:key}`.
static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$\{([^}:]*):(?:([^}]*):)?([^}]*)\}").expect("a fixed expression"));

/// The config providers of a worker: `config.providers` and what belongs to it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Providers(Arc<HashMap<String, Source>>);

impl Providers {
    /// The providers that a worker's properties configure.
    pub fn new(properties: &Config) -> Result<Self, ConfigError> {
        let mut providers = HashMap::new();
        let mut errors = Vec::new();
        for name in properties.list("config.providers") {
            let class_key = format!("config.providers.{name}.class");
            let params = properties.with_prefix(&format!("config.providers.{name}.param."));
            let source = match properties.get(&class_key) {
                None => Err(format!("config.providers names {name}, but {class_key} is not set")),
                Some(class) => Source::new(class.trim(), &params).map_err(|error| format!("{class_key}: {error}")),
            };
            match source {
                Ok(source) => drop(providers.insert(name.to_owned(), source)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self(Arc::new(providers))) } else { Err(ConfigError::Invalid(errors)) }
    }

    /// The config with its secrets. Must not be stored, logged or shown. Reads files: not on an async thread.
    pub fn resolve(&self, config: &Config) -> Result<Config, ConfigError> {
        if self.0.is_empty() {
            return Ok(config.clone());
        }
        let mut read = BTreeMap::new();
        let mut resolved = Config::default();
        for (key, value) in &config.0 {
            resolved.set(key.clone(), self.text(key, value, &mut read)?);
        }
        Ok(resolved)
    }

    /// One value with its references replaced; `key` names it in errors.
    fn text(
        &self,
        key: &str,
        value: &str,
        read: &mut BTreeMap<(String, String), sources::Values>,
    ) -> Result<String, ConfigError> {
        let mut text = String::new();
        let mut end = 0;
        for found in REFERENCE.captures_iter(value) {
            let whole = found.get(0).expect("group 0 is the match");
            let part = |group| found.get(group).map_or("", |part| part.as_str());
            let Some(source) = self.0.get(part(1)) else { continue };
            let unresolved = |reason: String| {
                ConfigError::Unresolved(format!(
                    "the reference {} in configuration {key} leads nowhere: {reason}",
                    whole.as_str()
                ))
            };
            let place = (part(1).to_owned(), part(2).to_owned());
            let values = match read.entry(place) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(source.read(part(2)).map_err(unresolved)?)
                }
            };
            text.push_str(&value[end..whole.start()]);
            text.push_str(&values.get(part(3)).map_err(unresolved)?);
            end = whole.end();
        }
        text.push_str(&value[end..]);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(properties: &[(&str, &str)], value: &str) -> Result<String, String> {
        let properties = properties.iter().copied().collect();
        let providers = Providers::new(&properties).map_err(|error| error.to_string())?;
        let config: Config = [("key", value)].into_iter().collect();
        providers
            .resolve(&config)
            .map(|config| config.get("key").unwrap().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn files_directories_and_variables() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        std::fs::write(directory.path().join("s.properties"), "user=u\npass=p\\=w:\n").unwrap();
        std::fs::write(directory.path().join("token"), "abc\n").unwrap();
        let file = [
            ("config.providers", "file"),
            ("config.providers.file.class", "org.apache.kafka.common.config.provider.FileConfigProvider"),
        ];
        let both = format!("jdbc://${{file:{path}/s.properties:user}}:${{file:{path}/s.properties:pass}}@x");
        assert_eq!(resolve(&file, &both), Ok("jdbc://u:p=w:@x".to_owned()));
        for (value, part) in [
            (format!("${{file:{path}/s.properties:none}}"), "no key none"),
            (format!("${{file:{path}/absent:x}}"), "cannot read"),
        ] {
            let error = resolve(&file, &value).unwrap_err();
            assert!(error.contains(&value) && error.contains(part) && !error.contains("p=w"), "{error}");
        }
        let dir = [("config.providers", "d"), ("config.providers.d.class", "DirectoryConfigProvider")];
        assert_eq!(resolve(&dir, &format!("${{d:{path}:token}}")), Ok("abc\n".to_owned()));
        assert!(resolve(&dir, &format!("${{d:{path}:../token}}")).unwrap_err().contains("../token"));
        let env = [("config.providers", "env"), ("config.providers.env.class", "EnvVarConfigProvider")];
        let home = std::env::var("PATH").unwrap();
        assert_eq!(resolve(&env, "${env:PATH}"), Ok(home.clone()));
        assert_eq!(resolve(&env, "${env::PATH}"), Ok(home));
        assert!(resolve(&env, "${env:TRIBUTARY_NOT_SET}").is_err());
    }

    #[test]
    fn what_is_no_reference_stays() {
        let env = [("config.providers", "env"), ("config.providers.env.class", "EnvVarConfigProvider")];
        for text in ["${topic}-${timestamp}", "${other:x}", "$", "${env", "a${}b"] {
            assert_eq!(resolve(&env, text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn paths_and_names_can_be_limited() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(inside.path().join("f"), "k=in\n").unwrap();
        std::fs::write(outside.path().join("f"), "k=out\n").unwrap();
        std::os::unix::fs::symlink(outside.path().join("f"), inside.path().join("link")).unwrap();
        let allowed = inside.path().display().to_string();
        let file = [
            ("config.providers", "file"),
            ("config.providers.file.class", "FileConfigProvider"),
            ("config.providers.file.param.allowed.paths", allowed.as_str()),
        ];
        let get = |path: std::path::PathBuf| resolve(&file, &format!("${{file:{}:k}}", path.display()));
        assert_eq!(get(inside.path().join("f")), Ok("in".to_owned()));
        for path in [
            outside.path().join("f"),
            inside.path().join("link"),
            inside.path().join("..").join(outside.path().file_name().unwrap()).join("f"),
        ] {
            assert!(get(path).unwrap_err().contains("allowed.paths"));
        }
        let env = [
            ("config.providers", "env"),
            ("config.providers.env.class", "EnvVarConfigProvider"),
            ("config.providers.env.param.allowlist.pattern", "MY_.*"),
        ];
        assert!(resolve(&env, "${env:PATH}").unwrap_err().contains("allowlist.pattern"));
    }

    #[test]
    fn wrong_providers_are_told() {
        let error =
            resolve(&[("config.providers", "a,b"), ("config.providers.b.class", "com.example.Vault")], "").unwrap_err();
        assert!(error.contains("config.providers.a.class is not set"), "{error}");
        assert!(error.contains("com.example.Vault") && error.contains("EnvVarConfigProvider"), "{error}");
    }
}
