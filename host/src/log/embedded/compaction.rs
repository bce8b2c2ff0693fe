//! Compaction: of each key only the last record stays, and tombstones go after `delete.retention.ms`.
//!
//! Promises, as Kafka's cleaner: offsets and order of what stays do not change, the newest record of a key is
//! never removed, and neither is what was written since the run began. A run starts when more than
//! `min.cleanable.dirty.ratio` of the partition's bytes are new since the last one.
//!
//! Keys are remembered by a 128-bit hash, as in Kafka. Records without a key, which a compacted topic should
//! not hold, are removed.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use rusqlite::Connection;

use super::catalog::{Partition, Topic};
use super::record_batch::{BatchEncoder, BatchReader, Record};

/// Keys remembered in one run; beyond them the run ends earlier and goes on the next time.
const MAX_KEYS: usize = 2_000_000;
/// Smaller partitions are left alone.
const WORTH_IT: i64 = 64 << 10;

pub(super) fn compact(connection: &Connection, topic: &Topic, partition: &Partition, now: i64) -> rusqlite::Result<()> {
    let (total, new, cleaned): (i64, i64, i64) = connection
        .prepare_cached(
            "SELECT COALESCE(SUM(b.bytes), 0), COALESCE(SUM(b.bytes) FILTER (WHERE b.last_offset >= p.cleaned_to), 0), p.cleaned_to
             FROM partitions p LEFT JOIN batches b ON b.partition = p.id WHERE p.id = ?1",
        )?
        .query_row([partition.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let ratio: f64 = topic.settings.get("min.cleanable.dirty.ratio").and_then(|v| v.parse().ok()).unwrap_or(0.5);
    if new < WORTH_IT || (new as f64) < total as f64 * ratio {
        return Ok(());
    }
    let hashers = (RandomState::new(), RandomState::new());
    let hash = |key: &[u8]| (u128::from(hashers.0.hash_one(key)) << 64) | u128::from(hashers.1.hash_one(key));
    // The newest offset of each key among the new records.
    let mut newest: HashMap<u128, i64> = HashMap::new();
    let mut end = cleaned;
    for (last, data) in Batches::new(connection, partition, cleaned) {
        let data = data?;
        if newest.len() > MAX_KEYS {
            break;
        }
        if let Ok(batch) = BatchReader::new(&data) {
            let _ = batch.for_each(|record| {
                if let Some(key) = record.key {
                    newest.insert(hash(key), record.offset);
                }
                Ok(())
            });
        }
        end = last + 1;
    }
    let oldest_tombstone = now.saturating_sub(topic.number("delete.retention.ms"));
    for (last, data) in Batches::new(connection, partition, 0) {
        if last >= end {
            break;
        }
        let data = data?;
        rewrite(connection, partition, &data, |record| {
            let Some(key) = record.key else { return false };
            let replaced = newest.get(&hash(key)).is_some_and(|offset| *offset > record.offset);
            let expired = record.value.is_none() && record.offset < cleaned && record.timestamp < oldest_tombstone;
            !replaced && !expired
        })?;
    }
    connection.prepare_cached("UPDATE partitions SET cleaned_to = ?2 WHERE id = ?1")?.execute((partition.id, end))?;
    Ok(())
}

/// Replaces one batch by what `keep` keeps of it. The batch's end stays, so that readers find the next one.
fn rewrite(
    connection: &Connection,
    partition: &Partition,
    data: &[u8],
    keep: impl Fn(&super::record_batch::ReadRecord<'_>) -> bool,
) -> rusqlite::Result<()> {
    // What cannot be read is left as it is, for the reader to report.
    let Ok(batch) = BatchReader::new(data) else { return Ok(()) };
    let mut encoder = BatchEncoder::new(data.len());
    let mut removed = 0;
    let mut headers = Vec::new();
    let read = batch.for_each(|record| {
        if !keep(&record) {
            removed += 1;
            return Ok(());
        }
        headers.clear();
        record.for_each_header(|key, value| headers.push((key, value)))?;
        let delta = (record.offset - batch.base_offset()) as i32;
        encoder.push_at(
            delta,
            Record { timestamp: record.timestamp, key: record.key, value: record.value },
            headers.iter().copied(),
        );
        Ok(())
    });
    if read.is_err() || removed == 0 {
        return Ok(());
    }
    let place = (partition.id, batch.last_offset());
    if encoder.is_empty() {
        connection.prepare_cached("DELETE FROM batches WHERE partition = ?1 AND last_offset = ?2")?.execute(place)?;
        return Ok(());
    }
    let mut encoded = encoder.finish_at((batch.last_offset() - batch.base_offset()) as i32);
    super::record_batch::set_base_offset(&mut encoded.bytes, batch.base_offset());
    connection
        .prepare_cached(
            "UPDATE batches SET data = ?3, bytes = ?4, max_timestamp = ?5 WHERE partition = ?1 AND last_offset = ?2",
        )?
        .execute((place.0, place.1, &encoded.bytes[..], encoded.bytes.len() as i64, encoded.max_timestamp))?;
    Ok(())
}

/// The batches of a partition one by one, each by its own query, so that they may be changed meanwhile.
struct Batches<'a> {
    connection: &'a Connection,
    partition: i64,
    from: i64,
}

impl<'a> Batches<'a> {
    fn new(connection: &'a Connection, partition: &Partition, from: i64) -> Self {
        Self { connection, partition: partition.id, from }
    }

    fn next_row(&mut self) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
        use rusqlite::OptionalExtension;
        self.connection
            .prepare_cached("SELECT last_offset, data FROM batches WHERE partition = ?1 AND last_offset >= ?2 ORDER BY last_offset LIMIT 1")?
            .query_row((self.partition, self.from), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }
}

impl Iterator for Batches<'_> {
    type Item = (i64, rusqlite::Result<Vec<u8>>);

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_row() {
            Ok(None) => None,
            Ok(Some((last, data))) => {
                self.from = last + 1;
                Some((last, Ok(data)))
            }
            Err(error) => Some((i64::MIN, Err(error))),
        }
    }
}
