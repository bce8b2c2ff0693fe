//! Sends each step to both workers and keeps the differences, so that one run shows all of them.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use tributary_harness::{Answer, Error, Rest, Result, wait};

use crate::answers::{Arrays, differences};

/// Two workers that are asked the same.
pub struct Scenario<'a> {
    connect: &'a Rest,
    tributary: &'a Rest,
    differences: Vec<String>,
}

impl<'a> Scenario<'a> {
    pub fn new(connect: &'a Rest, tributary: &'a Rest) -> Self {
        Self { connect, tributary, differences: Vec::new() }
    }

    pub fn get(&mut self, path: &str) -> Result<()> {
        self.step("GET", path, Arrays::SameLength, |rest| rest.get(path))
    }

    /// For lists of which Tributary need not have everything: what it has is compared by name.
    pub fn get_subset(&mut self, path: &str) -> Result<()> {
        self.step("GET", path, Arrays::ByName, |rest| rest.get(path))
    }

    pub fn post(&mut self, path: &str, body: Value) -> Result<()> {
        self.step("POST", path, Arrays::SameLength, |rest| rest.post(path, &body))
    }

    pub fn put(&mut self, path: &str, body: Value) -> Result<()> {
        // Only validation answers with long lists.
        let arrays = if path.ends_with("/validate") { Arrays::ByName } else { Arrays::SameLength };
        self.step("PUT", path, arrays, |rest| rest.put(path, &body))
    }

    pub fn patch(&mut self, path: &str, body: Value) -> Result<()> {
        self.step("PATCH", path, Arrays::SameLength, |rest| rest.patch(path, &body))
    }

    pub fn delete(&mut self, path: &str) -> Result<()> {
        self.step("DELETE", path, Arrays::SameLength, |rest| rest.delete(path))
    }

    /// Waits until both have the connector and its tasks in a state.
    pub fn settle(&mut self, connector: &str, state: &str) -> Result<()> {
        self.connect.wait_state(connector, state)?;
        self.tributary.wait_state(connector, state)
    }

    /// Waits until both have stopped the connector, and so removed its tasks.
    pub fn settle_stopped(&mut self, connector: &str) -> Result<()> {
        for rest in [self.connect, self.tributary] {
            wait::until(&format!("{connector} to be STOPPED"), wait::PATIENCE, || {
                let status = rest.status(connector)?;
                let stopped = status["connector"]["state"] == "STOPPED" && status["tasks"] == Value::Array(Vec::new());
                Ok(stopped.then_some(()))
            })?;
        }
        Ok(())
    }

    /// Fails if any answer differed in a way that is not known, or one that is known as open did not.
    ///
    /// A known difference is the beginning of its text, and the reason for it.
    pub fn finish(self, known: &[(&str, &str)]) -> Result<()> {
        let is_known = |difference: &String| known.iter().any(|(text, _)| difference.starts_with(text));
        let mut problems: Vec<String> = self.differences.iter().filter(|d| !is_known(d)).cloned().collect();
        for (text, _) in known.iter().filter(|(_, reason)| reason.starts_with("open:")) {
            if !self.differences.iter().any(|difference| difference.starts_with(text)) {
                problems.push(format!("not open any more, so take it off the list: {text}"));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!("{} answers differ:\n{}", problems.len(), problems.join("\n"))))
    }

    fn step(&mut self, method: &str, path: &str, arrays: Arrays, send: impl Fn(&Rest) -> Result<Answer>) -> Result<()> {
        let mut theirs = send(self.connect)?;
        // Connect may refuse to read while it rebalances, which it does after every change.
        for _ in 0..20 {
            if method != "GET" || !matches!(theirs.status, 409 | 500) {
                break;
            }
            thread::sleep(Duration::from_millis(500));
            theirs = send(self.connect)?;
        }
        let ours = send(self.tributary)?;
        let step = format!("{method} {path}");
        if theirs.status != ours.status {
            let (we, they) = (ours.status, theirs.status);
            self.differences.push(format!("{step}: status {we} instead of {they}: {} / {}", ours.body, theirs.body));
            return Ok(());
        }
        if theirs.headers.contains_key("location") != ours.headers.contains_key("location") {
            self.differences.push(format!("{step}: Location {:?}", ours.headers.get("location")));
        }
        let found = differences(&theirs.body, &ours.body, arrays);
        self.differences.extend(found.into_iter().map(|difference| format!("{step}: {difference}")));
        Ok(())
    }
}
