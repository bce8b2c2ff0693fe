//! Records of the status topic, as Kafka Connect writes and reads them.

use serde_json::{Map, Value};

use super::java_json::push_string;
use super::warnings::{Nonsense, shown};
use crate::storage::{StatusRecord, TopicStatus};
use crate::worker::{State, TaskId};

const CONNECTOR: &str = "status-connector-";
const TASK: &str = "status-task-";
const TOPIC: &str = "status-topic-";
const TOPIC_SEPARATOR: &str = ":connector-";

/// Whose status a key names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum StatusKey {
    Connector(String),
    Task(TaskId),
    /// A topic that a connector uses.
    Topic {
        connector: String,
        topic: String,
    },
}

impl StatusKey {
    pub(super) fn parse(key: Option<&[u8]>) -> Result<Self, Nonsense> {
        let key = key.ok_or_else(|| Nonsense::new("a record of the status topic without a key", "the key is null"))?;
        let text = std::str::from_utf8(key).unwrap_or_default();
        let parsed = if let Some(connector) = text.strip_prefix(CONNECTOR) {
            (!connector.is_empty()).then(|| Self::Connector(connector.to_owned()))
        } else if let Some(task) = text.strip_prefix(TASK) {
            let task = task.rsplit_once('-').and_then(|(connector, number)| Some((connector, number.parse().ok()?)));
            task.map(|(connector, task)| Self::Task(TaskId { connector: connector.to_owned(), task }))
        } else if let Some(topic) = text.strip_prefix(TOPIC) {
            let parts = topic
                .split_once(TOPIC_SEPARATOR)
                .filter(|(topic, connector)| !topic.is_empty() && !connector.is_empty());
            parts.map(|(topic, connector)| Self::Topic { connector: connector.to_owned(), topic: topic.to_owned() })
        } else {
            None
        };
        parsed.ok_or_else(|| Nonsense::new("an unknown key in the status topic", shown(key)))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Connector(connector) => format!("{CONNECTOR}{connector}"),
            Self::Task(task) => format!("{TASK}{}-{}", task.connector, task.task),
            Self::Topic { connector, topic } => format!("{TOPIC}{topic}{TOPIC_SEPARATOR}{connector}"),
        }
        .into_bytes()
    }

    pub(super) fn connector(&self) -> &str {
        match self {
            Self::Connector(connector) | Self::Topic { connector, .. } => connector,
            Self::Task(task) => &task.connector,
        }
    }
}

/// Reads a connector's or task's status.
pub(super) fn parse_status(value: &[u8]) -> Result<StatusRecord, Nonsense> {
    let map = object(value)?;
    let text = |field: &str| map.get(field).and_then(Value::as_str).map(str::to_owned);
    let wrong = |what: &str| Nonsense::new("a status that is none", what.to_owned());
    let state = match map.get("state").and_then(Value::as_str) {
        Some("UNASSIGNED") => State::Unassigned,
        Some("RUNNING") => State::Running,
        Some("PAUSED") => State::Paused,
        Some("STOPPED") => State::Stopped,
        Some("FAILED") => State::Failed,
        Some("RESTARTING") => State::Restarting,
        _ => return Err(wrong("its state is unknown")),
    };
    let generation = map.get("generation").and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok());
    Ok(StatusRecord {
        state,
        trace: text("trace"),
        worker_id: text("worker_id").ok_or_else(|| wrong("it has no worker_id"))?,
        generation: generation.ok_or_else(|| wrong("it has no generation"))?,
        version: text("version"),
    })
}

/// Reads the status of a topic in use.
pub(super) fn parse_topic(value: &[u8]) -> Result<TopicStatus, Nonsense> {
    let map = object(value)?;
    let topic = map.get("topic").and_then(Value::as_object);
    let status = topic.and_then(|topic| {
        Some(TopicStatus {
            topic: topic.get("name")?.as_str()?.to_owned(),
            task: u32::try_from(topic.get("task")?.as_u64()?).ok()?,
            discovered_ms: topic.get("discoverTimestamp")?.as_i64()?,
        })
    });
    status.ok_or_else(|| Nonsense::new("a topic's status that is none", "name, task and discoverTimestamp are wanted"))
}

fn object(value: &[u8]) -> Result<Map<String, Value>, Nonsense> {
    serde_json::from_slice(value)
        .map_err(|error| Nonsense::new("a status that is not a JSON object", format!("line {}", error.line())))
}

/// Writes a connector's or task's status.
pub(super) fn status(record: &StatusRecord) -> Vec<u8> {
    let state = match record.state {
        State::Unassigned => "UNASSIGNED",
        State::Running => "RUNNING",
        State::Paused => "PAUSED",
        State::Stopped => "STOPPED",
        State::Failed => "FAILED",
        State::Restarting => "RESTARTING",
    };
    let mut out = format!(r#"{{"state":"{state}","trace":"#).into_bytes();
    push_nullable(&mut out, record.trace.as_deref());
    out.extend_from_slice(br#","worker_id":"#);
    push_string(&mut out, &record.worker_id);
    out.extend_from_slice(format!(r#","generation":{},"version":"#, record.generation).as_bytes());
    push_nullable(&mut out, record.version.as_deref());
    out.push(b'}');
    out
}

/// Writes the status of a topic in use.
pub(super) fn topic(connector: &str, status: &TopicStatus) -> Vec<u8> {
    let mut out = br#"{"topic":{"name":"#.to_vec();
    push_string(&mut out, &status.topic);
    out.extend_from_slice(br#","connector":"#);
    push_string(&mut out, connector);
    let rest = format!(r#","task":{},"discoverTimestamp":{}}}}}"#, status.task, status.discovered_ms);
    out.extend_from_slice(rest.as_bytes());
    out
}

fn push_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let record = StatusRecord {
            state: State::Failed,
            trace: Some("java.lang.X: \"y\"\n\tat z".into()),
            worker_id: "h:1".into(),
            generation: 7,
            version: None,
        };
        let bytes = status(&record);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with(
            r#"{"state":"FAILED","trace":"java.lang.X: \"y\"\n\tat z","worker_id":"h:1","generation":7,"version":null}"#
        ));
        assert_eq!(parse_status(&bytes).unwrap(), record);
        let used = TopicStatus { topic: "t".into(), task: 3, discovered_ms: 5 };
        assert_eq!(parse_topic(&topic("c", &used)).unwrap(), used);
        for key in [
            StatusKey::Connector("a-b".into()),
            StatusKey::Task(TaskId { connector: "a-1".into(), task: 2 }),
            StatusKey::Topic { connector: "c:connector-d".into(), topic: "t".into() },
        ] {
            assert_eq!(StatusKey::parse(Some(&key.to_bytes())).unwrap(), key);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for key in [
            "status-connector-",
            "status-task-x",
            "status-task-x-y",
            "status-topic-t",
            "status-topic-:connector-c",
            "x",
            "",
        ] {
            assert!(StatusKey::parse(Some(key.as_bytes())).is_err(), "{key}");
        }
        for value in ["", "null", "7", "{}", r#"{"state":"DESTROYED","worker_id":"w","generation":1}"#] {
            assert!(parse_status(value.as_bytes()).is_err(), "{value}");
            assert!(parse_topic(value.as_bytes()).is_err(), "{value}");
        }
    }
}
