//! Records of the config topic, as Kafka Connect writes and reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use tributary_sdk::Config;

use super::java_json::{push_string, push_value};
use super::warnings::{Nonsense, shown};
use super::writer::Row;
use crate::herder::RestartRequest;
use crate::storage::{ConfigWrite, SessionKey};
use crate::worker::State;

const TARGET: &str = "target-state-";
const CONNECTOR: &str = "connector-";
const TASK: &str = "task-";
const COMMIT: &str = "commit-";
const RESTART: &str = "restart-connector-";
const TASK_COUNT: &str = "tasks-fencing-";
const SESSION_KEY: &str = "session-key";
const LOGGER: &str = "logger-cluster-";

/// What one record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ConfigRecord {
    /// `None`: removed.
    Target(String, Option<State>),
    /// `None`: the connector is deleted.
    Connector(String, Option<Config>),
    /// Waits for a commit.
    Task(String, u32, Config),
    /// So many tasks, whose configs came before.
    Commit(String, u32),
    TaskCount(String, u32),
    SessionKey(SessionKey),
    Restart(String, RestartRequest),
    LoggerLevel(String, String),
}

impl ConfigRecord {
    /// Reads a record. Order of the prefixes and what is optional are Connect's.
    pub(super) fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, Nonsense> {
        let key = key.ok_or_else(|| Nonsense::new("a record of the config topic without a key", "the key is null"))?;
        let key = std::str::from_utf8(key).map_err(|_| Nonsense::new("a key that is not text", shown(key)))?;
        let json = match value {
            None => None,
            Some(value) => Some(serde_json::from_slice::<Value>(value).map_err(|error| {
                Nonsense::new("a value that is not JSON", format!("key {}: {error}", shown(key.as_bytes())))
            })?),
        };
        // The JSON null is no value either.
        let json = json.filter(|json| !json.is_null());
        let value = Reader { key, json };
        if let Some(connector) = key.strip_prefix(TARGET) {
            return Ok(Self::Target(connector.to_owned(), value.target()?));
        }
        if let Some(connector) = key.strip_prefix(CONNECTOR) {
            let config = value.json.is_some().then(|| value.properties()).transpose()?;
            return Ok(Self::Connector(connector.to_owned(), config));
        }
        if let Some(task) = key.strip_prefix(TASK) {
            let parsed = task.rsplit_once('-').and_then(|(connector, number)| Some((connector, number.parse().ok()?)));
            let Some((connector, number)) = parsed else {
                return Err(Nonsense::new("a key that names no task", shown(key.as_bytes())));
            };
            return Ok(Self::Task(connector.to_owned(), number, value.properties()?));
        }
        if let Some(connector) = key.strip_prefix(COMMIT) {
            return Ok(Self::Commit(connector.to_owned(), value.number("tasks")?));
        }
        if let Some(connector) = key.strip_prefix(RESTART) {
            let flag = |name| Ok(value.object()?.get(name).and_then(Value::as_bool).unwrap_or(false));
            let request = RestartRequest { include_tasks: flag("include-tasks")?, only_failed: flag("only-failed")? };
            return Ok(Self::Restart(connector.to_owned(), request));
        }
        if let Some(connector) = key.strip_prefix(TASK_COUNT) {
            return Ok(Self::TaskCount(connector.to_owned(), value.number("task-count")?));
        }
        if key == SESSION_KEY {
            return Ok(Self::SessionKey(value.session_key()?));
        }
        if let Some(logger) = key.strip_prefix(LOGGER) {
            return Ok(Self::LoggerLevel(logger.to_owned(), value.text("level")?));
        }
        Err(Nonsense::new("an unknown key in the config topic", shown(key.as_bytes())))
    }
}

/// A record's value.
struct Reader<'a> {
    key: &'a str,
    json: Option<Value>,
}

impl Reader<'_> {
    fn wrong(&self, kind: &'static str, what: &str) -> Nonsense {
        Nonsense::new(kind, format!("key {}: {what}", shown(self.key.as_bytes())))
    }

    fn object(&self) -> Result<&Map<String, Value>, Nonsense> {
        match &self.json {
            Some(Value::Object(map)) => Ok(map),
            Some(_) => Err(self.wrong("a value that is not a JSON object", "an object is wanted")),
            None => Err(self.wrong("a value that is unexpectedly null", "an object is wanted")),
        }
    }

    fn properties(&self) -> Result<Config, Nonsense> {
        let Some(Value::Object(map)) = self.object()?.get("properties") else {
            return Err(self.wrong("a config without properties", "the field properties has to be an object"));
        };
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        Ok(map.iter().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect())
    }

    fn number(&self, field: &str) -> Result<u32, Nonsense> {
        let number = self.object()?.get(field).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        number
            .ok_or_else(|| self.wrong("a count that is not a number", &format!("the field {field} has to be a number")))
    }

    fn text(&self, field: &str) -> Result<String, Nonsense> {
        let text = self.object()?.get(field).and_then(Value::as_str);
        text.map(str::to_owned)
            .ok_or_else(|| self.wrong("a field that is not text", &format!("the field {field} has to be text")))
    }

    /// Newer workers write `state.v2`, older ones only know `state`.
    fn target(&self) -> Result<Option<State>, Nonsense> {
        if self.json.is_none() {
            return Ok(None);
        }
        let object = self.object()?;
        let state =
            object.get("state.v2").and_then(Value::as_str).or_else(|| object.get("state").and_then(Value::as_str));
        match state {
            Some("STARTED") => Ok(Some(State::Running)),
            Some("PAUSED") => Ok(Some(State::Paused)),
            Some("STOPPED") => Ok(Some(State::Stopped)),
            _ => Err(self.wrong("a target state that is none", "STARTED, PAUSED or STOPPED is wanted")),
        }
    }

    fn session_key(&self) -> Result<SessionKey, Nonsense> {
        let wrong = |what| self.wrong("a session key that is none", what);
        let key = BASE64.decode(self.text("key")?).map_err(|_| wrong("the key has to be Base64"))?;
        let algorithm = self.text("algorithm")?;
        let created = self.object()?.get("creation-timestamp").and_then(Value::as_i64);
        let created_ms = created.ok_or_else(|| wrong("creation-timestamp has to be a number"))?;
        Ok(SessionKey { key, algorithm, created_ms })
    }
}

/// The records of a write, in the order in which they have to be written.
pub(super) fn rows(write: &ConfigWrite) -> Vec<Row> {
    let row = |key: String, value: Option<Vec<u8>>| (key.into_bytes(), value);
    match write {
        ConfigWrite::Connector { name, config, initial } => {
            let target = initial.map(|state| row(format!("{TARGET}{name}"), Some(target(state))));
            let config = row(format!("{CONNECTOR}{name}"), Some(properties(config)));
            target.into_iter().chain([config]).collect()
        }
        ConfigWrite::Remove(name) => {
            vec![row(format!("{CONNECTOR}{name}"), None), row(format!("{TARGET}{name}"), None)]
        }
        ConfigWrite::Target(name, state) => vec![row(format!("{TARGET}{name}"), Some(target(*state)))],
        ConfigWrite::Tasks(name, configs) => {
            let tasks = configs.iter().enumerate();
            let tasks = tasks.map(|(task, config)| row(format!("{TASK}{name}-{task}"), Some(properties(config))));
            let commit = format!(r#"{{"tasks":{}}}"#, configs.len()).into_bytes();
            tasks.chain([row(format!("{COMMIT}{name}"), Some(commit))]).collect()
        }
        ConfigWrite::TaskCount(name, count) => {
            vec![row(format!("{TASK_COUNT}{name}"), Some(format!(r#"{{"task-count":{count}}}"#).into_bytes()))]
        }
        ConfigWrite::SessionKey(key) => {
            let mut value = br#"{"key":"#.to_vec();
            push_string(&mut value, &BASE64.encode(&key.key));
            value.extend_from_slice(br#","algorithm":"#);
            push_string(&mut value, &key.algorithm);
            value.extend_from_slice(format!(r#","creation-timestamp":{}}}"#, key.created_ms).as_bytes());
            vec![row(SESSION_KEY.to_owned(), Some(value))]
        }
        ConfigWrite::Restart(name, request) => {
            let value =
                format!(r#"{{"include-tasks":{},"only-failed":{}}}"#, request.include_tasks, request.only_failed);
            vec![row(format!("{RESTART}{name}"), Some(value.into_bytes()))]
        }
        ConfigWrite::LoggerLevel(logger, level) => {
            let mut value = br#"{"level":"#.to_vec();
            push_string(&mut value, level);
            value.push(b'}');
            vec![row(format!("{LOGGER}{logger}"), Some(value))]
        }
    }
}

fn target(state: State) -> Vec<u8> {
    // Workers before Kafka 3.5 know no STOPPED.
    let (old, new) = match state {
        State::Stopped => ("PAUSED", "STOPPED"),
        State::Paused => ("PAUSED", "PAUSED"),
        _ => ("STARTED", "STARTED"),
    };
    format!(r#"{{"state":"{old}","state.v2":"{new}"}}"#).into_bytes()
}

fn properties(config: &Config) -> Vec<u8> {
    let map: Map<String, Value> =
        config.0.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    let mut out = br#"{"properties":"#.to_vec();
    push_value(&mut out, &Value::Object(map));
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str, value: &str) -> Result<ConfigRecord, Nonsense> {
        ConfigRecord::parse(Some(key.as_bytes()), Some(value.as_bytes()))
    }

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().copied().collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let key = SessionKey { key: vec![1, 2, 255], algorithm: "HmacSHA256".into(), created_ms: 7 };
        let writes = [
            ConfigWrite::Connector {
                name: "a-b".into(),
                config: config(&[("x", "ü\"")]),
                initial: Some(State::Stopped),
            },
            ConfigWrite::Tasks("a-b".into(), vec![config(&[("t", "0")]), config(&[])]),
            ConfigWrite::TaskCount("a".into(), 2),
            ConfigWrite::SessionKey(key.clone()),
            ConfigWrite::Restart("a".into(), RestartRequest { include_tasks: true, only_failed: false }),
            ConfigWrite::LoggerLevel("org.x".into(), "DEBUG".into()),
            ConfigWrite::Remove("a-b".into()),
        ];
        let read: Vec<ConfigRecord> = writes
            .iter()
            .flat_map(rows)
            .map(|(key, value)| ConfigRecord::parse(Some(&key), value.as_deref()).unwrap())
            .collect();
        assert_eq!(
            read,
            [
                ConfigRecord::Target("a-b".into(), Some(State::Stopped)),
                ConfigRecord::Connector("a-b".into(), Some(config(&[("x", "ü\"")]))),
                ConfigRecord::Task("a-b".into(), 0, config(&[("t", "0")])),
                ConfigRecord::Task("a-b".into(), 1, config(&[])),
                ConfigRecord::Commit("a-b".into(), 2),
                ConfigRecord::TaskCount("a".into(), 2),
                ConfigRecord::SessionKey(key),
                ConfigRecord::Restart("a".into(), RestartRequest { include_tasks: true, only_failed: false }),
                ConfigRecord::LoggerLevel("org.x".into(), "DEBUG".into()),
                ConfigRecord::Connector("a-b".into(), None),
                ConfigRecord::Target("a-b".into(), None),
            ]
        );
    }

    #[test]
    fn target_states_of_older_and_newer_workers() {
        let state = |value| parse("target-state-c", value);
        let target = |state| Ok(ConfigRecord::Target("c".into(), Some(state)));
        assert_eq!(state(r#"{"state":"PAUSED"}"#), target(State::Paused));
        assert_eq!(state(r#"{"state":"PAUSED","state.v2":null}"#), target(State::Paused));
        assert_eq!(state(r#"{"state":"PAUSED","state.v2":"STOPPED"}"#), target(State::Stopped));
        assert_eq!(state(r#"{"state":"STARTED","state.v2":7}"#), target(State::Running));
        assert_eq!(state("null"), Ok(ConfigRecord::Target("c".into(), None)));
    }

    #[test]
    fn nonsense_is_named_without_its_values() {
        for (key, value) in [
            ("connector-c", r#"{"properties":"hunter2"}"#),
            ("connector-c", "hunter2"),
            ("connector-c", "[\"hunter2\"]"),
            ("task-c", r#"{"properties":{}}"#),
            ("task-c-x", r#"{"properties":{}}"#),
            ("task-c-0", "null"),
            ("commit-c", r#"{"tasks":"hunter2"}"#),
            ("commit-c", r#"{"tasks":-1}"#),
            ("session-key", r#"{"key":"hunter2 !","algorithm":"x","creation-timestamp":1}"#),
            ("target-state-c", r#"{"state":"hunter2"}"#),
            ("logger-cluster-x", r#"{}"#),
            ("something else", r#"{}"#),
        ] {
            let nonsense = parse(key, value).unwrap_err();
            assert!(!nonsense.detail.contains("hunter2"), "{nonsense:?}");
        }
        assert!(ConfigRecord::parse(None, Some(b"{}")).is_err());
        assert!(ConfigRecord::parse(Some(b"\xff"), Some(b"{}")).is_err());
    }
}
