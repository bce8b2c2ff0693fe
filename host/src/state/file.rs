//! A shard's SQLite file: its entries, and up to where in the changelog they are.
//!
//! One connection writes (the saver's), others read. Whoever opens the file becomes its owner; an earlier owner's writes fail from then on.
//! Commits do not wait for the disk (`synchronous=NORMAL`): after a power failure the file is an earlier state of itself, and the
//! changelog has the rest.

use std::path::Path;
use std::time::Duration;

use arrow_array::{Array, BinaryArray};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::changelog::{NEVER, read_value};
use super::{Shard, StateError};

const VERSION: i64 = 1;
const ENTRIES: &str =
    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, due INTEGER, value BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_due ON entries (due) WHERE due IS NOT NULL;";
const META: &str = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;";

/// What a file says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileState {
    /// The next changelog offset to apply; `None`: nothing is known.
    pub next_offset: Option<i64>,
    /// When the file had everything that the changelog had, in milliseconds since the epoch.
    pub saved_at: Option<i64>,
    /// Whether there are entries.
    pub has_entries: bool,
}

/// The connection that writes.
pub struct Writer {
    connection: Connection,
    path: String,
    owner: i64,
}

/// A connection that reads.
pub struct Reader {
    connection: Connection,
    path: String,
}

/// An entry as it is stored: key, payload, time.
pub type Row = (Vec<u8>, Vec<u8>, i64);

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
        transaction.execute_batch(ENTRIES)?;
        transaction.execute_batch(META)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        set(&transaction, "owner", owner)?;
        // For whoever looks into the file.
        transaction
            .execute("INSERT OR REPLACE INTO meta VALUES ('connector', ?1), ('shard', ?2)", params![connector, shard])
    })()
    .map_err(sqlite)?;
    transaction.commit().map_err(sqlite)?;
    let state = (|| {
        Ok(FileState {
            next_offset: get(&connection, "changelog.next")?,
            saved_at: get(&connection, "saved.at")?,
            has_entries: has_entries(&connection)?,
        })
    })()
    .map_err(sqlite)?;
    let reader = Reader::open(&path)?;
    Ok((Writer { connection, path, owner }, reader, state))
}

fn connect(path: &str, cache_kb: i64) -> rusqlite::Result<Connection> {
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

fn has_entries(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM entries)", [], |row| row.get(0))
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

impl Writer {
    /// Everything or nothing.
    pub fn save(&mut self, save: &Save<'_>) -> Result<(), StateError> {
        let (path, owner) = (self.path.clone(), self.owner);
        let sqlite = |error| StateError::sqlite("saving state", &path, error);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        if get(&transaction, "owner").map_err(sqlite)? != Some(owner) {
            return Err(StateError::taken_over(&path));
        }
        {
            let mut put = transaction
                .prepare_cached("INSERT OR REPLACE INTO entries (key, due, value) VALUES (?1, ?2, ?3)")
                .map_err(sqlite)?;
            let mut remove = transaction.prepare_cached("DELETE FROM entries WHERE key = ?1").map_err(sqlite)?;
            for (key, value) in save.rows {
                match value {
                    Some(value) => {
                        let (due, payload) = read_value(value)?;
                        put.execute(params![key, (due != NEVER).then_some(due), payload]).map_err(sqlite)?;
                    }
                    None => _ = remove.execute([key]).map_err(sqlite)?,
                }
            }
        }
        if let Some(next) = save.next_offset {
            set(&transaction, "changelog.next", next).map_err(sqlite)?;
        }
        if let Some(now_ms) = save.now_ms {
            set(&transaction, "saved.at", now_ms).map_err(sqlite)?;
        }
        transaction.commit().map_err(sqlite)
    }

    /// Forgets everything, to be restored in full, from now on.
    pub fn clear(&mut self, now_ms: i64) -> Result<(), StateError> {
        let clear = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch("DROP TABLE entries; DELETE FROM meta WHERE name = 'changelog.next';")?;
            transaction.execute_batch(ENTRIES)?;
            set(&transaction, "saved.at", now_ms)?;
            transaction.commit()
        };
        let mut clear = clear;
        clear().map_err(|error| StateError::sqlite("clearing state", &self.path, error))
    }

    /// Leaves one tidy file behind. A failure costs nothing: the log is read at the next opening.
    pub fn close(self) {
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
    }
}

impl Reader {
    /// Another one on a file that is open.
    pub fn open(path: &str) -> Result<Self, StateError> {
        let connection = connect(path, 1024).map_err(|error| StateError::sqlite("opening state", path, error))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// The file.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn query<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StateError> {
        query(&self.connection).map_err(|error| StateError::sqlite("reading state", &self.path, error))
    }

    /// Tells the entries of keys. Sorted keys are read fastest.
    pub fn get_many<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        mut entry: impl FnMut(&'k [u8], Option<(&[u8], i64)>),
    ) -> Result<(), StateError> {
        self.query(|connection| {
            // One snapshot, and no lock taken anew for each key.
            let transaction = connection.unchecked_transaction()?;
            let mut statement = transaction.prepare_cached("SELECT value, due FROM entries WHERE key = ?1")?;
            for key in keys {
                let mut rows = statement.query([key])?;
                match rows.next()? {
                    Some(row) => {
                        let due = row.get::<_, Option<i64>>(1)?.unwrap_or(NEVER);
                        entry(key, Some((row.get_ref(0)?.as_blob()?, due)));
                    }
                    None => entry(key, None),
                }
            }
            Ok(())
        })
    }

    /// Entries that begin with `prefix` and are due, after a place in that order.
    pub fn due(
        &self,
        prefix: &[u8],
        up_to: i64,
        after: Option<&(i64, Vec<u8>)>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        let (due, key) = after.map_or((i64::MIN, &[][..]), |(due, key)| (*due, &key[..]));
        self.query(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key, value, due FROM entries WHERE due IS NOT NULL AND due <= ?1 AND (due, key) > (?2, ?3)
                 AND key >= ?4 AND substr(key, 1, ?5) = ?4 ORDER BY due, key LIMIT ?6",
            )?;
            let rows = statement
                .query_map(params![up_to, due, key, prefix, prefix.len() as i64, limit as i64], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?;
            rows.collect()
        })
    }

    /// The first time after `after` among entries that begin with `prefix`.
    pub fn next_due(&self, prefix: &[u8], after: i64) -> Result<Option<i64>, StateError> {
        self.query(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT due FROM entries WHERE due IS NOT NULL AND due > ?1 AND substr(key, 1, ?3) = ?2 ORDER BY due LIMIT 1",
            )?;
            statement.query_row(params![after, prefix, prefix.len() as i64], |row| row.get(0)).optional()
        })
    }

    /// Entries from one key to another, both included, in order.
    pub fn range(&self, from: &[u8], to: &[u8]) -> Result<Vec<Row>, StateError> {
        self.query(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT key, value, due FROM entries WHERE key >= ?1 AND key <= ?2 ORDER BY key")?;
            let rows = statement.query_map(params![from, to], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?.unwrap_or(NEVER)))
            })?;
            rows.collect()
        })
    }

    /// Whether there are entries.
    pub fn has_entries(&self) -> Result<bool, StateError> {
        self.query(has_entries)
    }

    /// Calls `key` with each key until it answers `false`.
    pub fn keys(&self, mut key: impl FnMut(&[u8]) -> bool) -> Result<(), StateError> {
        self.query(|connection| {
            let mut statement = connection.prepare("SELECT key FROM entries")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if !key(row.get_ref(0)?.as_blob()?) {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// The last write of each key, sorted. `changes` are in the order of writing.
pub fn latest<'a>(
    changes: impl Iterator<Item = (&'a BinaryArray, &'a BinaryArray)>,
) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
    let mut rows: Vec<(&[u8], u32, Option<&[u8]>)> = Vec::new();
    for (number, (keys, values)) in changes.enumerate() {
        rows.reserve(keys.len());
        for row in 0..keys.len() {
            rows.push((keys.value(row), number as u32, values.is_valid(row).then(|| values.value(row))));
        }
    }
    // A changelog has a key several times in a run of records: then the order of the rows decides, which a stable sort keeps.
    rows.sort_by(|a, b| a.0.cmp(b.0).then(a.1.cmp(&b.1)));
    let mut latest: Vec<(&[u8], Option<&[u8]>)> = Vec::with_capacity(rows.len());
    for (key, _, value) in rows {
        match latest.last_mut() {
            Some(last) if last.0 == key => last.1 = value,
            _ => latest.push((key, value)),
        }
    }
    latest
}
