//! One config, sent to both workers.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tributary_harness::{Answer, Context, Rest, Result};

use crate::answer::{differences, messages};

/// A worker, and what its answers have of its own.
pub struct Side<'a> {
    rest: &'a Rest,
    group: String,
    version: String,
}

impl<'a> Side<'a> {
    pub fn new(rest: &'a Rest, group: &str) -> Result<Self> {
        let plugins = rest.get("/connector-plugins")?.ok()?;
        let version = plugins[0]["version"].as_str().unwrap_or_default().to_owned();
        Ok(Self { rest, group: group.to_owned(), version })
    }

    /// The group's name as a sink of that group would be called.
    fn bare_group(&self) -> &str {
        self.group.trim_start_matches("connect-")
    }

    /// An answer with the worker's own words taken out.
    fn plain(&self, answer: Answer) -> Result<(u16, Value)> {
        let doubled = format!("[{0}, {0}]", self.version);
        let text = answer.body.to_string().replace(&doubled, "[VERSION]");
        let text =
            text.replace(&self.version, "VERSION").replace(&self.group, "GROUP").replace(self.bare_group(), "BARE");
        Ok((answer.status, serde_json::from_str(&text).context("not JSON")?))
    }
}

/// A config and how it is sent.
pub struct Case {
    pub title: String,
    class: String,
    config: Map<String, Value>,
    differs: Option<Value>,
}

impl Case {
    /// Every case of every file.
    pub fn all() -> Result<Vec<Self>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("validation/cases");
        let mut files: Vec<_> = fs::read_dir(&directory)?.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let mut cases = Vec::new();
        for file in files {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&file)?;
            let list: Vec<Value> = serde_json::from_str(&text).context(format_args!("{}", file.display()))?;
            cases.extend(list.iter().map(|case| Self::read(&name, case)));
        }
        Ok(cases)
    }

    fn read(file: &str, case: &Value) -> Self {
        let base = match case["on"].as_str() {
            Some("sink") => {
                json!({"name": "c", "connector.class": "FileStreamSink", "file": "/tmp/none/out", "topics": "t"})
            }
            _ => json!({"name": "c", "connector.class": "FileStreamSource", "file": "/tmp/none/in", "topic": "t"}),
        };
        let class = case["class"].as_str().or(base["connector.class"].as_str()).unwrap_or_default().to_owned();
        let mut config = base.as_object().cloned().unwrap_or_default();
        for key in case["unset"].as_array().into_iter().flatten() {
            config.remove(key.as_str().unwrap_or_default());
        }
        config.extend(case["set"].as_object().cloned().unwrap_or_default());
        let title = format!("{file}: {}", case["case"].as_str().unwrap_or_default());
        Self { title, class, config, differs: case.get("differs").cloned() }
    }

    /// How the answers differ in a way that they should not.
    pub fn judge(&self, theirs: &Side<'_>, ours: &Side<'_>) -> Result<Vec<String>> {
        let (their_status, their_body) = self.validate(theirs)?;
        let (our_status, our_body) = self.validate(ours)?;
        let mut problems = Vec::new();
        if let Some(differs) = &self.differs {
            if their_status == our_status && messages(&their_body) == messages(&our_body) {
                problems.push("not different any more, so take the note away".to_owned());
            }
            let expected: Vec<&str> =
                differs["messages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let found = messages(&our_body);
            let fits = expected.len() == found.len()
                && found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected));
            if differs["status"] != our_status || !fits {
                problems.push(format!("{our_status} {found:?} instead of {differs}"));
            }
            return Ok(problems);
        }
        if their_status != our_status {
            return Ok(vec![format!("status {our_status} instead of {their_status}: {our_body} / {their_body}")]);
        }
        if our_status != 200 {
            return Ok(problems);
        }
        problems = differences(&their_body, &our_body);
        // Nothing is created where nothing is wrong.
        if their_body["error_count"] != 0 && self.config.get("name").and_then(Value::as_str) == Some("c") {
            let ((mut their_status, mut their_body), (our_status, our_body)) =
                (self.create(theirs)?, self.create(ours)?);
            // Where Connect stumbles over its own error, the error itself is the better answer.
            if their_status == 500 {
                their_status = 400;
                their_body["message"] = our_body["message"].clone();
            }
            if (their_status, &their_body["message"]) != (our_status, &our_body["message"]) {
                problems.push(format!("POST: {our_status} {our_body}\n  instead of {their_status} {their_body}"));
            }
        }
        Ok(problems)
    }

    fn validate(&self, side: &Side<'_>) -> Result<(u16, Value)> {
        let path = format!("/connector-plugins/{}/config/validate", self.class);
        side.plain(side.rest.put(&path, &self.config_for(side))?)
    }

    fn create(&self, side: &Side<'_>) -> Result<(u16, Value)> {
        side.plain(side.rest.post("/connectors", &json!({"name": "c", "config": self.config_for(side)}))?)
    }

    fn config_for(&self, side: &Side<'_>) -> Value {
        let of_side = |value: &Value| match value.as_str() {
            Some("WORKER_GROUP") => json!(side.group),
            Some("WORKER_GROUP_NAME") => json!(side.bare_group()),
            Some("VERSION") => json!(side.version),
            _ => value.clone(),
        };
        self.config.iter().map(|(key, value)| (key.clone(), of_side(value))).collect::<Map<_, _>>().into()
    }
}
