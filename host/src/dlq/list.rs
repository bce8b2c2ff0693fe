//! Dead-letter topics: how many letters, and for what reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::ControlFlow;

use serde_json::json;

use super::letter::Letter;
use super::scan::{scan, whole};
use super::{TIMEOUT, written};
use crate::log::commands::table;
use crate::log::{ClientSettings, Log, LogError};
use crate::task::letter_headers::{CONNECTOR, EXCEPTION, MESSAGE, STAGE};

/// A dead-letter topic, and the connectors whose configs name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub topic: String,
    /// Connectors that send letters there.
    pub connectors: BTreeSet<String>,
}

/// What letters are counted by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Reason {
    connector: String,
    stage: String,
    exception: String,
}

#[derive(Debug, Default)]
struct Counted {
    letters: u64,
    /// The message of the newest letter: an example.
    message: String,
}

#[derive(Debug, Default)]
struct Summary {
    exists: bool,
    letters: u64,
    oldest: Option<i64>,
    newest: Option<i64>,
    reasons: BTreeMap<Reason, Counted>,
}

/// Counts the letters of each topic by reason, and writes the result as tables or JSON.
pub fn list(
    log: &dyn Log,
    settings: &ClientSettings,
    topics: &[Known],
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), LogError> {
    let mut summaries = Vec::with_capacity(topics.len());
    for known in topics {
        summaries.push((known, summarize(log, settings, &known.topic)?));
    }
    if as_json {
        let all: Vec<_> = summaries.iter().map(|(known, summary)| as_value(known, summary)).collect();
        return written(writeln!(out, "{:#}", serde_json::Value::from(all)));
    }
    if summaries.is_empty() {
        return written(writeln!(
            out,
            "no connector has a dead-letter topic: set errors.deadletterqueue.topic.name, or name the topics"
        ));
    }
    let rows = summaries.iter().map(|(known, summary)| {
        let letters = if summary.exists { summary.letters.to_string() } else { "no topic yet".to_owned() };
        let connectors = known.connectors.iter().cloned().collect::<Vec<_>>().join(",");
        vec![known.topic.clone(), or_dash(connectors), letters, time(summary.oldest), time(summary.newest)]
    });
    written(out.write_all(table(&["TOPIC", "CONNECTORS", "LETTERS", "OLDEST", "NEWEST"], rows)?.as_bytes()))?;
    for (known, summary) in summaries.iter().filter(|(_, summary)| !summary.reasons.is_empty()) {
        let rows = summary.reasons.iter().map(|(reason, counted)| {
            let Reason { connector, stage, exception } = reason.clone();
            let exception = exception.rsplit('.').next().unwrap_or_default().to_owned();
            let message = counted.message.chars().take(80).collect::<String>().replace(['\n', '\r'], " ");
            let cells = [connector, stage, exception, message].map(or_dash);
            [counted.letters.to_string()].into_iter().chain(cells).collect()
        });
        let table = table(&["LETTERS", "CONNECTOR", "STAGE", "EXCEPTION", "MESSAGE, FOR EXAMPLE"], rows)?;
        written(write!(out, "\n{}, by reason\n{table}", known.topic))?;
    }
    Ok(())
}

fn summarize(log: &dyn Log, settings: &ClientSettings, topic: &str) -> Result<Summary, LogError> {
    let mut summary = Summary::default();
    if log.admin().topic(topic, TIMEOUT)?.is_none() {
        return Ok(summary);
    }
    summary.exists = true;
    scan(log, settings, &whole(log, topic)?, 10_000, |batch| {
        for letter in Letter::all(batch) {
            let (mut context, _) = letter.headers();
            let mut value = |name: &str| context.remove(name).unwrap_or_default();
            let reason = Reason { connector: value(CONNECTOR), stage: value(STAGE), exception: value(EXCEPTION) };
            let counted = summary.reasons.entry(reason).or_default();
            counted.letters += 1;
            counted.message = value(MESSAGE);
            summary.letters += 1;
            let time = letter.timestamp();
            summary.oldest = summary.oldest.into_iter().chain(time).min();
            summary.newest = summary.newest.into_iter().chain(time).max();
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(summary)
}

fn as_value(known: &Known, summary: &Summary) -> serde_json::Value {
    let reasons: Vec<_> = summary
        .reasons
        .iter()
        .map(|(reason, counted)| {
            json!({
                "connector": reason.connector, "stage": reason.stage, "exception": reason.exception,
                "letters": counted.letters, "message": counted.message,
            })
        })
        .collect();
    json!({
        "topic": known.topic, "connectors": known.connectors, "exists": summary.exists, "letters": summary.letters,
        "oldest": summary.oldest, "newest": summary.newest, "reasons": reasons,
    })
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn time(ms: Option<i64>) -> String {
    ms.and_then(super::show::readable_time).unwrap_or_else(|| "-".to_owned())
}
