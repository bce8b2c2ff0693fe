//! The database file: opening, the writer thread with group commit, and readers.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::lock::DirectoryLock;
use super::schema;
use crate::storage::{StorageError, StorageErrorKind};

/// At most so many writes share a transaction, so that the first of a burst does not wait for the last.
const GROUP: usize = 512;

type Job = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

/// A write and whom to tell.
struct Write {
    what: &'static str,
    job: Job,
    /// `None`: nobody waits, and a failure is logged.
    done: Option<SyncSender<Result<(), StorageError>>>,
}

/// The stores in one SQLite database. Cheap to clone; the file closes with the last clone, after the last write.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: String,
    writes: Option<Sender<Write>>,
    writer: Option<JoinHandle<()>>,
    readers: Mutex<Vec<Connection>>,
    _lock: DirectoryLock,
}

impl SqliteStore {
    /// Opens `worker.db` in `directory`, both made if need be. Fails when another worker has the directory, when it
    /// cannot be written, and when the file is damaged or newer than this version.
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        std::fs::create_dir_all(directory).map_err(|error| {
            StorageError::new(
                StorageErrorKind::Unwritable,
                format!(
                    "cannot make the data directory {}: {error}; set data.dir to a writable place",
                    directory.display()
                ),
            )
        })?;
        let lock = DirectoryLock::take(directory)?;
        let path = directory.join("worker.db").display().to_string();
        let mut connection = connect(&path)?;
        schema::migrate(&mut connection, &path)?;
        let (writes, queue) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn({
                let path = path.clone();
                move || write_all(connection, &queue, &path)
            })
            .map_err(|error| StorageError::other(format!("cannot start the storage writer: {error}")))?;
        Ok(Self(Arc::new(Inner {
            path,
            writes: Some(writes),
            writer: Some(writer),
            readers: Mutex::new(Vec::new()),
            _lock: lock,
        })))
    }

    /// Runs `job` in the writer's next transaction and waits until that is durable. `what` names it in errors: "storing offsets".
    pub(super) fn write(
        &self,
        what: &'static str,
        job: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StorageError> {
        let (done, answer) = mpsc::sync_channel(1);
        self.send(Write { what, job: Box::new(job), done: Some(done) })?;
        answer.recv().unwrap_or_else(|_| Err(closed(what)))
    }

    /// Runs `job` in the writer's next transaction without waiting; a failure is logged.
    pub(super) fn write_later(
        &self,
        what: &'static str,
        job: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        if let Err(error) = self.send(Write { what, job: Box::new(job), done: None }) {
            tracing::warn!("{error}");
        }
    }

    fn send(&self, write: Write) -> Result<(), StorageError> {
        let what = write.what;
        self.0.writes.as_ref().and_then(|writes| writes.send(write).ok()).ok_or_else(|| closed(what))
    }

    /// Reads, seeing every write that has returned.
    pub(super) fn read<T>(
        &self,
        what: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let pooled = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => connect(&self.0.path)?,
        };
        let result = query(&connection).map_err(|error| describe(what, &self.0.path, error));
        if result.is_ok() {
            let mut readers = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
            // Two are enough: reads are rare and short, and each connection has a page cache.
            if readers.len() < 2 {
                readers.push(connection);
            }
        }
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(writer) = self.writer.take() {
            // A panicked writer has answered nobody; there is nothing to add here.
            let _ = writer.join();
        }
    }
}

/// The writer thread: takes what waits, writes it in one transaction, tells everybody.
fn write_all(mut connection: Connection, queue: &Receiver<Write>, path: &str) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Write> = std::iter::once(first).chain(queue.try_iter().take(GROUP - 1)).collect();
        write_group(&mut connection, group, path);
    }
    // Leaves one tidy file behind. A failure costs nothing: the WAL is read at the next start.
    let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
}

fn write_group(connection: &mut Connection, group: Vec<Write>, path: &str) {
    type Waiting = (&'static str, Option<SyncSender<Result<(), StorageError>>>);
    let mut written: Vec<Waiting> = Vec::with_capacity(group.len());
    let tell = |(what, done): Waiting, result: Result<(), StorageError>| match (done, result) {
        // Whoever waited may have given up.
        (Some(done), result) => drop(done.send(result)),
        (None, Err(error)) => tracing::warn!(operation = what, "{error}"),
        (None, Ok(())) => {}
    };
    let result = (|| {
        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for write in group {
            let savepoint = transaction.savepoint()?;
            match (write.job)(&savepoint) {
                Ok(()) => {
                    savepoint.commit()?;
                    written.push((write.what, write.done));
                }
                Err(error) => {
                    drop(savepoint);
                    tell((write.what, write.done), Err(describe(write.what, path, error)));
                }
            }
        }
        transaction.commit()
    })();
    let result = result.map_err(|error| describe("writing", path, error));
    for waiting in written {
        tell(waiting, result.clone());
    }
}

fn connect(path: &str) -> Result<Connection, StorageError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // The default page cache is 2 MB a connection; configs and offsets need a fraction of it.
        connection.pragma_update(None, "cache_size", -512)?;
        Ok(connection)
    };
    open().map_err(|error| describe("opening", path, error))
}

fn closed(what: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Closed, format!("{what} failed: the worker's storage is closed"))
}

/// Says what to do about an SQLite error.
pub(super) fn describe(what: &str, path: &str, error: rusqlite::Error) -> StorageError {
    let (kind, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            (StorageErrorKind::Unwritable, "free some space on its file system; nothing of this was written")
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure,
        ) => {
            (StorageErrorKind::Unwritable, "check the file system, the permissions and the free space of its directory")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            StorageErrorKind::Damaged,
            "the file is damaged: restore it from a copy, or move it away to start with no connectors and no offsets",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (StorageErrorKind::InUse, "another program has it open: close that")
        }
        _ => return StorageError::other(format!("{what} failed in {path}: {error}")),
    };
    StorageError::new(kind, format!("{what} failed in {path}: {error}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_write_takes_no_neighbour_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let insert = |name: &'static str| {
            move |transaction: &Connection| {
                transaction
                    .execute("INSERT INTO connectors (name, config, target) VALUES (?1, '{}', 'RUNNING')", [name])
                    .map(drop)
            }
        };
        let threads: Vec<_> = ["a", "b", "a", "c"]
            .map(|name| {
                let store = store.clone();
                std::thread::spawn(move || store.write("storing", insert(name)))
            })
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(threads.iter().filter(|result| result.is_ok()).count(), 3, "{threads:?}");
        let count: i64 = store
            .read("counting", |connection| {
                connection.query_row("SELECT count(*) FROM connectors", [], |row| row.get(0))
            })
            .unwrap();
        assert_eq!(count, 3);
    }

    #[test]
    fn a_second_worker_is_refused_with_the_pid_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let error = SqliteStore::open(directory.path()).err().unwrap();
        assert_eq!(error.kind, StorageErrorKind::InUse);
        assert!(error.message.contains(&std::process::id().to_string()), "{error}");
        drop(store);
        SqliteStore::open(directory.path()).unwrap();
    }

    #[test]
    fn damaged_and_newer_files_say_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("worker.db"), vec![b'x'; 8192]).unwrap();
        let error = SqliteStore::open(directory.path()).err().unwrap();
        assert_eq!(error.kind, StorageErrorKind::Damaged);
        assert!(error.message.contains("move it away"), "{error}");

        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("worker.db")).unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        drop(connection);
        let error = SqliteStore::open(directory.path()).err().unwrap();
        assert_eq!(error.kind, StorageErrorKind::Newer);
    }

    #[test]
    fn a_full_disk_loses_the_write_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let limit =
            |pages: i64| move |transaction: &Connection| transaction.pragma_update(None, "max_page_count", pages);
        let fill = |transaction: &Connection| {
            transaction.execute("INSERT INTO states VALUES ('c', 's', x'01', zeroblob(4000000))", []).map(drop)
        };
        store.write("limiting", limit(20)).unwrap();
        let error = store.write("storing state", fill).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Unwritable, "{error}");
        store.write("limiting", limit(100_000)).unwrap();
        store.write("storing state", fill).unwrap();
    }
}
