//! A shard's SQLite file: its entries, and up to where in the changelog they are.
//!
//! One connection writes (the saver's), another reads. Whoever opens the file becomes its owner; an earlier owner's writes fail from then
//! on. Commits do not wait for the disk (`synchronous=NORMAL`): after a power failure the file is an earlier state of itself, and the
//! changelog has the rest.
//!
//! What is saved at once is a [segment](super::segment), a row for each of its blocks: a row for each entry, in the order of keys, would
//! write every page of the table again and again. Segments are merged when a few have come together that are as large as the next one.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::{Array, BinaryArray};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::changelog::TOMBSTONES;
use super::merge::{self, Merge, Merged};
use super::reader::Reader;
use super::segment::{Builder, Entry, Pages, Segment, Segments, due_of};
use super::{Shard, StateError};
use crate::task::control::now_ms;

const VERSION: i64 = 2;
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (id INTEGER PRIMARY KEY, age INTEGER NOT NULL, entries INTEGER NOT NULL, blocks BLOB NOT NULL, filter BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS dues (id INTEGER PRIMARY KEY, data BLOB NOT NULL);";
/// A file that was not written for so long is not trusted: tombstones of entries that it has may be gone from the changelog.
pub(super) const MAX_AGE: Duration = TOMBSTONES.saturating_sub(Duration::from_secs(3600));
/// Merged at once at least: fewer would be merged too often.
const WIDTH: usize = 4;
/// As many as there may be: each is asked for keys that it may have.
const MOST: usize = 24;
/// How often in a row a merge gives way to saves.
const WAYS: u32 = 3;

/// Who waits for the thread that merges.
#[derive(Debug, Default)]
pub struct Wanted {
    closing: AtomicUsize,
    saving: AtomicUsize,
}

impl Wanted {
    /// Somebody waits for the file to be closed, until the guard is dropped.
    pub fn to_close(&self) -> Waits<'_> {
        Waits::of(&self.closing)
    }

    /// Somebody waits for changes to be saved.
    pub fn to_save(&self) -> Waits<'_> {
        Waits::of(&self.saving)
    }

    /// Whether somebody waits.
    pub fn any(&self) -> bool {
        self.is_to_close() || self.is_to_save()
    }

    fn is_to_close(&self) -> bool {
        self.closing.load(Ordering::Relaxed) > 0
    }

    fn is_to_save(&self) -> bool {
        self.saving.load(Ordering::Relaxed) > 0
    }
}

/// Somebody waits.
#[must_use]
pub struct Waits<'w>(&'w AtomicUsize);

impl<'w> Waits<'w> {
    fn of(count: &'w AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a file says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileState {
    /// The next changelog offset to apply; `None`: nothing is known.
    pub next_offset: Option<i64>,
    /// When the file had everything that the changelog had, in milliseconds since the epoch.
    pub saved_at: Option<i64>,
    /// Whether there are segments.
    pub has_entries: bool,
}

impl FileState {
    /// Where to go on reading a changelog that has these offsets, the first and the next one. `None`: the file is of no use.
    pub fn usable(&self, (first, end): (i64, i64)) -> Option<i64> {
        self.next_offset.filter(|next| {
            let fresh = self.saved_at.is_some_and(|at| now_ms() - at < MAX_AGE.as_millis() as i64);
            (first..=end).contains(next) && (fresh || *next == end)
        })
    }
}

/// The segments that the writer has written, for the reader.
#[derive(Default)]
pub struct Published(Mutex<Segments>);

impl Published {
    /// As they are now.
    pub fn now(&self) -> Segments {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, segments: Segments) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = segments;
    }
}

/// The connection that writes.
pub struct Writer {
    connection: Connection,
    path: String,
    owner: i64,
    published: Arc<Published>,
    /// The number of the next segment. None is used twice.
    next: i64,
    /// How often in a row a merge was given up.
    gave_way: u32,
}

/// Opens the file, made if need be, and takes it over.
pub fn open(path: &Path, connector: &str, shard: Shard) -> Result<(Writer, Reader, FileState), StateError> {
    let path = path.display().to_string();
    let sqlite = |error| StateError::sqlite("opening state", &path, error);
    let mut connection = connect(&path, 4096).map_err(sqlite)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    if version > VERSION {
        return Err(StateError::new(format!(
            "the state in {path} is of version {version}, and this worker knows {VERSION}: a newer one has written it"
        )));
    }
    let owner: i64 = rand::random();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
    (|| {
        if version < VERSION {
            // Another layout: the changelog has it all.
            transaction.execute_batch("DROP TABLE IF EXISTS entries; DROP TABLE IF EXISTS meta;")?;
        }
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        set(&transaction, "owner", owner)?;
        // For whoever looks into the file.
        transaction
            .execute("INSERT OR REPLACE INTO meta VALUES ('connector', ?1), ('shard', ?2)", params![connector, shard])
    })()
    .map_err(sqlite)?;
    transaction.commit().map_err(sqlite)?;
    let segments = segments(&connection, &path)?;
    let state = (|| {
        Ok(FileState {
            next_offset: get(&connection, "changelog.next")?,
            saved_at: get(&connection, "saved.at")?,
            has_entries: !segments.is_empty(),
        })
    })()
    .map_err(sqlite)?;
    let published = Arc::new(Published::default());
    let next = segments.iter().map(|segment| segment.id).max().unwrap_or(0) + 1;
    published.set(segments);
    let reader = Reader::open(&path, published.clone())?;
    Ok((Writer { connection, path, owner, published, next, gave_way: 0 }, reader, state))
}

fn segments(connection: &Connection, path: &str) -> Result<Segments, StateError> {
    let sqlite = |error| StateError::sqlite("opening state", path, error);
    let mut statement =
        connection.prepare("SELECT id, age, entries, blocks, filter FROM segments ORDER BY age").map_err(sqlite)?;
    let mut rows = statement.query([]).map_err(sqlite)?;
    let mut segments = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        let stored = (|| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get_ref(3)?, row.get_ref(4)?)))();
        let (id, age, entries, blocks, filter) = stored.map_err(sqlite)?;
        let bytes = |value: rusqlite::types::ValueRef<'_>| value.as_blob().unwrap_or_default().to_vec();
        segments.push(Arc::new(Segment::restore(id, age, entries, &bytes(blocks), &bytes(filter))?));
    }
    Ok(Arc::new(segments))
}

pub(super) fn connect(path: &str, cache_kb: i64) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -cache_kb)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn set(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![name, value]).map(drop)
}

/// What is saved at once, of one shard.
pub struct Save<'a> {
    /// Entries; each key once, sorted; `None` removes.
    pub rows: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// The changelog's next offset, where it has moved.
    pub next_offset: Option<i64>,
    /// Now, in milliseconds since the epoch; `None`: the changelog has more, which the file lacks.
    pub now_ms: Option<i64>,
}

/// Writes parts of a segment in a transaction.
struct Rows<'t> {
    transaction: &'t Transaction<'t>,
    path: &'t str,
    segment: i64,
}

/// The row of a part of a segment.
pub(super) fn row_id(segment: i64, number: u32) -> i64 {
    (segment << 32) | i64::from(number)
}

impl Pages for Rows<'_> {
    fn write(&mut self, dues: bool, number: u32, bytes: &[u8]) -> Result<(), StateError> {
        let insert = match dues {
            true => "INSERT INTO dues VALUES (?1, ?2)",
            false => "INSERT INTO blocks VALUES (?1, ?2)",
        };
        let id = row_id(self.segment, number);
        let written = self.transaction.prepare_cached(insert).and_then(|mut insert| insert.execute(params![id, bytes]));
        written.map(drop).map_err(|error| StateError::sqlite("saving state", self.path, error))
    }
}

impl Writer {
    /// Everything or nothing.
    pub fn save(&mut self, save: &Save<'_>) -> Result<(), StateError> {
        let known = self.published.now();
        let Self { connection, path, owner, next, .. } = self;
        let path: &str = path;
        let sqlite = |error| StateError::sqlite("saving state", path, error);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        check_owner(&transaction, path, *owner)?;
        let mut segments = Vec::new();
        if !save.rows.is_empty() {
            let id = *next;
            *next += 1;
            let mut rows = Rows { transaction: &transaction, path, segment: id };
            let scanned = save.rows.iter().any(|(key, _)| merge::is_scanned(key));
            let mut builder = Builder::new(id, id, save.rows.len(), scanned, &mut rows);
            let mut dues = Vec::new();
            for &(key, value) in save.rows {
                let number = builder.push(Entry { key, value })?;
                dues.extend(due_of(value)?.map(|due| (due, number)));
            }
            dues.sort_unstable();
            for (due, number) in dues {
                builder.due(due, number)?;
            }
            segments.extend(known.iter().cloned());
            segments.push(insert(&transaction, path, builder.finish()?)?);
        }
        if let Some(next) = save.next_offset {
            set(&transaction, "changelog.next", next).map_err(sqlite)?;
        }
        if let Some(now_ms) = save.now_ms {
            set(&transaction, "saved.at", now_ms).map_err(sqlite)?;
        }
        transaction.commit().map_err(sqlite)?;
        if !segments.is_empty() {
            self.published.set(Arc::new(segments));
        }
        Ok(())
    }

    /// Merges segments, if a few have come together; answers whether there may be more to merge. Nothing changes but how long it takes to
    /// find an entry. Nothing at all, when `wanted` says in between that somebody waits; but segments are not left to come together for ever.
    pub fn tidy(&mut self, wanted: &Wanted) -> Result<bool, StateError> {
        let known = self.published.now();
        let patient = self.gave_way < WAYS;
        let interrupted = || wanted.is_to_close() || (patient && wanted.is_to_save());
        if interrupted() {
            return Ok(true);
        }
        let from = known.len() - group(&known.iter().map(|segment| segment.entries).collect::<Vec<_>>());
        if from == known.len() {
            return Ok(false);
        }
        let Self { connection, path, owner, next, .. } = self;
        let path: &str = path;
        let sqlite = |error| StateError::sqlite("tidying state", path, error);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        check_owner(&transaction, path, *owner)?;
        let (id, age) = (*next, known[known.len() - 1].age);
        *next += 1;
        let mut left = known[..from].to_vec();
        {
            let mut rows = Rows { transaction: &transaction, path, segment: id };
            let merged = Merge { segments: &known[from..], oldest: from == 0, interrupted: &interrupted };
            match merged.into_segment(&transaction, path, id, age, &mut rows)? {
                Merged::Segment(merged) => left.push(insert(&transaction, path, *merged)?),
                Merged::Nothing => {}
                // The transaction comes to nothing.
                Merged::Interrupted => {
                    self.gave_way += 1;
                    return Ok(true);
                }
            }
        }
        for segment in &known[from..] {
            let (first, last) = (row_id(segment.id, 0), row_id(segment.id, u32::MAX));
            for table in ["blocks", "dues"] {
                let delete = format!("DELETE FROM {table} WHERE id BETWEEN ?1 AND ?2");
                transaction.execute(&delete, [first, last]).map_err(sqlite)?;
            }
            transaction.execute("DELETE FROM segments WHERE id = ?1", [segment.id]).map_err(sqlite)?;
        }
        transaction.commit().map_err(sqlite)?;
        self.published.set(Arc::new(left));
        self.gave_way = 0;
        Ok(true)
    }

    /// Forgets everything, to be restored in full, from now on.
    pub fn clear(&mut self, now_ms: i64) -> Result<(), StateError> {
        let Self { connection, path, owner, .. } = self;
        let path: &str = path;
        let sqlite = |error| StateError::sqlite("clearing state", path, error);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        check_owner(&transaction, path, *owner)?;
        let forget = "DELETE FROM segments; DELETE FROM blocks; DELETE FROM dues; DELETE FROM meta WHERE name = 'changelog.next';";
        transaction.execute_batch(forget).map_err(sqlite)?;
        set(&transaction, "saved.at", now_ms).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        self.published.set(Segments::default());
        Ok(())
    }

    /// Leaves one tidy file behind. A failure costs nothing: the log is read at the next opening.
    pub fn close(self) {
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
    }
}

fn check_owner(transaction: &Transaction<'_>, path: &str, owner: i64) -> Result<(), StateError> {
    match get(transaction, "owner").map_err(|error| StateError::sqlite("saving state", path, error))? {
        Some(now) if now == owner => Ok(()),
        _ => Err(StateError::taken_over(path)),
    }
}

fn insert(
    transaction: &Transaction<'_>,
    path: &str,
    (segment, blocks, filter): (Segment, Vec<u8>, Vec<u8>),
) -> Result<Arc<Segment>, StateError> {
    let inserted = transaction.execute(
        "INSERT INTO segments VALUES (?1, ?2, ?3, ?4, ?5)",
        params![segment.id, segment.age, segment.entries, blocks, filter],
    );
    inserted.map_err(|error| StateError::sqlite("saving state", path, error))?;
    Ok(Arc::new(segment))
}

/// How many of the newest segments, told by their sizes from the oldest on, are to be merged: each older one as long as it is not larger
/// than all newer ones together, so that an entry is written again only when it is one of twice as many.
fn group(sizes: &[u32]) -> usize {
    let (mut sum, mut count) = (0_u64, 0);
    for size in sizes.iter().rev().map(|size| u64::from(*size)) {
        if count > 0 && size > sum && sizes.len() < MOST {
            break;
        }
        sum += size;
        count += 1;
    }
    if count >= WIDTH { count } else { 0 }
}

/// The last write of each key, sorted. `changes` are in the order of writing.
pub fn latest<'a>(
    changes: impl Iterator<Item = (&'a BinaryArray, &'a BinaryArray)>,
) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
    let mut rows: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
    for (keys, values) in changes {
        rows.extend((0..keys.len()).map(|row| (keys.value(row), values.is_valid(row).then(|| values.value(row)))));
    }
    // Most keys begin alike; the eight bytes behind that decide, without looking at the keys.
    let same = rows.first().map_or(0, |(first, _)| {
        rows.iter()
            .fold(first.len(), |same, (key, _)| first[..same].iter().zip(*key).take_while(|(a, b)| a == b).count())
    });
    let word = |key: &[u8]| {
        let mut word = [0; 8];
        let bytes = &key[same..key.len().min(same + 8)];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_be_bytes(word)
    };
    let mut order: Vec<(u64, u32)> = (0..).zip(&rows).map(|(number, (key, _))| (word(key), number)).collect();
    // Of writes of one key, the order in which they came decides.
    order.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| rows[a.1 as usize].0.cmp(rows[b.1 as usize].0)).then(a.1.cmp(&b.1))
    });
    let mut latest: Vec<(&[u8], Option<&[u8]>)> = Vec::with_capacity(rows.len());
    for (_, number) in order {
        let (key, value) = rows[number as usize];
        match latest.last_mut() {
            Some(last) if last.0 == key => last.1 = value,
            _ => latest.push((key, value)),
        }
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_one_owns_is_not_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.db");
        let (mut earlier, _, _) = open(&path, "c", 0).unwrap();
        let (mut owner, reader, _) = open(&path, "c", 0).unwrap();
        owner.save(&Save { rows: &[(b"\x01a", Some(b"\0x"))], next_offset: Some(7), now_ms: None }).unwrap();
        assert!(earlier.clear(1).unwrap_err().taken_over);
        assert!(reader.has_entries().unwrap());
        assert_eq!(get(&owner.connection, "changelog.next").unwrap(), Some(7));
        owner.clear(1).unwrap();
        assert!(!reader.has_entries().unwrap());
        assert_eq!(get(&owner.connection, "changelog.next").unwrap(), None);
    }

    #[test]
    fn a_merge_gives_way_and_is_done_later() {
        let directory = tempfile::tempdir().unwrap();
        let (mut writer, reader, _) = open(&directory.path().join("0.db"), "c", 0).unwrap();
        for key in 0..4_u8 {
            let key = [1, key];
            writer.save(&Save { rows: &[(&key, Some(b"\0x"))], next_offset: None, now_ms: None }).unwrap();
        }
        let wanted = Wanted::default();
        let waits = wanted.to_close();
        assert!(writer.tidy(&wanted).unwrap());
        assert_eq!(writer.published.now().len(), 4);
        drop(waits);
        // Also in the middle.
        let known = writer.published.now();
        let transaction = writer.connection.transaction().unwrap();
        let asked = std::cell::Cell::new(0);
        let interrupted = || asked.replace(asked.get() + 1) == 2;
        let mut rows = Rows { transaction: &transaction, path: "", segment: 9 };
        let merge = Merge { segments: &known, oldest: true, interrupted: &interrupted };
        assert!(matches!(merge.into_segment(&transaction, "", 9, 9, &mut rows).unwrap(), Merged::Interrupted));
        drop(transaction);
        let _waits = wanted.to_save();
        assert!(writer.tidy(&wanted).unwrap());
        assert_eq!(writer.published.now().len(), 4);
        // Not for ever.
        writer.gave_way = WAYS;
        assert!(writer.tidy(&wanted).unwrap());
        assert_eq!(writer.published.now().len(), 1);
        assert_eq!(reader.range(b"", &[255; 4]).unwrap().len(), 4);
        assert_eq!(writer.gave_way, 0);
    }

    #[test]
    fn segments_are_merged_with_those_of_their_size() {
        assert_eq!(group(&[]), 0);
        assert_eq!(group(&[1, 1, 1]), 0);
        assert_eq!(group(&[1, 1, 1, 1]), 4);
        assert_eq!(group(&[8, 1, 1, 1]), 0);
        assert_eq!(group(&[8, 4, 1, 1, 1, 1]), 6);
        assert_eq!(group(&[9, 1, 1, 1, 1]), 4);
        // However large they are, there are not too many.
        assert!(group(&(1..30).rev().map(|power| 1 << power).collect::<Vec<_>>()) > 4);
    }
}
