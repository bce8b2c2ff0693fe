//! Letters for reading: the record, its own headers, and what went wrong.

use std::io::Write;
use std::ops::ControlFlow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::filter::Filter;
use super::letter::{Context, Header, Letter};
use super::scan::{scan, whole};
use super::written;
use crate::log::{ClientSettings, Log, LogError};
use crate::task::letter_headers::{
    CLASS, CONNECTOR, EXCEPTION, MESSAGE, OFFSET, PARTITION, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_RECORD,
    STACK_TRACE, STAGE, TASK, TOPIC,
};

/// What to show.
#[derive(Debug, Clone, Default)]
pub struct ShowOptions {
    /// The dead-letter topic.
    pub topic: String,
    /// Begin at this offset in each partition.
    pub from: Option<i64>,
    /// At most so many letters.
    pub count: Option<u64>,
    /// Which letters.
    pub filter: Filter,
    /// JSON, one letter a line.
    pub json: bool,
    /// With stack traces.
    pub traces: bool,
    /// Consumer settings.
    pub settings: ClientSettings,
}

/// Writes letters; the number written.
pub fn show(log: &dyn Log, options: &ShowOptions, out: &mut dyn Write) -> Result<u64, LogError> {
    let mut ranges = whole(log, &options.topic)?;
    for (from, to) in ranges.values_mut() {
        *from = options.from.map_or(*from, |wanted| wanted.clamp(*from, *to));
    }
    let mut shown = 0;
    let count = options.count.unwrap_or(u64::MAX);
    if count == 0 {
        return Ok(0);
    }
    scan(log, &options.settings, &ranges, 1000, |batch| {
        for letter in Letter::all(batch) {
            let (context, own) = letter.headers();
            if !options.filter.matches(&letter, &context) {
                continue;
            }
            let text = if options.json {
                format!("{}\n", as_json(&letter, &context, &own))
            } else {
                as_text(&letter, &context, &own, options.traces)
            };
            match out.write_all(text.as_bytes()) {
                // `dlq show … | head`
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ControlFlow::Break(())),
                result => written(result)?,
            }
            shown += 1;
            if shown == count {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(shown)
}

fn as_text(letter: &Letter<'_>, context: &Context, own: &[Header], traces: bool) -> String {
    let value = |name: &str| context.get(name).map(String::as_str);
    let mut lines = Vec::new();
    let time = letter.timestamp().and_then(readable_time).unwrap_or_default();
    lines.push(format!("{}  {time}", letter.place()));
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<9}  {text}"));
    match (value(TOPIC), value(PARTITION), value(OFFSET)) {
        (Some(topic), Some(partition), Some(offset)) => line("from", format!("{topic}-{partition} offset {offset}")),
        (Some(topic), ..) => line("to", topic.to_owned()),
        _ => {}
    }
    if let Some(partition) = value(SOURCE_PARTITION) {
        let offset = value(SOURCE_OFFSET).map(|offset| format!(" before {offset}")).unwrap_or_default();
        let form = value(SOURCE_RECORD).map(|form| format!(" (as {form})")).unwrap_or_default();
        line("source", format!("{partition}{offset}{form}"));
    }
    if let Some(connector) = value(CONNECTOR) {
        line("connector", format!("{connector} task {}", value(TASK).unwrap_or("?")));
    }
    if let Some(stage) = value(STAGE) {
        line("stage", format!("{stage} in {}", value(CLASS).unwrap_or("?")));
    }
    if let Some(exception) = value(EXCEPTION) {
        let message = value(MESSAGE).unwrap_or_default();
        line("reason", format!("{exception}: {message}"));
    }
    if context.is_empty() {
        line("reason", "not known: errors.deadletterqueue.context.headers.enable was false".to_owned());
    }
    for (key, value) in own {
        line("header", format!("{key}={}", readable(value.as_deref())));
    }
    line("key", readable(letter.key()));
    line("value", readable(letter.value()));
    if let Some(trace) = value(STACK_TRACE).filter(|_| traces) {
        trace.lines().for_each(|frame| line("", frame.to_owned()));
    }
    lines.push(String::new());
    lines.join("\n") + "\n"
}

fn as_json(letter: &Letter<'_>, context: &Context, own: &[Header]) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), json!(&*letter.batch.topic_partition.topic));
    object.insert("partition".into(), json!(letter.batch.topic_partition.partition));
    object.insert("offset".into(), json!(letter.offset()));
    object.insert("timestamp".into(), json!(letter.timestamp()));
    let number = |name: &str| ["partition", "offset", "task.id"].contains(&name);
    let error = context.iter().map(|(name, text)| {
        let value = match text.parse::<i64>() {
            Ok(value) if number(name) => json!(value),
            _ if [SOURCE_PARTITION, SOURCE_OFFSET].contains(&name.as_str()) => {
                serde_json::from_str(text).unwrap_or_else(|_| json!(text))
            }
            _ => json!(text),
        };
        (name.clone(), value)
    });
    object.insert("error".into(), Value::Object(error.collect()));
    let headers = own.iter().map(|(key, value)| {
        let mut header = Map::from_iter([("key".to_owned(), json!(key))]);
        insert(&mut header, "value", value.as_deref());
        Value::Object(header)
    });
    object.insert("headers".into(), headers.collect());
    insert(&mut object, "key", letter.key());
    insert(&mut object, "value", letter.value());
    Value::Object(object)
}

/// Bytes that are no text go under another name.
fn insert(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => object.insert(name.into(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.into(), json!(text)),
        Some((bytes, Err(_))) => object.insert(format!("{name}_base64"), json!(STANDARD.encode(bytes))),
    };
}

fn readable(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => "null".to_owned(),
        // A terminal is not to obey a record.
        Some((_, Ok(text))) => {
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
        }
        Some((bytes, Err(_))) => format!("(base64) {}", STANDARD.encode(bytes)),
    }
}

/// RFC 3339 in UTC.
pub(super) fn readable_time(ms: i64) -> Option<String> {
    let time = chrono::DateTime::from_timestamp_millis(ms)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}
