//! Letters sent on again, to the topic that they came from or another.
//!
//! What it promises: a letter is behind the remembered position only once the topic has acknowledged its record. The position is
//! the committed offset of a consumer group, so that a second replay goes on where the first ended, also after `kill -9`: then
//! at most one run of letters is sent twice. How it fails: the first letter that cannot be sent ends the replay, with the
//! position before it.
//!
//! A replay with a filter remembers its position in a group of its own, since letters that it leaves out are not done.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use arrow_array::Int32Array;

use super::TIMEOUT;
use super::filter::Filter;
use super::letter::{Context, Letter};
use super::scan::{Ranges, scan, whole};
use crate::log::{ClientSettings, FetchedBatch, Log, LogError, LogProducer, LogRecords, TopicPartition};
use crate::task::letter_headers::{AS_POLLED, HeaderLists, PARTITION, PREFIX, SOURCE_PARTITION, SOURCE_RECORD, TOPIC};
use crate::task::rows;

/// Letters that are sent before the position is remembered, at most.
const RUN: usize = 1000;

/// What to replay, and where to.
#[derive(Debug, Clone, Default)]
pub struct ReplayOptions {
    /// The dead-letter topic.
    pub topic: String,
    /// The topic to write to; `None`: each letter's own, as its headers say.
    pub to: Option<String>,
    /// Which letters.
    pub filter: Filter,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// At most so many records a second.
    pub rate: Option<u64>,
    /// At most so many letters.
    pub count: Option<u64>,
    /// Begin at this offset in each partition, whatever was replayed before.
    pub from: Option<i64>,
    /// Remember the position in this group.
    pub group: Option<String>,
    /// Write to the partition that the record was read from.
    pub keep_partition: bool,
    /// Client settings.
    pub settings: ClientSettings,
}

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Letters looked at.
    pub read: u64,
    /// Letters sent, by the topic that took them.
    pub sent: BTreeMap<String, u64>,
    /// Letters that the filter left out.
    pub left_out: u64,
    /// Letters that an earlier replay had done.
    pub done_before: u64,
    /// The group that remembers the position.
    pub group: String,
    /// The next letter of each partition; remembered unless it was a dry run.
    pub positions: BTreeMap<TopicPartition, i64>,
    /// Why it ended early.
    pub failure: Option<String>,
}

impl Replayed {
    /// Letters sent.
    pub fn total(&self) -> u64 {
        self.sent.values().sum()
    }
}

/// Replays what is in the topic when it begins. An error means that nothing was done; one on the way is in the answer.
pub fn replay(log: &dyn Log, options: &ReplayOptions) -> Result<Replayed, LogError> {
    if options.to.as_ref() == Some(&options.topic) {
        return Err(LogError::fatal(format!("replaying {0} to {0} would not end: give another topic", options.topic)));
    }
    let group = options.group.clone().unwrap_or_else(|| default_group(&options.topic, &options.filter));
    let mut ranges = whole(log, &options.topic)?;
    let remembered: BTreeMap<_, _> = log.admin().group_offsets(&group, TIMEOUT)?.into_iter().collect();
    let mut replayed = Replayed { group, ..Replayed::default() };
    for (at, (first, next)) in &mut ranges {
        let known = options.from.or_else(|| remembered.get(at).copied());
        let from = known.map_or(*first, |known| known.clamp(*first, *next));
        replayed.done_before += if options.from.is_none() { (from - *first) as u64 } else { 0 };
        *first = from;
        replayed.positions.insert(at.clone(), from);
    }
    if let Some(to) = &options.to {
        must_exist(log, to)?;
    }
    if options.count == Some(0) || ranges.values().all(|(from, to)| from >= to) {
        return Ok(replayed);
    }
    let producer = if options.dry_run { None } else { Some(log.producer(&options.settings)?) };
    let mut replay = Replay { log, options, producer, replayed, topics: Vec::new(), sends: 0, begun: Instant::now() };
    let outcome = replay.run(&ranges);
    let Replay { producer, mut replayed, .. } = replay;
    if let Some(producer) = producer {
        producer.close(Duration::from_secs(5))?;
    }
    if let Err(error) = outcome {
        replayed.failure = Some(error.to_string());
    }
    Ok(replayed)
}

fn default_group(topic: &str, filter: &Filter) -> String {
    match filter.describe() {
        none if none.is_empty() => format!("tributary-dlq-{topic}"),
        conditions => format!("tributary-dlq-{topic}-{:08x}", crc32c::crc32c(conditions.as_bytes())),
    }
}

fn must_exist(log: &dyn Log, topic: &str) -> Result<(), LogError> {
    match log.admin().topic(topic, TIMEOUT)? {
        Some(_) => Ok(()),
        None => {
            Err(LogError::fatal(format!("there is no topic {topic} to replay to: create it, or give another --to")))
        }
    }
}

struct Replay<'a> {
    log: &'a dyn Log,
    options: &'a ReplayOptions,
    /// `None`: a dry run.
    producer: Option<Box<dyn LogProducer>>,
    replayed: Replayed,
    /// Topics that are known to exist.
    topics: Vec<String>,
    sends: u64,
    begun: Instant,
}

impl Replay<'_> {
    fn run(&mut self, ranges: &Ranges) -> Result<(), LogError> {
        // With a limit, small runs keep to it closely.
        let run = self.options.rate.map_or(RUN, |rate| (rate / 4).clamp(1, RUN as u64) as usize);
        let (log, options) = (self.log, self.options);
        scan(log, &options.settings, ranges, run, |batch| {
            for from in (0..batch.records.len()).step_by(run) {
                let length = run.min(batch.records.len() - from);
                let part = FetchedBatch {
                    topic_partition: batch.topic_partition.clone(),
                    records: batch.records.slice(from, length),
                    offsets: batch.offsets.slice(from, length),
                };
                if self.take(&part)? {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Replays a run of letters and remembers the position behind it. Answers `true` when the count is reached.
    fn take(&mut self, batch: &FetchedBatch) -> Result<bool, LogError> {
        let left = self.options.count.map_or(u64::MAX, |count| count - self.replayed.total());
        let mut chosen: Vec<(usize, String, Option<i32>)> = Vec::new();
        let (mut read, mut next, mut refusal) = (0, None, None);
        for letter in Letter::all(batch) {
            if chosen.len() as u64 == left {
                break;
            }
            let (context, _) = letter.headers();
            if self.options.filter.matches(&letter, &context) {
                match self.target(&letter, &context) {
                    Ok((topic, partition)) => chosen.push((letter.row, topic, partition)),
                    Err(error) => {
                        refusal = Some(error);
                        break;
                    }
                }
            }
            read += 1;
            next = Some(letter.offset() + 1);
        }
        let sent = self.send(batch, &chosen);
        // What comes before a letter that was refused counts.
        let (accepted, error) = match sent {
            Ok(()) => (chosen.len(), refusal),
            Err((accepted, error)) => {
                if let Some((row, ..)) = chosen.get(accepted) {
                    (read, next) = (*row as u64, Some(batch.offsets.value(*row)));
                }
                (accepted, Some(error))
            }
        };
        for (_, topic, _) in &chosen[..accepted] {
            *self.replayed.sent.entry(topic.clone()).or_default() += 1;
        }
        self.replayed.read += read;
        self.replayed.left_out += read - accepted as u64;
        if let Some(next) = next {
            self.remember(&batch.topic_partition, next)?;
        }
        match error {
            Some(error) => Err(error),
            None => {
                self.keep_to_the_rate();
                Ok(self.options.count.is_some_and(|count| self.replayed.total() >= count))
            }
        }
    }

    /// Where a letter goes.
    fn target(&mut self, letter: &Letter<'_>, context: &Context) -> Result<(String, Option<i32>), LogError> {
        let own = context.get(TOPIC);
        let topic = match (&self.options.to, own) {
            (Some(to), _) => to,
            (None, None) => {
                return Err(LogError::fatal(format!(
                    "{} does not say which topic it came from (errors.deadletterqueue.context.headers.enable was false): give --to TOPIC",
                    letter.place()
                )));
            }
            (None, Some(_)) if context.get(SOURCE_RECORD).is_some_and(|form| form == AS_POLLED) => {
                return Err(LogError::fatal(format!(
                    "{} holds a record of {} as the source gave it, before transforms and converters, so it does not belong into its topic: \
                     give --to TOPIC, or --stage KAFKA_PRODUCE to leave such letters out",
                    letter.place(),
                    context.get(SOURCE_PARTITION).map_or("a source", String::as_str),
                )));
            }
            (None, Some(own)) if *own == self.options.topic => {
                return Err(LogError::fatal(format!("{} came from this very topic: give --to TOPIC", letter.place())));
            }
            (None, Some(own)) => own,
        };
        if !self.topics.contains(topic) {
            must_exist(self.log, topic)?;
            self.topics.push(topic.clone());
        }
        let partition = context.get(PARTITION).filter(|_| self.options.keep_partition && own == Some(topic));
        Ok((topic.clone(), partition.and_then(|number| number.parse().ok())))
    }

    /// Sends letters and waits until all are acknowledged; otherwise how many are, from the first on, and what the next was refused for.
    fn send(&mut self, batch: &FetchedBatch, chosen: &[(usize, String, Option<i32>)]) -> Result<(), (usize, LogError)> {
        let Some(producer) = &mut self.producer else { return Ok(()) };
        let mut first_failed: Option<(usize, LogError)> = None;
        let mut from = 0;
        while from < chosen.len() && first_failed.is_none() {
            let topic = &chosen[from].1;
            let length = chosen[from..].iter().take_while(|(_, other, _)| other == topic).count();
            let records = records_of(batch, &chosen[from..from + length]).map_err(|error| (from, error))?;
            self.sends += 1;
            let refused = deliver(&mut **producer, topic, &records, self.sends).map_err(|error| (from, error))?;
            first_failed = refused.map(|(row, error)| {
                let offset = batch.offsets.value(chosen[from + row].0);
                let place =
                    format!("{}-{} offset {offset}", batch.topic_partition.topic, batch.topic_partition.partition);
                let message = format!("{place} was refused: {error}; what comes before it is replayed");
                (from + row, LogError { message, ..error })
            });
            from += length;
        }
        first_failed.map_or(Ok(()), Err)
    }

    fn remember(&mut self, at: &TopicPartition, next: i64) -> Result<(), LogError> {
        self.replayed.positions.insert(at.clone(), next);
        if self.producer.is_none() {
            return Ok(());
        }
        self.log.admin().alter_group_offsets(&self.replayed.group, &[(at.clone(), Some(next))], TIMEOUT).map_err(|error| {
            LogError {
                message: format!(
                    "the records up to offset {next} are replayed, but the position could not be remembered in group {}, so the next replay may repeat them: {error}",
                    self.replayed.group
                ),
                ..error
            }
        })
    }

    fn keep_to_the_rate(&self) {
        let Some(rate) = self.options.rate.filter(|&rate| rate > 0 && self.producer.is_some()) else { return };
        let due = Duration::from_secs_f64(self.replayed.total() as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
    }
}

/// The letters' records as they were: key, value, time and own headers.
fn records_of(batch: &FetchedBatch, chosen: &[(usize, String, Option<i32>)]) -> Result<LogRecords, LogError> {
    let picked: Vec<_> = chosen.iter().map(|(row, ..)| *row).collect();
    let mut records =
        rows::take_records(&batch.records, &picked).map_err(|error| LogError::fatal(error.to_string()))?;
    if let Some(headers) = records.headers.take() {
        let mut own = HeaderLists::default();
        for row in 0..picked.len() {
            own.copy(Some(&headers), row, |key| !key.starts_with(PREFIX));
            own.end_record();
        }
        records.headers = Some(own.finish()).filter(|headers| !headers.values().is_empty());
    }
    let partitions = chosen.iter().any(|(_, _, partition)| partition.is_some());
    records.partitions = partitions.then(|| chosen.iter().map(|(_, _, partition)| *partition).collect::<Int32Array>());
    Ok(records)
}

/// Writes and waits; the first row that was refused, if any was.
fn deliver(
    producer: &mut dyn LogProducer,
    topic: &str,
    records: &LogRecords,
    number: u64,
) -> Result<Option<(usize, LogError)>, LogError> {
    let mut row = 0;
    while row < records.len() {
        row += producer.send(topic, records, row, number, Duration::from_secs(1))?;
    }
    producer.finish(number);
    loop {
        for completion in producer.poll(Duration::from_secs(1))? {
            if completion.token == number {
                return Ok(completion.failed.into_iter().min_by_key(|(row, _)| *row));
            }
        }
    }
}
