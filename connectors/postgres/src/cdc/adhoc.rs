//! What a signal asks for: snapshots of some tables while streaming.
//!
//! Signals are rows of the table `signal.data.collection`, as Debezium has them: `id`, `type`, `data` (JSON). They come in the log, so that
//! a signal has its place among the changes. What they ask for is part of the stored offset until it is done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tributary_sdk::Pattern;

/// A snapshot that is to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Streaming waits for it.
    pub blocking: bool,
    /// Tables, as schema.table.
    pub tables: BTreeSet<String>,
    /// Conditions in SQL, by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, String>,
    /// Tables that are read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub done: BTreeSet<String>,
    /// The table that is being read by its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// How far a table is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Current {
    pub table: String,
    /// The columns of these keys; none: they are the table's own key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// The greatest key when reading began: what comes behind it is streamed anyway.
    pub greatest: Vec<String>,
    /// The greatest key that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Vec<String>>,
}

impl Request {
    /// Whether a table is still to be read.
    pub fn wants(&self, table: &str) -> bool {
        self.tables.contains(table) && !self.done.contains(table)
    }

    /// The table that comes next.
    pub fn next(&self) -> Option<&String> {
        self.tables.iter().find(|table| !self.done.contains(*table))
    }
}

/// A signal that is understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Signal {
    Execute {
        blocking: bool,
        tables: Vec<String>,
        conditions: Vec<(String, String)>,
    },
    /// Of these tables; of all, where there are none.
    Stop {
        tables: Vec<String>,
    },
    Pause,
    Resume,
    Log(String),
}

impl Signal {
    /// Of the columns `type` and `data`. The error says what is wrong with it.
    pub fn parse(kind: &str, data: &str) -> Result<Self, String> {
        let data: Value = if data.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(data).map_err(|error| format!("its data is no JSON: {error}"))?
        };
        let texts = |key: &str| -> Vec<String> {
            let items = data[key].as_array().into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Ok(match kind {
            "execute-snapshot" => {
                let blocking = match data["type"].as_str() {
                    None => false,
                    Some(text) if text.eq_ignore_ascii_case("incremental") => false,
                    Some(text) if text.eq_ignore_ascii_case("blocking") => true,
                    Some(other) => return Err(format!("its type {other} is neither incremental nor blocking")),
                };
                let tables = texts("data-collections");
                if tables.is_empty() {
                    return Err("it names no data-collections".into());
                }
                let mut conditions = Vec::new();
                // The older form has one condition for all tables.
                if let Some(all) = data["additional-condition"].as_str() {
                    conditions.push((".*".to_owned(), all.to_owned()));
                }
                for each in data["additional-conditions"].as_array().into_iter().flatten() {
                    match (each["data-collection"].as_str(), each["filter"].as_str()) {
                        (Some(table), Some(filter)) => conditions.push((table.to_owned(), filter.to_owned())),
                        _ => {
                            return Err(format!("its additional condition {each} has no data-collection or no filter"));
                        }
                    }
                }
                Self::Execute { blocking, tables, conditions }
            }
            "stop-snapshot" => Self::Stop { tables: texts("data-collections") },
            "pause-snapshot" => Self::Pause,
            "resume-snapshot" => Self::Resume,
            "log" => Self::Log(data["message"].as_str().unwrap_or_default().to_owned()),
            other => return Err(format!("its type {other} is not known")),
        })
    }
}

/// Whether one of these expressions matches a whole name.
pub(crate) fn matches(patterns: &[String], name: &str) -> Result<bool, String> {
    for text in patterns {
        let pattern = Pattern::whole(&format!("(?i:{})", text.trim())).map_err(|error| format!("{text}: {error}"))?;
        if text == name || pattern.is_match(name).unwrap_or(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_understood_or_told() {
        let execute = |data: &str| Signal::parse("execute-snapshot", data);
        assert_eq!(
            execute(
                r#"{"data-collections": ["public.t"], "type": "BLOCKING", "additional-conditions": [{"data-collection": "public.t", "filter": "id > 5"}]}"#
            ),
            Ok(Signal::Execute {
                blocking: true,
                tables: vec!["public.t".into()],
                conditions: vec![("public.t".into(), "id > 5".into())]
            })
        );
        assert!(execute("{}").unwrap_err().contains("data-collections"));
        assert!(execute("{").unwrap_err().contains("JSON"));
        assert!(Signal::parse("other", "").unwrap_err().contains("other"));
        assert_eq!(matches(&["public\\..*".into()], "public.t"), Ok(true));
        assert_eq!(matches(&["public.t".into()], "public.tt"), Ok(false));
    }
}
