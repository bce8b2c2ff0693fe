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
use super::secrets::Secrets;
use super::validation::ConfigValueInfo;

/// `${provider:path:key}` or `${provider:key}`: Kafka's own expression. A path ends at its first colon.
static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$\{([^}]*?):(?:([^}]*?):)?([^}]*?)\}").expect("a fixed expression"));

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
        Ok(self.resolve_all(config)?.0)
    }

    /// The same, and what has to be hidden wherever the config is used.
    pub fn resolve_all(&self, config: &Config) -> Result<(Config, Secrets), ConfigError> {
        let mut reading = Reading::of(self);
        let mut resolved = Config::default();
        for (key, value) in &config.0 {
            resolved.set(key.clone(), reading.text(key, value)?);
        }
        Ok((resolved, Secrets::new(reading.found)))
    }
}

/// References of one config being resolved: each place is read once.
struct Reading<'a> {
    providers: &'a Providers,
    read: BTreeMap<(String, String), sources::Values>,
    /// Values with the references that led to them.
    found: Vec<(String, String)>,
}

impl<'a> Reading<'a> {
    fn of(providers: &'a Providers) -> Self {
        Self { providers, read: BTreeMap::new(), found: Vec::new() }
    }

    /// One value with its references replaced; `key` names it in errors.
    fn text(&mut self, key: &str, value: &str) -> Result<String, ConfigError> {
        let mut text = String::new();
        let mut end = 0;
        if self.providers.0.is_empty() {
            return Ok(value.to_owned());
        }
        for found in REFERENCE.captures_iter(value) {
            let whole = found.get(0).expect("group 0 is the match");
            let part = |group| found.get(group).map_or("", |part| part.as_str());
            let Some(source) = self.providers.0.get(part(1)) else { continue };
            let unresolved = |reason: String| {
                ConfigError::Unresolved(format!(
                    "the reference {} in configuration {key} leads nowhere: {reason}",
                    whole.as_str()
                ))
            };
            let place = (part(1).to_owned(), part(2).to_owned());
            let values = match self.read.entry(place) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(source.read(part(2)).map_err(unresolved)?)
                }
            };
            let secret = values.get(part(3)).map_err(unresolved)?;
            text.push_str(&value[end..whole.start()]);
            text.push_str(&secret);
            self.found.push((secret, whole.as_str().to_owned()));
            end = whole.end();
        }
        text.push_str(&value[end..]);
        Ok(text)
    }
}

/// A config as validation sees it: resolved as far as possible, and with what to show instead.
#[derive(Debug)]
pub struct Preview<'a> {
    written: &'a Config,
    /// With resolved values, where they could be had.
    pub config: Config,
    unresolved: BTreeMap<String, String>,
    secrets: Secrets,
    /// Whether there was somebody to ask.
    asked: bool,
}

impl<'a> Preview<'a> {
    /// Without providers nothing is resolved.
    pub fn of(providers: Option<&Providers>, written: &'a Config) -> Self {
        let nobody = Providers::default();
        let mut reading = Reading::of(providers.unwrap_or(&nobody));
        let mut config = written.clone();
        let mut unresolved = BTreeMap::new();
        for (key, value) in &written.0 {
            match reading.text(key, value) {
                Ok(text) => config.set(key.clone(), text),
                Err(error) => _ = unresolved.insert(key.clone(), error.to_string()),
            }
        }
        let secrets = Secrets::new(reading.found);
        Self { written, config, unresolved, secrets, asked: providers.is_some() }
    }

    /// Whether every reference led somewhere.
    pub fn is_whole(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// Shows a checked value as it is written, and no message with what a reference led to.
    pub fn hide(&self, value: &mut ConfigValueInfo) {
        for error in &mut value.errors {
            *error = self.secrets.hide(error).into_owned();
        }
        let Some(written) = self.written.get(&value.name) else { return };
        if let Some(error) = self.unresolved.get(&value.name) {
            value.errors = vec![error.clone()];
        } else if !self.asked && REFERENCE.is_match(written) {
            value.errors.clear();
        } else if self.config.get(&value.name) == Some(written) {
            return;
        }
        value.value = Some(written.to_owned());
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
        assert!(resolve(&env, "${env:a:PATH}").unwrap_err().contains("no path"));
        assert!(resolve(&env, "${env:TRIBUTARY_NOT_SET}").is_err());
    }

    #[test]
    fn what_is_no_reference_stays() {
        let env = [("config.providers", "env"), ("config.providers.env.class", "EnvVarConfigProvider")];
        for text in ["${topic}-${timestamp}", "${other:x}", "$", "${env", "a${}b"] {
            assert_eq!(resolve(&env, text), Ok(text.to_owned()));
        }
    }

    /// As `ConfigTransformer` of Kafka 4.3.1 splits them.
    #[test]
    fn odd_references() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s").display().to_string();
        std::fs::write(&path, "a\\:b=colon\n=empty\nx=${file:y:z}\n").unwrap();
        let file = [("config.providers", "file"), ("config.providers.file.class", "FileConfigProvider")];
        let get = |text: String| resolve(&file, &text);
        assert_eq!(get(format!("${{file:{path}:a:b}}")), Ok("colon".to_owned()), "a key may have a colon, a path none");
        assert_eq!(get(format!("${{file:{path}:}}")), Ok("empty".to_owned()));
        assert_eq!(
            get(format!("<${{file:{path}:x}}>")),
            Ok("<${file:y:z}>".to_owned()),
            "values are not resolved again"
        );
        assert_eq!(
            get(format!("${{${{file:{path}:x}}")),
            Ok(format!("${{${{file:{path}:x}}")),
            "the first brace counts"
        );
        assert_eq!(get(format!("$${{file:{path}:x}}}}")), Ok("$${file:y:z}}".to_owned()));
        assert!(get("${file:x}".to_owned()).unwrap_err().contains("no path"));
        assert!(get("${file::x}".to_owned()).unwrap_err().contains("no path"));
    }

    #[test]
    fn a_preview_shows_what_is_written() {
        let env = [("config.providers", "env"), ("config.providers.env.class", "EnvVarConfigProvider")];
        let providers = Providers::new(&env.into_iter().collect()).unwrap();
        let written: Config =
            [("a", "${env:PATH}"), ("b", "${env:TRIBUTARY_NOT_SET}"), ("c", "x")].into_iter().collect();
        let preview = Preview::of(Some(&providers), &written);
        let path = std::env::var("PATH").unwrap();
        assert_eq!(preview.config.get("a"), Some(path.as_str()));
        assert!(!preview.is_whole());
        let hidden = |name: &str, value: &str| {
            let errors = vec![format!("Invalid value {value}")];
            let mut info = ConfigValueInfo {
                name: name.into(),
                value: Some(value.into()),
                recommended_values: vec![],
                errors,
                visible: true,
            };
            preview.hide(&mut info);
            (info.value.unwrap(), info.errors)
        };
        assert_eq!(hidden("a", &path), ("${env:PATH}".to_owned(), vec!["Invalid value ${env:PATH}".to_owned()]));
        assert!(hidden("b", "y").1[0].contains("leads nowhere"));
        assert_eq!(hidden("c", "x").0, "x");
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
