//! Reading a topic from given offsets to the end that it has when the command begins.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::TIMEOUT;
use crate::log::{ClientSettings, ConsumerEvent, FetchedBatch, Log, LogError, TopicPartition};

/// Without an answer on how far the end is, silence this long counts as the end.
const SILENCE: Duration = Duration::from_secs(10);

/// Where to read each partition: from, and up to.
pub type Ranges = BTreeMap<TopicPartition, (i64, i64)>;

/// All that a topic holds now.
pub fn whole(log: &dyn Log, topic: &str) -> Result<Ranges, LogError> {
    let Some(found) = log.admin().topic(topic, TIMEOUT)? else {
        return Err(LogError {
            message: format!("there is no topic {topic}; `tributary topics` lists those that are"),
            retriable: false,
            code: Some("UNKNOWN_TOPIC_OR_PART"),
        });
    };
    (0..found.partitions)
        .map(|partition| {
            let at = TopicPartition { topic: topic.into(), partition };
            let range = log.admin().watermarks(&at, TIMEOUT)?;
            Ok((at, range))
        })
        .collect()
}

/// Calls `each` with what lies in the ranges, a partition's records in order, until it breaks off.
pub fn scan(
    log: &dyn Log,
    settings: &ClientSettings,
    ranges: &Ranges,
    records_at_once: usize,
    mut each: impl FnMut(&FetchedBatch) -> Result<ControlFlow<()>, LogError>,
) -> Result<(), LogError> {
    let mut left: Ranges =
        ranges.iter().filter(|(_, (from, to))| from < to).map(|(at, range)| (at.clone(), *range)).collect();
    if left.is_empty() {
        return Ok(());
    }
    let start: Vec<_> = left.iter().map(|(at, (from, _))| (at.clone(), *from)).collect();
    let mut reader = log.reader(settings, &start)?;
    let mut heard = Instant::now();
    'reading: while !left.is_empty() {
        let events = reader.poll(records_at_once, 4 << 20, Duration::from_millis(200))?;
        if !events.is_empty() {
            heard = Instant::now();
        }
        for event in events {
            let ConsumerEvent::Batch(mut batch) = event else { continue };
            let Some((_, to)) = left.get(&batch.topic_partition).copied() else { continue };
            let within = batch.offsets.values().partition_point(|offset| *offset < to);
            let reached = batch.offsets.values().last().is_some_and(|last| last + 1 >= to);
            if within < batch.records.len() {
                batch.records = batch.records.slice(0, within);
                batch.offsets = batch.offsets.slice(0, within);
            }
            let at = batch.topic_partition.clone();
            if within > 0 && each(&batch)?.is_break() {
                break 'reading;
            }
            // What `each` does may take its time.
            heard = Instant::now();
            if reached {
                left.remove(&at);
            }
        }
        // The last offsets may belong to no record (transactions, compaction).
        for (at, lag) in reader.lag() {
            if lag == 0 {
                left.remove(&at);
            }
        }
        if heard.elapsed() > SILENCE {
            let names: Vec<_> = left.keys().map(|at| format!("{}-{}", at.topic, at.partition)).collect();
            return Err(LogError::retriable(format!(
                "nothing came from {} for {SILENCE:?}: check that the cluster can be reached, then try again",
                names.join(", ")
            )));
        }
    }
    reader.close(Duration::from_secs(5))
}
