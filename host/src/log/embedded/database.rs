//! The database file: its tables, and connections to it.
//!
//! One row a record batch. Batches lie in the order of their commit, so that writing appends and reading one
//! partition follows an index of three integers.
//!
//! WAL with `synchronous=FULL`: a commit is on the disk before it is acknowledged, a killed process leaves a
//! readable file, and readers never wait for the writer. Several processes may read and write; SQLite's own
//! locks order them.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::LogError;

/// How long a writer waits for another process's transaction before it says so and tries again.
const BUSY: Duration = Duration::from_secs(5);
/// Size of a page of a new file.
pub(super) const PAGE_BYTES: u64 = 16384;
/// Read connections kept open.
const POOLED: usize = 4;
/// What this version writes into `user_version`.
const FORMAT: i64 = 3;
/// From then on, offsets have metadata.
const WITH_METADATA: i64 = 3;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS cluster (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS topics (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS topic_settings (
    topic INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (topic, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic INTEGER NOT NULL, partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL DEFAULT 0, next_offset INTEGER NOT NULL DEFAULT 0,
    cleaned_to INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition));
CREATE TABLE IF NOT EXISTS deleted_partitions (id INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, base_offset INTEGER NOT NULL, last_offset INTEGER NOT NULL,
    max_timestamp INTEGER NOT NULL, bytes INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS producers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batches_by_offset ON batches (partition, last_offset);
CREATE TABLE IF NOT EXISTS group_offsets (
    consumer_group TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    metadata TEXT NOT NULL DEFAULT '', PRIMARY KEY (consumer_group, topic, partition)) WITHOUT ROWID;
";

/// The file and its read connections.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
}

impl Database {
    /// Opens the file, making it with its tables where it is not there; the writer's connection comes with it.
    pub(super) fn open(path: &Path) -> Result<(Self, Connection), LogError> {
        let operation = || format!("opening the embedded log {}", path.display());
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|error| LogError::fatal(format!("{}: {error}", operation())))?;
        }
        let writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
            .and_then(|writer| {
                // Large pages: a batch of a megabyte is a chain of them. Fixed once the file has one.
                writer.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
                writer.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
                writer.execute_batch("PRAGMA wal_autocheckpoint=2048; PRAGMA journal_size_limit=67108864;")?;
                writer.execute_batch("PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY;")?;
                Ok(writer)
            })
            .map_err(|error| from_sqlite(&error, &operation()))?;
        let format: i64 = writer
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|error| from_sqlite(&error, &operation()))?;
        if format > FORMAT {
            return Err(LogError::fatal(format!(
                "{}: it was written by a later version of tributary (format {format}, this one knows {FORMAT}): use that version",
                operation()
            )));
        }
        if format < FORMAT {
            let metadata = match format {
                1..WITH_METADATA => "ALTER TABLE group_offsets ADD COLUMN metadata TEXT NOT NULL DEFAULT '';",
                _ => "",
            };
            writer
                .execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} {metadata} PRAGMA user_version={FORMAT}; COMMIT;"))
                .map_err(|error| from_sqlite(&error, &operation()))?;
        }
        Ok((Self { path: path.to_owned(), readers: Mutex::default() }, writer))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Another connection to the file, for reading only.
    pub(super) fn reader(&self) -> Result<Connection, LogError> {
        connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|reader| {
                reader.execute_batch("PRAGMA cache_size=-1024;")?;
                Ok(reader)
            })
            .map_err(|error| {
                from_sqlite(&error, &format!("opening the embedded log {} for reading", self.path.display()))
            })
    }

    /// Runs `call` on a read connection.
    pub(super) fn read<T>(
        &self,
        operation: &str,
        call: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LogError> {
        let pooled = self.readers.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let reader = pooled.map_or_else(|| self.reader(), Ok)?;
        let result = call(&reader).map_err(|error| from_sqlite(&error, operation));
        let mut readers = self.readers.lock().unwrap_or_else(|e| e.into_inner());
        if result.is_ok() && readers.len() < POOLED {
            readers.push(reader);
        }
        result
    }
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// SQLite's errors in our words: a full disk and a busy file pass, a damaged one does not.
pub(super) fn from_sqlite(error: &rusqlite::Error, operation: &str) -> LogError {
    use rusqlite::ErrorCode;
    let Some(code) = error.sqlite_error_code() else {
        return LogError::fatal(format!("{operation}: {error}"));
    };
    let (retriable, name, hint) = match code {
        ErrorCode::DiskFull => {
            (true, Some("DISK_FULL"), "free some space; what was acknowledged is safe, and nothing was half written")
        }
        ErrorCode::SystemIoFailure => {
            (true, Some("KAFKA_STORAGE_ERROR"), "check the disk's space and health; what was acknowledged is safe")
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => (true, None, "another process holds the file for long"),
        ErrorCode::CannotOpen => (false, None, "check that the directory is there and may be written to"),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            (false, None, "the file may not be written to: check its owner and mode")
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            (false, None, "the file is damaged or not a log: restore it from a copy, or move it away")
        }
        _ => (false, None, "this should not happen; please report it"),
    };
    LogError { message: format!("{operation}: {error}: {hint}"), retriable, code: name }
}
