//! Connector configs in files, as `tributary standalone` takes them after the worker's properties.
//!
//! Three forms, as in Kafka Connect: a `.properties` file; JSON as `POST /connectors` takes it
//! (`{"name", "config", "initial_state"}`); JSON that is the config alone.

use std::path::Path;

use serde_json::{Map, Value};
use tributary_sdk::Config;

use super::{ConfigError, properties};
use crate::worker::State;

/// A connector as a file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorFile {
    /// Its name.
    pub name: String,
    /// Its config, `name` included.
    pub config: Config,
    /// The state to create it in.
    pub initial_state: Option<State>,
}

impl ConnectorFile {
    /// Reads a file; JSON if it begins like it, properties otherwise.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let malformed = |line, message: String| ConfigError::Malformed { path: path.to_owned(), line, message };
        if text.trim_start().starts_with('{') {
            let object: Map<String, Value> = serde_json::from_str(&text)
                .map_err(|error| malformed(error.line(), format!("malformed JSON: {error}")))?;
            Self::from_json(object).map_err(|message| malformed(1, message))
        } else {
            let pairs = properties::parse(&text).map_err(|error| malformed(error.line, error.message))?;
            Self::new(pairs.into_iter().collect(), None).map_err(|message| malformed(1, message))
        }
    }

    fn from_json(mut object: Map<String, Value>) -> Result<Self, String> {
        let Some(Value::Object(config)) = object.get_mut("config").map(Value::take) else {
            return Self::new(config(object)?, None);
        };
        let initial_state = match object.get("initial_state").or_else(|| object.get("initialState")) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(initial_state(text)?),
            Some(other) => return Err(format!("initial_state {other} has to be RUNNING, PAUSED or STOPPED")),
        };
        let mut config = self::config(config)?;
        if let Some(Value::String(name)) = object.get("name") {
            match config.get("name") {
                Some(other) if other != name => {
                    return Err(format!(
                        "the connector is named {name:?} outside and {other:?} inside its config; name it once"
                    ));
                }
                _ => config.set("name", name.clone()),
            }
        }
        Self::new(config, initial_state)
    }

    fn new(config: Config, initial_state: Option<State>) -> Result<Self, String> {
        let name = config.get("name").map(str::trim).filter(|name| !name.is_empty());
        let name = name.ok_or("the connector has no \"name\"; add one")?.to_owned();
        Ok(Self { name, config, initial_state })
    }
}

/// RUNNING, PAUSED or STOPPED in any case.
pub fn initial_state(text: &str) -> Result<State, String> {
    match text.to_ascii_uppercase().as_str() {
        "RUNNING" => Ok(State::Running),
        "PAUSED" => Ok(State::Paused),
        "STOPPED" => Ok(State::Stopped),
        _ => Err(format!("initial_state {text:?} has to be RUNNING, PAUSED or STOPPED")),
    }
}

fn config(object: Map<String, Value>) -> Result<Config, String> {
    let mut config = Config::default();
    for (key, value) in object {
        match value {
            Value::Null => {}
            Value::String(text) => config.set(key, text),
            Value::Bool(_) | Value::Number(_) => config.set(key, value.to_string()),
            Value::Array(_) | Value::Object(_) => {
                return Err(format!("the value of {key:?} has to be a string, number or boolean"));
            }
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<ConnectorFile, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        ConnectorFile::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_three_forms_say_the_same() {
        let expected = ConnectorFile {
            name: "c".to_owned(),
            config: [("name", "c"), ("tasks.max", "2")].into_iter().collect(),
            initial_state: None,
        };
        assert_eq!(read("c.properties", "name=c\ntasks.max=2\n"), Ok(expected.clone()));
        assert_eq!(read("c.json", r#"{"name":"c","tasks.max":2}"#), Ok(expected.clone()));
        assert_eq!(read("c.json", r#" {"name":"c","config":{"tasks.max":"2","x":null}}"#), Ok(expected.clone()));
        let paused = read("c.json", r#"{"name":"c","config":{"tasks.max":"2"},"initial_state":"paused"}"#);
        assert_eq!(paused, Ok(ConnectorFile { initial_state: Some(State::Paused), ..expected }));
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_remedy() {
        for (text, part) in [
            ("{\n\"name\": }", "line 2: malformed JSON"),
            (r#"{"config":{}}"#, "has no \"name\""),
            (r#"{"name":"a","config":{"name":"b"}}"#, "name it once"),
            (r#"{"name":"a","config":{"x":[1]}}"#, "\"x\""),
            (r#"{"name":"a","config":{},"initial_state":"up"}"#, "RUNNING, PAUSED or STOPPED"),
            ("a=1\nb=\\u12", "line 2"),
        ] {
            let error = read("c.json", text).unwrap_err();
            assert!(error.contains(part) && error.contains("c.json"), "{text}: {error}");
        }
    }
}
