//! Deletes what a topic need no longer keep: batches whose newest record is older than `retention.ms`, and
//! the oldest ones beyond `retention.bytes`, for topics whose `cleanup.policy` says delete.
//!
//! Runs on the writing thread between transactions, a few batches at a time, so that producers wait for
//! milliseconds at most. Freed pages are used again; the file does not shrink.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::catalog::{Catalog, Partition, Topic};
use super::compaction;

const INTERVAL: Duration = Duration::from_secs(60);
/// Looked at earlier when so much was written.
const BYTES: usize = 64 << 20;
/// Batches deleted in one transaction.
const STEP: usize = 32;

#[derive(Debug)]
pub(super) struct Retention {
    last: Instant,
    written: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { last: Instant::now(), written: 0 }
    }
}

impl Retention {
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// How long the writing thread may sleep.
    pub(super) fn wait(&self) -> Option<Duration> {
        Some(INTERVAL.saturating_sub(self.last.elapsed()).max(Duration::from_millis(1)))
    }

    pub(super) fn due(&self) -> bool {
        self.written >= BYTES || self.last.elapsed() >= INTERVAL
    }

    pub(super) fn run(&mut self, connection: &Connection, catalog: &Catalog) {
        for topic in catalog.topics() {
            for partition in topic.partitions.iter().filter(|p| p.first() < p.next()) {
                if topic.has_policy("delete")
                    && let Err(error) = expire(connection, &topic, partition, now())
                {
                    tracing::warn!(topic = &*topic.name, %error, "old records could not be deleted; they will be tried again");
                }
                if topic.has_policy("compact")
                    && let Err(error) = compaction::compact(connection, &topic, partition, now())
                {
                    tracing::warn!(topic = &*topic.name, %error, "a partition could not be compacted; it will be tried again");
                }
            }
        }
        if let Err(error) = sweep(connection) {
            tracing::warn!(%error, "records of deleted topics could not be removed; they will be tried again");
        }
        self.last = Instant::now();
        self.written = 0;
    }
}

/// Removes the records of deleted topics.
fn sweep(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("SELECT id FROM deleted_partitions")?;
    let deleted = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    for partition in deleted {
        let mut delete = connection.prepare_cached(
            "DELETE FROM batches WHERE id IN (SELECT id FROM batches WHERE partition = ?1 ORDER BY last_offset LIMIT ?2)",
        )?;
        while delete.execute((partition, STEP as i64))? == STEP {}
        connection.prepare_cached("DELETE FROM deleted_partitions WHERE id = ?1")?.execute([partition])?;
    }
    Ok(())
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Deletes what is before an offset. A batch that goes on behind it stays, and is not read from its beginning.
pub(super) fn delete_before(connection: &Connection, partition: i64, offset: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM batches WHERE partition = ?1 AND last_offset < ?2")?
        .execute((partition, offset))?;
    connection
        .prepare_cached(
            "UPDATE partitions SET first_offset = MAX(first_offset, ?2) WHERE id = ?1 AND next_offset >= ?2",
        )?
        .execute((partition, offset))?;
    Ok(())
}

/// Deletes from the front of a partition.
pub(super) fn expire(connection: &Connection, topic: &Topic, partition: &Partition, now: i64) -> rusqlite::Result<()> {
    let (age, size) = (topic.number("retention.ms"), topic.number("retention.bytes"));
    let oldest = if age >= 0 { now.saturating_sub(age) } else { i64::MIN };
    let mut surplus = 0;
    if size >= 0 {
        let total: i64 = connection
            .prepare_cached("SELECT COALESCE(SUM(bytes), 0) FROM batches WHERE partition = ?1")?
            .query_row([partition.id], |row| row.get(0))?;
        surplus = total - size;
    }
    loop {
        let mut through = None;
        let mut count = 0;
        {
            let mut statement = connection
                .prepare_cached("SELECT last_offset, max_timestamp, bytes FROM batches WHERE partition = ?1 ORDER BY last_offset LIMIT ?2")?;
            let mut rows = statement.query((partition.id, STEP as i64))?;
            while let Some(row) = rows.next()? {
                let (last, newest, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                if newest >= oldest && surplus < bytes {
                    break;
                }
                surplus -= bytes;
                through = Some(last);
                count += 1;
            }
        }
        let Some(through) = through else { return Ok(()) };
        let transaction = connection.unchecked_transaction()?;
        transaction
            .prepare_cached("DELETE FROM batches WHERE partition = ?1 AND last_offset <= ?2")?
            .execute((partition.id, through))?;
        transaction
            .prepare_cached("UPDATE partitions SET first_offset = MAX(first_offset, ?2) WHERE id = ?1")?
            .execute((partition.id, through + 1))?;
        transaction.commit()?;
        partition.starts(through + 1);
        if count < STEP {
            return Ok(());
        }
    }
}
