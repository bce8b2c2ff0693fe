//! Lists topics, or describes one.

use std::io::{self, Write};

use serde_json::json;

use super::super::{Log, LogError, TopicPartition};
use super::{TIMEOUT, still_read};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct TopicsOptions {
    /// Describe this topic: its partitions and settings.
    pub topic: Option<String>,
    /// JSON instead of a table.
    pub json: bool,
}

/// What one partition holds.
struct Held {
    partition: i32,
    first: i64,
    next: i64,
    bytes: Option<u64>,
}

/// Lists topics with partitions, records and (where the log tells) bytes; or describes one, partition by partition,
/// with its settings. Records are counted by offsets: compaction and transactions leave fewer.
pub fn topics(log: &dyn Log, options: &TopicsOptions, out: &mut dyn Write) -> Result<(), LogError> {
    let text = match &options.topic {
        Some(name) => describe(log, name, options.json)?,
        None => list(log, options.json)?,
    };
    still_read(out.write_all(text.as_bytes()).and_then(|()| out.flush())).map(drop)
}

fn held(log: &dyn Log, topic: &str, partitions: i32) -> Result<Vec<Held>, LogError> {
    (0..partitions)
        .map(|partition| {
            let at = TopicPartition { topic: topic.into(), partition };
            let (first, next) = log.admin().watermarks(&at, TIMEOUT)?;
            Ok(Held { partition, first, next, bytes: log.admin().size(&at, TIMEOUT)? })
        })
        .collect()
}

fn total(held: &[Held]) -> (i64, Option<u64>) {
    let bytes = held.iter().map(|h| h.bytes).sum::<Option<u64>>();
    (held.iter().map(|h| h.next - h.first).sum(), bytes.filter(|_| !held.is_empty()))
}

fn list(log: &dyn Log, as_json: bool) -> Result<String, LogError> {
    let mut rows = Vec::new();
    for topic in log.admin().topics(TIMEOUT)? {
        let (records, bytes) = total(&held(log, &topic.name, topic.partitions)?);
        rows.push((topic, records, bytes));
    }
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(t, records, bytes)| json!({"name": t.name, "partitions": t.partitions, "records": records, "bytes": bytes}))
            .collect();
        return Ok(format!("{:#}\n", serde_json::Value::from(rows)));
    }
    let cells = rows.into_iter().map(|(topic, records, bytes)| {
        vec![topic.name, topic.partitions.to_string(), records.to_string(), size(bytes)]
    });
    table(&["TOPIC", "PARTITIONS", "RECORDS", "SIZE"], cells)
}

fn describe(log: &dyn Log, name: &str, as_json: bool) -> Result<String, LogError> {
    let Some(topic) = log.admin().topic(name, TIMEOUT)? else {
        return Err(LogError {
            message: format!(
                "describing topic {name}: there is no such topic; `tributary topics` lists those that are"
            ),
            retriable: false,
            code: Some("UNKNOWN_TOPIC_OR_PART"),
        });
    };
    let partitions = held(log, name, topic.partitions)?;
    let settings = log.admin().topic_settings(name, TIMEOUT)?;
    if as_json {
        let partitions: Vec<_> = partitions
            .iter()
            .map(
                |h| json!({"partition": h.partition, "first_offset": h.first, "next_offset": h.next, "bytes": h.bytes}),
            )
            .collect();
        return Ok(format!("{:#}\n", json!({"name": name, "partitions": partitions, "settings": settings})));
    }
    let (records, bytes) = total(&partitions);
    let bytes = bytes.map(|bytes| format!(", {}", size(Some(bytes)))).unwrap_or_default();
    let cells = partitions.iter().map(|h| {
        vec![
            h.partition.to_string(),
            h.first.to_string(),
            h.next.to_string(),
            (h.next - h.first).to_string(),
            size(h.bytes),
        ]
    });
    let table = table(&["PARTITION", "FIRST", "NEXT", "RECORDS", "SIZE"], cells)?;
    let settings: String = settings.iter().map(|(key, value)| format!("  {key}={value}\n")).collect();
    Ok(format!("{name}: {} partitions, {records} records{bytes}\n\n{table}\nsettings\n{settings}", topic.partitions))
}

/// Columns as wide as their widest cell; the first to the left, numbers to the right.
pub(crate) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<String, LogError> {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|h| h.to_string()).collect()).chain(rows).collect();
    let widths: Vec<usize> =
        (0..head.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = Vec::new();
    let written = rows.iter().try_for_each(|row| -> io::Result<()> {
        write!(text, "{:<width$}", row[0], width = widths[0])?;
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            write!(text, "  {cell:>width$}")?;
        }
        writeln!(text)
    });
    still_read(written)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Bytes for reading; `-` where the log does not tell.
fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return "-".into() };
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1024.0 {
        let Some(larger) = units.next() else { break };
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_reading() {
        assert_eq!(
            [None, Some(0), Some(1023), Some(1536), Some(5 << 30)].map(size),
            ["-", "0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
        );
    }
}
