//! Validation of a whole config: what REST answers to PUT `…/config/validate`.

use serde::{Deserialize, Serialize};

use super::{ConfigDef, ConfigKey};
use crate::config::Config;

/// A key's value and what is wrong with it: Connect's `ConfigValueInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigValue {
    /// The key.
    pub name: String,
    /// The value or default, as text of the key's type; null when there is none or it does not parse. Passwords are
    /// `[hidden]`.
    pub value: Option<String>,
    /// Values that a user interface proposes.
    pub recommended_values: Vec<String>,
    /// What is wrong, in Kafka's words.
    pub errors: Vec<String>,
    /// Whether a user interface shows the key.
    pub visible: bool,
}

impl ConfigDef {
    /// Checks a config: one answer for each defined key, in the order of their definition. Keys that are not defined are
    /// not looked at.
    pub fn validate(&self, config: &Config) -> Vec<ConfigValue> {
        let mut values: Vec<ConfigValue> = self.keys.iter().map(|key| key.check(config, &key.name)).collect();
        for dependent in self.keys.iter().flat_map(|key| &key.dependents) {
            if !values.iter().any(|value| value.name == *dependent) {
                values.push(ConfigValue {
                    name: dependent.clone(),
                    value: None,
                    recommended_values: Vec::new(),
                    errors: vec![format!("{dependent} is referred in the dependents, but not defined.")],
                    visible: false,
                });
            }
        }
        values
    }
}

impl ConfigKey {
    /// Checks one key. `short` is what messages of its validator call it: Kafka takes the prefix of embedded keys away there.
    pub fn check(&self, config: &Config, short: &str) -> ConfigValue {
        let (value, errors) = self.evaluate_as(config, short);
        ConfigValue {
            name: self.name.clone(),
            value: value.shown(),
            recommended_values: self.recommended.clone(),
            errors,
            visible: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn key(name: &str, kind: Type) -> ConfigKey {
        ConfigKey::nullable(name, kind, Importance::Low, "")
    }

    fn errors(key: ConfigKey, value: &str) -> Vec<String> {
        let config = Config::from_iter([(key.name.clone(), value)]);
        ConfigDef::new().define(key).validate(&config).remove(0).errors
    }

    fn value(kind: Type, text: &str) -> Option<String> {
        let def = ConfigDef::new().define(key("k", kind));
        let found = def.validate(&Config::from_iter([("k", text)])).remove(0);
        assert!(found.errors.is_empty(), "{:?}", found.errors);
        found.value
    }

    #[test]
    fn speaks_kafkas_words() {
        let int = || key("y", Type::Int);
        assert_eq!(errors(int(), "abc"), ["Invalid value abc for configuration y: Not a number of type INT"]);
        assert_eq!(errors(int(), "2147483648").len(), 1);
        assert_eq!(
            errors(int().validator(Validator::at_least(1)), "0"),
            ["Invalid value 0 for configuration y: Value must be at least 1"]
        );
        assert_eq!(
            errors(int().validator(Validator::between(1, 5)), "9"),
            ["Invalid value 9 for configuration y: Value must be no more than 5"]
        );
        assert_eq!(
            errors(int().validator(Validator::at_least(1)), "x"),
            [
                "Invalid value x for configuration y: Not a number of type INT",
                "Invalid value null for configuration y: Value must be non-null"
            ]
        );
        assert_eq!(
            errors(key("b", Type::Boolean), "yes"),
            ["Invalid value yes for configuration b: Expected value to be either true or false"]
        );
        assert_eq!(
            errors(key("m", Type::String).validator(Validator::one_of(&["a", "b"])), "c"),
            ["Invalid value c for configuration m: String must be one of: a, b"]
        );
        assert_eq!(
            errors(key("m", Type::String).validator(Validator::OneOfIgnoreCase(vec!["a".into()])), "c"),
            ["Invalid value c for configuration m: String must be one of (case insensitive): A"]
        );
        assert_eq!(
            errors(key("m", Type::String).validator(Validator::NonEmpty), " "),
            ["Invalid value  for configuration m: String must be non-empty"]
        );
        // What may be left out need not be one of them.
        let left_out = ConfigKey::nullable("n", Type::String, Importance::Low, "").validator(Validator::one_of(&["a"]));
        let answers = ConfigDef::new().define(left_out.clone()).validate(&Config::default());
        assert_eq!(answers[0].errors, Vec::<String>::new());
        assert_eq!(errors(left_out, "b").len(), 1);
        let regex = errors(key("m", Type::String).validator(Validator::Regex), "a(");
        assert_eq!(regex, ["Invalid value a( for configuration m: Invalid regex: unclosed group"]);
        assert_eq!(
            errors(key("l", Type::List).validator(Validator::one_of(&["a", "b"])), "a, b, a"),
            ["Configuration 'l' values must not be duplicated."]
        );

        let required = ConfigDef::new().define(ConfigKey::required("x", Type::String, Importance::High, ""));
        let missing = "Missing required configuration \"x\" which has no default value.";
        assert_eq!(required.validate(&Config::default())[0].errors, [missing]);
        assert_eq!(required.parse(&Config::default()).unwrap_err().to_string(), missing);

        let dangling = ConfigDef::new().define(key("x", Type::String).dependents(&["z"]));
        let answer = dangling.validate(&Config::default()).remove(1);
        assert_eq!((answer.name.as_str(), answer.visible), ("z", false));
        assert_eq!(answer.errors, ["z is referred in the dependents, but not defined."]);
    }

    #[test]
    fn shows_values_as_java_does() {
        let shown = |kind, text| value(kind, text).unwrap();
        assert_eq!(shown(Type::Double, "1"), "1.0");
        assert_eq!(shown(Type::Double, "0.25"), "0.25");
        assert_eq!(shown(Type::Double, "1e10"), "1.0E10");
        assert_eq!(shown(Type::Double, "12345678"), "1.2345678E7");
        assert_eq!(shown(Type::Double, "0.0001"), "1.0E-4");
        assert_eq!(shown(Type::Double, "-Infinity"), "-Infinity");
        assert_eq!(shown(Type::Long, " +7 "), "7");
        assert_eq!(shown(Type::Boolean, "TRUE"), "true");
        assert_eq!(shown(Type::List, "a , b,,c"), "a,b,,c");
        assert_eq!(shown(Type::List, " "), "");
        assert_eq!(shown(Type::Password, "secret"), "[hidden]");
        assert!(!errors(key("d", Type::Double), "inf").is_empty());
    }

    #[test]
    fn parses_into_rust_types() {
        let def = ConfigDef::new()
            .define(ConfigKey::optional("size", Type::Int, "2000", Importance::Low, ""))
            .define(ConfigKey::optional("linger.ms", Type::Long, "5", Importance::Low, ""))
            .define(key("file", Type::String))
            .define(key("secret", Type::Password));
        let parsed = def.parse(&Config::from_iter([("size", "-1"), ("secret", "s3cret"), ("other", "x")])).unwrap();
        assert_eq!(parsed.get::<i64>("size").unwrap(), -1);
        let error = parsed.get::<usize>("size").unwrap_err().to_string();
        assert!(error.starts_with("Invalid value -1 for configuration size"), "{error}");
        assert_eq!(parsed.get::<std::time::Duration>("linger.ms").unwrap().as_millis(), 5);
        assert_eq!(parsed.get::<Option<String>>("file").unwrap(), None);
        assert_eq!(parsed.get::<String>("file").unwrap_err().to_string(), "configuration file is not set");
        assert_eq!(parsed.get::<String>("secret").unwrap(), "s3cret");
        assert!(!format!("{parsed:?}").contains("s3cret"));
    }
}
