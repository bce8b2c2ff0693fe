//! Prints records of a topic.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::{ClientSettings, ConsumerEvent, Log, LogError, TopicPartition};
use super::{Format, TIMEOUT, still_read};

/// How soon `stop` is heeded.
const POLL: Duration = Duration::from_millis(200);
/// Without an answer on how far the end is, silence this long counts as the end.
const SILENCE: Duration = Duration::from_secs(5);

/// Where to begin, in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The first record that is still there.
    #[default]
    Beginning,
    /// What comes from now on.
    End,
    /// This offset.
    Offset(i64),
    /// So many records before the end.
    Last(i64),
    /// The first record of this time (milliseconds since the epoch) or later.
    Timestamp(i64),
}

/// What to print.
#[derive(Debug, Clone, Default)]
pub struct ConsumeOptions {
    /// Topic to read.
    pub topic: String,
    /// One partition; `None`: all.
    pub partition: Option<i32>,
    /// Where to begin.
    pub start: Start,
    /// Stop after so many records.
    pub count: Option<u64>,
    /// Stop at the end as it is when the command begins.
    pub exit_at_end: bool,
    /// How to print.
    pub format: Format,
    /// Consumer settings, such as `isolation.level`.
    pub settings: ClientSettings,
}

/// Prints records until the count, the end, or `stop`; the number printed.
pub fn consume(
    log: &dyn Log,
    options: &ConsumeOptions,
    out: &mut dyn Write,
    stop: &AtomicBool,
) -> Result<u64, LogError> {
    let mut left = Ends::new(log, options)?;
    let start: Vec<_> = left.0.iter().map(|(at, (start, _))| (at.clone(), *start)).collect();
    let count = options.count.unwrap_or(u64::MAX);
    let mut printed = 0;
    if options.exit_at_end && left.reached() || count == 0 {
        return Ok(0);
    }
    let mut reader = log.reader(&options.settings, &start)?;
    let mut heard = Instant::now();
    'reading: while !stop.load(Ordering::Relaxed) {
        let events = reader.poll(10_000, 4 << 20, POLL)?;
        if !events.is_empty() {
            heard = Instant::now();
        }
        for event in events {
            let ConsumerEvent::Batch(batch) = event else { continue };
            let mut rows = (batch.records.len() as u64).min(count - printed) as usize;
            if options.exit_at_end {
                rows = rows.min(left.within(&batch.topic_partition, batch.offsets.values()));
            }
            if !still_read(options.format.print(&batch, 0..rows, out))? {
                break 'reading;
            }
            printed += rows as u64;
            left.seen(&batch.topic_partition, batch.offsets.values().last().map_or(0, |offset| offset + 1));
            if printed >= count {
                break 'reading;
            }
        }
        if !still_read(out.flush())? {
            break;
        }
        if options.exit_at_end {
            for (at, lag) in reader.lag() {
                if lag == 0 {
                    left.seen(&at, i64::MAX);
                }
            }
            if left.reached() || heard.elapsed() > SILENCE {
                break;
            }
        }
    }
    still_read(out.flush())?;
    reader.close(Duration::from_secs(5))?;
    Ok(printed)
}

/// Each partition's start and end.
struct Ends(BTreeMap<TopicPartition, (i64, i64)>);

impl Ends {
    fn new(log: &dyn Log, options: &ConsumeOptions) -> Result<Self, LogError> {
        let name = &options.topic;
        let Some(topic) = log.admin().topic(name, TIMEOUT)? else {
            return Err(LogError {
                message: format!("reading {name}: there is no such topic; `tributary topics` lists those that are"),
                retriable: false,
                code: Some("UNKNOWN_TOPIC_OR_PART"),
            });
        };
        let partitions = match options.partition {
            Some(partition) if !(0..topic.partitions).contains(&partition) => {
                return Err(LogError {
                    message: format!(
                        "reading {name}-{partition}: the topic has partitions 0 to {}",
                        topic.partitions - 1
                    ),
                    retriable: false,
                    code: Some("_UNKNOWN_PARTITION"),
                });
            }
            Some(partition) => partition..partition + 1,
            None => 0..topic.partitions,
        };
        let mut ends = BTreeMap::new();
        for partition in partitions {
            let at = TopicPartition { topic: name.as_str().into(), partition };
            let (first, next) = log.admin().watermarks(&at, TIMEOUT)?;
            let start = match options.start {
                Start::Beginning => first,
                Start::End => next,
                Start::Offset(offset) => offset.clamp(first, next),
                Start::Last(count) => (next - count).clamp(first, next),
                Start::Timestamp(time) => log.admin().offset_at(&at, time, TIMEOUT)?.unwrap_or(next),
            };
            ends.insert(at, (start, next));
        }
        Ok(Self(ends))
    }

    fn seen(&mut self, at: &TopicPartition, next: i64) {
        if let Some((start, _)) = self.0.get_mut(at) {
            *start = (*start).max(next);
        }
    }

    /// Rows whose offset is before the end.
    fn within(&self, at: &TopicPartition, offsets: &[i64]) -> usize {
        self.0.get(at).map_or(0, |(_, end)| offsets.partition_point(|offset| offset < end))
    }

    fn reached(&self) -> bool {
        self.0.values().all(|(next, end)| next >= end)
    }
}
