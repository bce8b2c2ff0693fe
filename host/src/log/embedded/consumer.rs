//! [`LogConsumer`] on the embedded log.
//!
//! Promises: records of a partition in offset order and once a position, from the moment of their commit;
//! nothing from before a `seek`, `pause` or `unassign`. A waiting consumer sleeps until a commit or a
//! rebalance wakes it.
//!
//! A stored batch is decoded once; what a call has no room for is kept and given out by the next ones
//! without a copy. So a consumer holds at most one stored batch a partition.
//!
//! Fails: a damaged batch is an error that names partition and offset; the reader does not go past it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::run_builder::RunBuilder;
use super::super::{
    ClientSettings, CommitError, CommittedOffset, ConsumerEvent, FetchedBatch, GroupMetadata, LogConsumer, LogError,
    TopicPartition,
};
use super::Inner;
use super::admin::{commits_of, store_commits, store_offsets};
use super::catalog::Partition;
use super::database::from_sqlite;
use super::groups::GroupEvent;
use super::record_batch::BatchReader;

/// Stands for the first offset there is.
const BEGINNING: i64 = -2;
/// Small stored batches are joined up to this size.
const JOIN_BYTES: usize = 1 << 20;

/// Where to begin without a committed offset, or where it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    Earliest,
    Latest,
    None,
}

/// A partition being read.
#[derive(Debug)]
struct Reading {
    /// The next offset to be delivered.
    position: i64,
    /// Decoded and not delivered: the batch and its next row.
    ahead: Option<(FetchedBatch, usize)>,
    /// The end that was told last.
    told_end: Option<i64>,
}

impl Reading {
    fn at(position: i64) -> Self {
        Self { position, ahead: None, told_end: None }
    }
}

pub(super) struct EmbeddedConsumer {
    inner: Arc<Inner>,
    member: Option<(String, u64)>,
    group: Option<String>,
    reset: Reset,
    /// Whether ends are told.
    ends: bool,
    readings: BTreeMap<TopicPartition, Reading>,
    paused: BTreeSet<TopicPartition>,
    /// Told as revoked or lost: nothing more is delivered from them.
    revoked: BTreeSet<TopicPartition>,
    /// The partition delivered last; the next call begins after it.
    last: Option<TopicPartition>,
}

impl EmbeddedConsumer {
    /// A member of a group (which it has joined), or a reader.
    pub(super) fn new(inner: Arc<Inner>, settings: &ClientSettings, member: Option<u64>) -> Result<Self, LogError> {
        let reset = match settings.get("auto.offset.reset").map(String::as_str) {
            None | Some("earliest" | "smallest" | "beginning") => Reset::Earliest,
            Some("latest" | "largest" | "end") => Reset::Latest,
            Some("none" | "error") => Reset::None,
            Some(other) => {
                return Err(LogError::fatal(format!(
                    "client setting auto.offset.reset={other}: earliest, latest or none is wanted"
                )));
            }
        };
        let group = settings.get("group.id").cloned();
        let member = member.and_then(|id| Some((group.clone()?, id)));
        Ok(Self {
            inner,
            member,
            group,
            reset,
            ends: settings.get("enable.partition.eof").is_some_and(|value| value == "true"),
            readings: BTreeMap::new(),
            paused: BTreeSet::new(),
            revoked: BTreeSet::new(),
            last: None,
        })
    }

    fn group_events(&mut self) -> Result<Vec<ConsumerEvent>, LogError> {
        let Some((group, member)) = &self.member else { return Ok(Vec::new()) };
        let topics = self.inner.catalog.topics().iter().map(|t| (t.name.clone(), t.partitions.len() as i32)).collect();
        let (events, moved) = {
            let mut groups = self.inner.groups();
            let events = groups.poll(group, *member, &topics, Instant::now())?;
            (events, groups.take_moved(group))
        };
        if moved {
            // Others have something to be told now.
            self.inner.catalog.notify();
        }
        Ok(events
            .into_iter()
            .map(|event| match event {
                GroupEvent::Assigned(partitions) => ConsumerEvent::Assigned(partitions),
                GroupEvent::Revoked(partitions) => {
                    self.revoked.extend(partitions.iter().cloned());
                    ConsumerEvent::Revoked(partitions)
                }
                GroupEvent::Lost(partitions) => {
                    self.revoked.extend(partitions.iter().cloned());
                    ConsumerEvent::Lost(partitions)
                }
            })
            .collect())
    }

    fn fetch(&mut self, mut records: usize, mut bytes: usize) -> Result<Vec<ConsumerEvent>, LogError> {
        let mut order: Vec<TopicPartition> = self.readings.keys().cloned().collect();
        if let Some(last) = &self.last {
            let begin = order.partition_point(|p| p <= last);
            order.rotate_left(begin);
        }
        let mut events = Vec::new();
        for at in order {
            if records == 0 || bytes == 0 {
                break;
            }
            if self.paused.contains(&at) || self.revoked.contains(&at) {
                continue;
            }
            let Some(partition) = self.inner.catalog.partition(&at) else { continue };
            let (inner, reset) = (&self.inner, self.reset);
            let Some(reading) = self.readings.get_mut(&at) else { continue };
            if reading.ahead.is_none() {
                reading.load(inner, reset, &at, &partition, Some(records))?;
            }
            let Some(batch) = reading.take(records, bytes) else {
                if self.ends && reading.position >= partition.next() && reading.told_end != Some(reading.position) {
                    reading.told_end = Some(reading.position);
                    events.push(ConsumerEvent::End(at, reading.position));
                }
                continue;
            };
            records -= batch.records.len();
            bytes = bytes.saturating_sub(batch.records.bytes());
            events.push(ConsumerEvent::Batch(Box::new(batch)));
            self.last = Some(at);
        }
        Ok(events)
    }
}

impl Reset {
    fn position(self, at: &TopicPartition, partition: Option<&Arc<Partition>>) -> Result<i64, LogError> {
        match self {
            Reset::Earliest => Ok(partition.map_or(0, |p| p.first())),
            Reset::Latest => Ok(partition.map_or(0, |p| p.next())),
            Reset::None => Err(LogError {
                message: format!(
                    "reading {}-{}: no committed offset, or it is gone, and auto.offset.reset is none: alter the group's offsets, or set earliest or latest",
                    at.topic, at.partition
                ),
                retriable: false,
                code: Some("_AUTO_OFFSET_RESET"),
            }),
        }
    }
}

impl Reading {
    /// Decodes what is stored at the position: one batch, or several up to `join` records.
    fn load(
        &mut self,
        inner: &Inner,
        reset: Reset,
        at: &TopicPartition,
        partition: &Arc<Partition>,
        join: Option<usize>,
    ) -> Result<(), LogError> {
        // Taken before the query: what is committed later may be seen, or wakes the caller.
        let end = partition.next();
        if self.position < partition.first() || self.position > end {
            let position = reset.position(at, Some(partition))?;
            tracing::warn!(
                topic = &*at.topic,
                partition = at.partition,
                from = self.position,
                to = position,
                "the position is out of range and is reset"
            );
            self.position = position;
        }
        if self.position >= end {
            return Ok(());
        }
        let operation = || format!("reading {}-{} at offset {}", at.topic, at.partition, self.position);
        let mut run: Option<RunBuilder> = None;
        let mut next = None;
        let damaged = inner.database.read(&operation(), |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT data FROM batches WHERE partition = ?1 AND last_offset >= ?2 ORDER BY last_offset LIMIT 1024",
            )?;
            let mut rows = statement.query((partition.id, self.position))?;
            while let Some(row) = rows.next()? {
                let data = row.get_ref(0)?.as_blob().unwrap_or_default();
                let run = run.get_or_insert_with(|| RunBuilder::new(at.clone(), 0, data.len()));
                if run.len() > 0 && (run.len() >= join.unwrap_or(1) || run.bytes() + data.len() > JOIN_BYTES) {
                    break;
                }
                let read = BatchReader::new(data)
                    .and_then(|batch| batch.read_into(run, self.position).map(|()| batch.last_offset() + 1));
                match read {
                    Ok(after) => next = Some(after),
                    Err(error) => return Ok(Some(error)),
                }
            }
            Ok(None)
        })?;
        if let Some(error) = damaged {
            // Rows of the damaged batch may be in the run: give out what is before it, by itself.
            if join.is_some() {
                return self.load(inner, reset, at, partition, None);
            }
            return Err(LogError::fatal(format!(
                "{}: {error}: the file is damaged: restore it, or seek past this batch",
                operation()
            )));
        }
        // Without a batch there is only what compaction has removed.
        self.position = next.unwrap_or(end);
        self.ahead = run.filter(|run| run.len() > 0).map(|run| (run.finish(), 0));
        Ok(())
    }

    /// The next rows within the bounds, at least one.
    fn take(&mut self, records: usize, bytes: usize) -> Option<FetchedBatch> {
        let (batch, row) = self.ahead.as_mut()?;
        let left = batch.records.len() - *row;
        let count = batch.records.rows_within(*row, bytes).clamp(1, records).min(left);
        if *row == 0 && count == left {
            return self.ahead.take().map(|(batch, _)| batch);
        }
        let part = FetchedBatch {
            topic_partition: batch.topic_partition.clone(),
            records: batch.records.slice(*row, count),
            offsets: batch.offsets.slice(*row, count),
        };
        *row += count;
        if count == left {
            self.ahead = None;
        }
        Some(part)
    }

    /// The next offset to be delivered.
    fn next(&self) -> i64 {
        self.ahead.as_ref().map_or(self.position, |(batch, row)| batch.offsets.value(*row))
    }
}

impl LogConsumer for EmbeddedConsumer {
    fn poll(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Vec<ConsumerEvent>, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            let version = self.inner.catalog.version();
            let mut events = self.group_events()?;
            if events.is_empty() {
                events = self.fetch(max_records.max(1), max_bytes.max(1))?;
            }
            if !events.is_empty() || Instant::now() >= deadline {
                return Ok(events);
            }
            let group = self.member.as_ref().and_then(|(group, _)| self.inner.groups().deadline(group));
            self.inner.catalog.wait(version, group.map_or(deadline, |d| d.min(deadline)));
        }
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        let unknown: Vec<_> =
            partitions.iter().filter(|(_, offset)| offset.is_none()).map(|(p, _)| p.clone()).collect();
        let committed: BTreeMap<_, _> = match self.group {
            Some(_) if !unknown.is_empty() => self.committed(&unknown, Duration::ZERO)?.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        for (at, offset) in partitions {
            let position = match offset.or(committed.get(at).copied().flatten()) {
                Some(BEGINNING) => self.inner.catalog.partition(at).map_or(0, |partition| partition.first()),
                Some(offset) => offset,
                None => self.reset.position(at, self.inner.catalog.partition(at).as_ref())?,
            };
            self.revoked.remove(at);
            self.readings.insert(at.clone(), Reading::at(position));
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        for partition in partitions {
            self.readings.remove(partition);
            self.paused.remove(partition);
            self.revoked.remove(partition);
        }
        if let Some((group, member)) = &self.member {
            self.inner.groups().release(group, *member, partitions);
            self.inner.catalog.notify();
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        self.paused.retain(|p| !partitions.contains(p));
        Ok(())
    }

    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), LogError> {
        match self.readings.get_mut(partition) {
            Some(reading) => *reading = Reading::at(offset),
            None => {
                return Err(LogError::fatal(format!(
                    "seeking {}-{}: it is not assigned",
                    partition.topic, partition.partition
                )));
            }
        }
        Ok(())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let Some(group) = self.group.clone() else {
            return Err(LogError::fatal("committing offsets: the consumer has no group.id"));
        };
        if let Some((group, member)) = &self.member {
            self.inner.groups().check_owner(group, *member, offsets.iter().map(|(p, _)| p))?;
        }
        let offsets: Vec<_> = offsets.iter().map(|(p, offset)| (p.clone(), Some(*offset))).collect();
        self.inner.writer.change(move |connection| {
            store_offsets(connection, &group, &offsets)
                .map_err(|error| from_sqlite(&error, &format!("committing offsets of group {group}")))?;
            Ok(((), false))
        })
    }

    fn committed(
        &mut self,
        partitions: &[TopicPartition],
        _timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
        let Some(group) = &self.group else {
            return Err(LogError::fatal("reading committed offsets: the consumer has no group.id"));
        };
        self.inner.database.read(&format!("reading committed offsets of group {group}"), |connection| {
            use rusqlite::OptionalExtension;
            let mut statement = connection.prepare_cached(
                "SELECT next_offset FROM group_offsets WHERE consumer_group = ?1 AND topic = ?2 AND partition = ?3",
            )?;
            partitions
                .iter()
                .map(|p| {
                    Ok((p.clone(), statement.query_row((group, &*p.topic, p.partition), |row| row.get(0)).optional()?))
                })
                .collect()
        })
    }

    fn commit_with(&mut self, offsets: &[CommittedOffset]) -> Result<(), CommitError> {
        let Some((group, member)) = self.member.clone() else {
            return Err(CommitError::Refused(LogError::fatal("committing offsets: this reader is in no group")));
        };
        let (inner, offsets) = (self.inner.clone(), offsets.to_vec());
        let changed = self.inner.writer.change(move |connection| {
            // Looked at where it is written: whoever has the partitions next reads after it, or this is refused.
            let owned = inner.groups().check_owner(&group, member, offsets.iter().map(|commit| &commit.partition));
            if owned.is_ok() {
                store_commits(connection, &group, &offsets)
                    .map_err(|error| from_sqlite(&error, &format!("committing offsets of group {group}")))?;
            }
            Ok((owned, false))
        });
        // What fails is rolled back, as far as the disk can be believed.
        changed.map_err(CommitError::InDoubt)?.map_err(CommitError::Refused)
    }

    fn committed_with(
        &mut self,
        partitions: &[TopicPartition],
        _timeout: Duration,
    ) -> Result<Vec<CommittedOffset>, LogError> {
        let Some(group) = &self.group else {
            return Err(LogError::fatal("reading committed offsets: the consumer has no group.id"));
        };
        // What former owners have under way is there then.
        self.inner.writer.change(|_| Ok(((), false)))?;
        let mut commits = commits_of(&self.inner.database, group)?;
        commits.retain(|commit| partitions.contains(&commit.partition));
        Ok(commits)
    }

    fn lag(&mut self) -> Vec<(TopicPartition, i64)> {
        let catalog = &self.inner.catalog;
        self.readings
            .iter()
            .filter_map(|(at, reading)| Some((at.clone(), (catalog.partition(at)?.next() - reading.next()).max(0))))
            .collect()
    }

    fn group_metadata(&mut self) -> Result<GroupMetadata, LogError> {
        match &self.member {
            Some((group, member)) => Ok(super::transactions::membership(group, *member)),
            None => Err(LogError::fatal("reading the group membership: this reader is in no group")),
        }
    }

    fn close(self: Box<Self>, _timeout: Duration) -> Result<(), LogError> {
        // Leaving is in `drop`, which a task that panicked also runs.
        Ok(())
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        if let Some((group, member)) = &self.member {
            self.inner.groups().leave(group, *member, Instant::now());
            self.inner.catalog.notify();
        }
    }
}
