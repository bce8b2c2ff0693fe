//! Runs scenarios against Kafka Connect and against Tributary, and keeps every difference, so that one run shows all of them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tributary_harness::{Context, Error, Rest, Result, wait};

use crate::answers::differences;
use crate::http::{Answer, Request, send};
use crate::scenario::{Do, Ours, Scenario, Step, Wait, filled, filled_text};

/// One of the workers that are asked the same.
pub struct Side<'a> {
    pub name: &'static str,
    pub rest: &'a Rest,
    /// A directory of its own.
    pub dir: &'a Path,
    /// Where the worker keeps topics named by it alone.
    pub topic: String,
}

impl Side<'_> {
    fn values(&self, scenario: &Scenario) -> Map<String, Value> {
        let mut values = scenario.values.clone();
        values.insert("dir".into(), json!(self.dir));
        values.insert("url".into(), json!(self.rest.base()));
        values.insert("topic".into(), json!(self.topic));
        values
    }

    fn send(&self, step: &Do, values: &Map<String, Value>) -> Result<Answer> {
        let (method, target) = step.request.split_once(' ').context("a request is a method and a path")?;
        let body = match (&step.text, &step.body, step.size) {
            (Some(text), _, _) => Some(filled_text(text, values).into_bytes()),
            (None, _, Some(size)) => Some(vec![b' '; size]),
            (None, Value::Null, None) => None,
            (None, body, None) => Some(filled(body, values).to_string().into_bytes()),
        };
        let usual = || body.iter().map(|_| ("Content-Type".to_owned(), "application/json".to_owned())).collect();
        let headers = match &step.headers {
            Some(headers) => headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            None => usual(),
        };
        let request = Request { method: method.into(), target: filled_text(target, values), headers, body };
        let mut answer = send(self.rest.base(), &request)?;
        // What is a worker's own is written as scenarios write it.
        let dir = self.dir.display().to_string();
        let address = self.rest.base().trim_start_matches("http://").to_owned();
        let general = |text: &str| {
            text.replace(&dir, "$dir")
                .replace(self.rest.base(), "$url")
                .replace(&address, "$address")
                .replace(&self.topic, "$topic")
        };
        answer.text = general(&answer.text);
        for (_, value) in &mut answer.headers {
            *value = general(value);
        }
        Ok(answer)
    }
}

/// What is found, by scenario and step.
pub struct Runner<'a> {
    pub connect: Side<'a>,
    pub ours: Vec<Side<'a>>,
    pub differences: Vec<String>,
}

impl Runner<'_> {
    /// Runs one scenario, and leaves nothing of it behind.
    pub fn run(&mut self, name: &str, scenario: &Scenario) -> Result<()> {
        for (number, step) in scenario.steps.iter().enumerate() {
            let place = format!("{name}, step {}", number + 1);
            if let Err(error) = self.step(&place, scenario, step) {
                self.differences.push(format!("{place} could not be done: {error}"));
                break;
            }
        }
        self.sides().try_for_each(|side| clear(side.rest).context(side.name))
    }

    fn sides(&self) -> impl Iterator<Item = &Side<'_>> {
        std::iter::once(&self.connect).chain(&self.ours)
    }

    fn step(&mut self, name: &str, scenario: &Scenario, step: &Step) -> Result<()> {
        match step {
            Step::Do(step) => {
                if step.only {
                    for side in &self.ours {
                        let answer = side.send(step, &side.values(scenario))?;
                        let own = step.ours.as_ref().filter(|own| own.status.is_some());
                        let own = own.context("with `only`, `ours` has to have a status")?;
                        let mut found = promised(own, &answer);
                        if own.status != Some(answer.status) {
                            found.push(format!("status {}: {}", answer.status, answer.text));
                        }
                        self.differences.extend(found.into_iter().map(|text| format!("{name}, {}: {text}", side.name)));
                    }
                    return Ok(());
                }
                let values = self.connect.values(scenario);
                let mut theirs = self.connect.send(step, &values)?;
                // Connect refuses while it rebalances, which it does after every change.
                for _ in 0..40 {
                    let busy =
                        theirs.text.contains("rebalance") || theirs.text.contains("complete the request because");
                    if !(busy && matches!(theirs.status, 409 | 500)) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(250));
                    theirs = self.connect.send(step, &values)?;
                }
                // Who says it, by what is said.
                let mut found: Vec<(String, String)> = Vec::new();
                for side in &self.ours {
                    let answer = side.send(step, &side.values(scenario))?;
                    for text in compare(step, &theirs, &answer) {
                        match found.iter_mut().find(|(known, _)| *known == text) {
                            Some((_, sides)) => sides.push_str(&format!(" and {}", side.name)),
                            None => found.push((text, side.name.to_owned())),
                        }
                    }
                }
                let shown = |(text, sides): (String, String)| format!("{name}, {sides}: {}: {text}", step.request);
                self.differences.extend(found.into_iter().map(shown));
            }
            Step::Wait(step) => self.sides().try_for_each(|side| settle(side.rest, step).context(side.name))?,
            Step::Until(step) => {
                for side in self.sides() {
                    let values = side.values(scenario);
                    let path = filled_text(step.until.trim_start_matches("GET "), &values);
                    let has = filled_text(&step.has, &values);
                    wait::until(&format!("{has} in {path} of {}", side.name), wait::PATIENCE, || {
                        let answer = side.rest.get(&path)?;
                        let text = answer.body.to_string();
                        if text.contains(&has) { Ok(Some(())) } else { Err(Error::new(text)) }
                    })?;
                }
            }
            Step::Write(step) => {
                for side in self.sides() {
                    let values = side.values(scenario);
                    std::fs::write(filled_text(&step.write, &values), filled_text(&step.text, &values))?;
                }
            }
        }
        Ok(())
    }
}

/// Deletes every connector.
fn clear(rest: &Rest) -> Result<()> {
    wait::until("an end of all connectors", wait::PATIENCE, || {
        let names = rest.get("/connectors")?.ok()?;
        let names = names.as_array().cloned().unwrap_or_default();
        for name in names.iter().filter_map(Value::as_str) {
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let _ = send(
                rest.base(),
                &Request { method: "DELETE".into(), target: format!("/connectors/{encoded}"), ..Request::default() },
            )?;
        }
        if names.is_empty() { Ok(Some(())) } else { Err(Error::new(Value::from(names).to_string())) }
    })
}

/// Waits until a connector and its tasks are in a state; STOPPED means that there are no tasks any more.
fn settle(rest: &Rest, step: &Wait) -> Result<()> {
    match step.state.as_str() {
        "STOPPED" => wait::until(&format!("{} to be STOPPED", step.wait), wait::PATIENCE, || {
            let status = rest.status(&step.wait)?;
            let stopped = status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([]);
            if stopped { Ok(Some(())) } else { Err(Error::new(status.to_string())) }
        }),
        "GONE" => wait::until(&format!("{} to be gone", step.wait), wait::PATIENCE, || {
            Ok((rest.get(&format!("/connectors/{}/status", step.wait))?.status == 404).then_some(()))
        }),
        state => rest.wait_state(&step.wait, state),
    }
}

fn compare(step: &Do, theirs: &Answer, ours: &Answer) -> Vec<String> {
    let own = step.ours.as_ref();
    if own.is_some() && step.why.is_none() {
        return vec!["a difference without a reason".into()];
    }
    let mut found = Vec::new();
    let expected = own.and_then(|own| own.status).unwrap_or(theirs.status);
    if own.and_then(|own| own.status) == Some(theirs.status) {
        found.push(format!("no difference any more: Connect, too, answers with {expected}: {}", theirs.text));
    }
    if expected != ours.status {
        found.push(format!("status {} instead of {expected}: {} / {}", ours.status, ours.text, theirs.text));
        return found;
    }
    if let Some(own) = own {
        found.extend(promised(own, ours));
        if own.status.is_some() || own.body.is_some() || own.message.is_some() {
            return found;
        }
    }
    // A page of the HTTP library: what counts is the status.
    let page = theirs.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    let added = ours.headers.iter().chain(&theirs.headers).map(|(name, _)| name.as_str());
    let added: std::collections::BTreeSet<&str> =
        added.filter(|name| name.starts_with("access-control-") || name.starts_with("x-") || *name == "vary").collect();
    for name in ["location", "content-type", "allow"].into_iter().chain(added) {
        let (mine, other) = (ours.header(name), theirs.header(name));
        // The HTTP library of Connect gives its own errors no type, and does not say what is allowed where something is not.
        let may_differ = name != "location" && other.is_none()
            || name == "content-type" && page
            || own.is_some_and(|own| own.header.is_some());
        if !may_differ && listed(name, mine) != listed(name, other) {
            found.push(format!("{name} is {mine:?} instead of {other:?}"));
        }
    }
    // The answer to OPTIONS is the header once more.
    if page || step.request.starts_with("OPTIONS ") {
        return found;
    }
    found.extend(differences(&theirs.body(), &ours.body(), step.lists, step.words, &step.free));
    found
}

/// A header as it is compared: `Allow` in any order.
fn listed(name: &str, value: Option<&str>) -> Option<Vec<String>> {
    let value = value?;
    let mut parts: Vec<String> = match name {
        "allow" | "access-control-allow-methods" => value.split(',').map(|part| part.trim().to_owned()).collect(),
        _ => vec![value.to_ascii_lowercase()],
    };
    parts.sort();
    Some(parts)
}

/// What is not as `ours` says.
fn promised(own: &Ours, ours: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(message) = &own.message {
        let said = ours.body()["message"].as_str().unwrap_or_default().to_owned();
        if !said.contains(message.as_str()) {
            found.push(format!("the message is {said:?}, and {message:?} is not in it"));
        }
    }
    if let Some(body) = &own.body
        && *body != ours.body()
    {
        found.push(format!("the body is {} and not {body}", ours.text));
    }
    for (name, value) in own.header.iter().flatten() {
        if ours.header(name) != Some(value.as_str()) {
            found.push(format!("{name} is {:?} and not {value:?}", ours.header(name)));
        }
    }
    found
}
