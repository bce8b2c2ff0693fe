//! `tributary dlq`: dead letters, listed, shown, and sent on again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::arguments::{DlqCommand, LetterFilter};
use super::log_commands::open;
use crate::dlq::{Filter, Known, ReplayOptions, Replayed, ShowOptions, list, replay, show};

/// Runs one of the three.
pub fn run(command: DlqCommand) -> Result<ExitCode, String> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match command {
        DlqCommand::List { cluster, topics, worker, json } => {
            let known = if topics.is_empty() {
                of_worker(&worker)?
            } else {
                topics.into_iter().map(|topic| Known { topic, ..Known::default() }).collect()
            };
            let (log, settings) = open(&cluster)?;
            list(&*log, &settings, &known, json, &mut out).map_err(|error| error.to_string())?;
        }
        DlqCommand::Show { cluster, topic, from, count, filter, json, traces } => {
            let (log, settings) = open(&cluster)?;
            let filter = Filter::from(filter);
            let options = ShowOptions { topic, from, count, filter, json, traces, settings };
            let shown = show(&*log, &options, &mut out).map_err(|error| error.to_string())?;
            if shown == 0 {
                eprintln!("no letter{}", if options.filter == Filter::default() { "" } else { " matches" });
            }
        }
        DlqCommand::Replay { cluster, topic, to, filter, dry_run, rate, count, from, group, keep_partition, json } => {
            let (log, settings) = open(&cluster)?;
            let filter = filter.into();
            let options =
                ReplayOptions { topic, to, filter, dry_run, rate, count, from, group, keep_partition, settings };
            let replayed = replay(&*log, &options).map_err(|error| error.to_string())?;
            let text = if json { as_json(&replayed) } else { report(&options, &replayed) };
            out.write_all(text.as_bytes()).map_err(|error| format!("writing the output: {error}"))?;
            out.flush().map_err(|error| format!("writing the output: {error}"))?;
            if let Some(failure) = replayed.failure {
                return Err(failure);
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("writing the output: {error}")),
        _ => Ok(ExitCode::SUCCESS),
    }
}

impl From<LetterFilter> for Filter {
    fn from(LetterFilter { connector, stage, reason, origin, since }: LetterFilter) -> Self {
        Self { connector, stage, reason, origin, since }
    }
}

fn report(options: &ReplayOptions, replayed: &Replayed) -> String {
    let Replayed { read, sent, left_out, done_before, group, positions, .. } = replayed;
    let mut lines = vec![format!("{read} letters of {} read", options.topic)];
    let verb = if options.dry_run { "would be replayed" } else { "replayed" };
    lines.extend(sent.iter().map(|(topic, count)| format!("  {count} {verb} to {topic}")));
    if *left_out > 0 {
        lines.push(format!("  {left_out} left out: not {}", options.filter.describe()));
    }
    if *done_before > 0 {
        lines.push(format!("  offsets of {done_before} earlier letters passed over: group {group} has done them"));
    }
    let positions: Vec<_> =
        positions.iter().map(|(at, next)| format!("{}-{} {next}", at.topic, at.partition)).collect();
    let positions = positions.join(", ");
    lines.push(if options.dry_run {
        format!("a dry run: nothing was written, and group {group} is as it was")
    } else {
        format!("next: {positions}, remembered in group {group}")
    });
    lines.join("\n") + "\n"
}

fn as_json(replayed: &Replayed) -> String {
    let Replayed { read, sent, left_out, done_before, group, positions, failure } = replayed;
    let positions: BTreeMap<_, _> =
        positions.iter().map(|(at, next)| (format!("{}-{}", at.topic, at.partition), next)).collect();
    let value = serde_json::json!({
        "read": read, "replayed": sent, "left_out": left_out, "done_before": done_before, "group": group,
        "next": positions, "failure": failure,
    });
    format!("{value:#}\n")
}

/// The dead-letter topics of a worker's connectors, from their configs.
fn of_worker(worker: &str) -> Result<Vec<Known>, String> {
    let url = format!("{}/connectors?expand=info", worker.trim_end_matches('/'));
    let what_to_do = "give the worker's address with --worker URL, or name the topics";
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(15))).build().into();
    let body = agent
        .get(&url)
        .call()
        .and_then(|mut response| response.body_mut().read_to_string())
        .map_err(|error| format!("asking {url}: {error}; {what_to_do}"))?;
    let connectors: Value = serde_json::from_str(&body)
        .map_err(|error| format!("{url} does not answer as a worker does ({error}); {what_to_do}"))?;
    let mut topics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, connector) in connectors.as_object().into_iter().flatten() {
        let topic = connector["info"]["config"]["errors.deadletterqueue.topic.name"].as_str().map(str::trim);
        if let Some(topic) = topic.filter(|topic| !topic.is_empty()) {
            topics.entry(topic.to_owned()).or_default().insert(name.clone());
        }
    }
    Ok(topics.into_iter().map(|(topic, connectors)| Known { topic, connectors }).collect())
}
