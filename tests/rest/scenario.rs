//! Scenarios: files of steps that are sent to every worker alike.
//!
//! A file of `scenarios/` is a JSON object: `about` says what it is about, `values` names things that steps use as `$name`,
//! `steps` are done in order. `$dir`, `$url` and `$topic` are each worker's own.
//!
//! | Step | Does |
//! |---|---|
//! | `{"do": "PUT /path", "body": …}` | sends a request and compares the answers; `text` instead of `body` is sent as it is, `headers` replace the usual ones |
//! | `{"wait": "a", "state": "RUNNING"}` | waits until a connector and its tasks are in a state |
//! | `{"until": "GET /path", "has": "…"}` | asks until the answer has this in it |
//! | `{"write": "$dir/in", "text": "…"}` | writes a file |
//!
//! Further keys of a request say how its answers compare: `lists: "any order"`, or `"subset"` where Tributary need not have
//! every element; `words: "own"` where messages are each worker's own; `ours: {…}` with `why` where Tributary is meant to
//! answer otherwise (`status`, `message`: a part of it, `body`: exactly this). Where it then does not, that is an error, too.
//! `free: […]` names keys whose values may differ, with `why`. With `only: true` Connect is not asked, and `ours` has to say it all.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use tributary_harness::{Context, Result};

use crate::answers::Lists;

/// A file of steps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub about: String,
    /// Settings that the workers need; scenarios with the same ones share workers.
    #[serde(default)]
    pub worker: BTreeMap<String, String>,
    #[serde(default)]
    pub values: Map<String, Value>,
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    Do(Box<Do>),
    Wait(Wait),
    Until(Until),
    Write(Write),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Do {
    #[serde(rename = "do")]
    pub request: String,
    #[serde(default)]
    pub body: Value,
    pub text: Option<String>,
    /// Sends so many spaces as the body.
    pub size: Option<usize>,
    pub headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub lists: Lists,
    #[serde(default)]
    pub words: Words,
    /// Keys whose values are each worker's own; `why` says why.
    #[serde(default)]
    pub free: Vec<String>,
    pub ours: Option<Ours>,
    /// Whether only Tributary is asked, since Connect cannot be.
    #[serde(default)]
    pub only: bool,
    pub why: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    pub wait: String,
    pub state: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Until {
    pub until: String,
    pub has: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    pub write: String,
    pub text: String,
}

/// Whether the words of messages have to be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Words {
    #[default]
    Same,
    Own,
}

/// What Tributary answers instead.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ours {
    pub status: Option<u16>,
    pub message: Option<String>,
    pub body: Option<Value>,
    pub header: Option<BTreeMap<String, String>>,
}

impl Scenario {
    /// All of them, by file name.
    pub fn all() -> Result<Vec<(String, Self)>> {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("rest/scenarios");
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&directory).context(directory.display())? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path)?;
            all.push((name, serde_json::from_str(&text).context(path.display())?));
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    }
}

/// Replaces `$name` in every text; a text that is nothing else becomes the value itself.
pub fn filled(value: &Value, values: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('$').and_then(|name| values.get(name)) {
            Some(value) => filled(value, values),
            None => Value::String(filled_text(text, values)),
        },
        Value::Array(items) => items.iter().map(|item| filled(item, values)).collect(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| (filled_text(key, values), filled(value, values))).collect()
        }
        other => other.clone(),
    }
}

/// Replaces `$name` in a text.
pub fn filled_text(text: &str, values: &Map<String, Value>) -> String {
    let mut text = text.to_owned();
    for (name, value) in values {
        let name = format!("${name}");
        if text.contains(&name) {
            let value = filled(value, values);
            text = text.replace(&name, value.as_str().unwrap_or(&value.to_string()));
        }
    }
    text
}
