//! The one thread that writes: it commits what all producers and commits have handed in, together.
//!
//! Promises: what is reported as done is on the disk; a transaction that fails leaves nothing behind, and
//! every part of it is told the reason; records of one producer and partition keep their order.
//!
//! Offsets are given inside the transaction, from the partition's row, so that several processes can write
//! the same file.
//!
//! Fails: a full disk fails the transaction under way and the thread goes on. A file that another process
//! holds for long is waited for and logged.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::super::LogError;
use super::catalog::{Catalog, Partition};
use super::database::from_sqlite;
use super::outbox::{Outbox, Parcel};
use super::record_batch::set_base_offset;
use super::retention::Retention;

/// Bytes of records in one transaction, about: what others wait for, at most.
const TRANSACTION_BYTES: usize = 16 << 20;
const BUSY_LOG: Duration = Duration::from_secs(10);

/// A change other than appending, run in the common transaction; `true` when topics changed.
type Change = Box<dyn FnOnce(&Connection) -> Result<bool, LogError> + Send>;

/// Where a change's outcome is waited for.
type Reply = mpsc::Sender<Result<(), LogError>>;

enum Job {
    /// This producer has records.
    Append(Arc<Outbox>),
    Change {
        change: Change,
        reply: mpsc::Sender<Result<(), LogError>>,
    },
    /// Records that become visible with a change, or not at all.
    Transaction {
        parcels: Vec<Parcel>,
        change: Change,
        reply: Reply,
    },
    /// Deletion and compaction now.
    Clean(mpsc::Sender<()>),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The handle to the writing thread, which ends when this is dropped, after its last transaction.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, catalog: Arc<Catalog>) -> Result<Self, LogError> {
        let shared = Arc::new(Shared::default());
        let work =
            Work { shared: shared.clone(), connection, catalog, retention: Retention::default(), busy_said: None };
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || work.run())
            .map_err(|error| LogError::fatal(format!("starting the embedded log's writing thread: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that the outbox has records.
    pub(super) fn append(&self, outbox: &Arc<Outbox>) {
        self.push(Job::Append(outbox.clone()));
    }

    /// Runs a change in the next transaction and waits until it is committed.
    pub(super) fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<(T, bool), LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let (result_in, result_out) = mpsc::channel();
        let (reply, done) = mpsc::channel();
        let change: Change = Box::new(move |connection| {
            let (result, topics) = change(connection)?;
            let _ = result_in.send(result);
            Ok(topics)
        });
        self.push(Job::Change { change, reply });
        let gone = || LogError::fatal("the embedded log's writing thread has ended");
        done.recv().map_err(|_| gone())??;
        result_out.recv().map_err(|_| gone())
    }

    /// Stores records together with a change, or neither, and waits until that is committed.
    pub(super) fn transaction(
        &self,
        parcels: Vec<Parcel>,
        change: impl FnOnce(&Connection) -> Result<(), LogError> + Send + 'static,
    ) -> Result<(), LogError> {
        let (reply, done) = mpsc::channel();
        let change: Change = Box::new(move |connection| change(connection).map(|()| false));
        self.push(Job::Transaction { parcels, change, reply });
        done.recv().map_err(|_| LogError::fatal("the embedded log's writing thread has ended"))?
    }

    /// Deletes and compacts what is due, and waits for it.
    pub(super) fn clean(&self) -> Result<(), LogError> {
        let (reply, done) = mpsc::channel();
        self.push(Job::Clean(reply));
        done.recv().map_err(|_| LogError::fatal("the embedded log's writing thread has ended"))
    }

    fn push(&self, job: Job) {
        self.shared.lock().jobs.push_back(job);
        self.shared.ready.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    connection: Connection,
    catalog: Arc<Catalog>,
    retention: Retention,
    busy_said: Option<Instant>,
}

/// What one transaction did, for telling once it is committed, or failed.
#[derive(Default)]
struct Done {
    parcels: Vec<(Arc<Outbox>, Vec<Parcel>)>,
    heads: Vec<(Arc<Partition>, i64)>,
    replies: Vec<(Reply, Result<(), LogError>)>,
    cleaners: Vec<mpsc::Sender<()>>,
    topics: bool,
    written: usize,
}

impl Work {
    fn run(mut self) {
        while let Some(jobs) = self.next_jobs() {
            self.transaction(jobs);
            let due = self.retention.due();
            if due {
                self.retention.run(&self.connection, &self.catalog);
            }
        }
        // Leaves one file behind instead of three, where no one else has it open.
        let _ = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    /// Waits for work; `None` at the end.
    fn next_jobs(&mut self) -> Option<Vec<Job>> {
        let mut queue = self.shared.lock();
        while queue.jobs.is_empty() {
            if queue.closed {
                return None;
            }
            match self.retention.wait() {
                None => queue = self.shared.ready.wait(queue).unwrap_or_else(|e| e.into_inner()),
                Some(wait) => {
                    let (back, timeout) =
                        self.shared.ready.wait_timeout(queue, wait).unwrap_or_else(|e| e.into_inner());
                    queue = back;
                    if timeout.timed_out() {
                        return Some(Vec::new());
                    }
                }
            }
        }
        Some(queue.jobs.drain(..).collect())
    }

    fn transaction(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut done = Done::default();
        let begun = self.begin();
        let result = self.apply(jobs, begun, &mut done).and_then(|()| {
            self.connection
                .execute_batch("COMMIT")
                .map_err(|error| from_sqlite(&error, "committing to the embedded log"))
        });
        let cleaners = std::mem::take(&mut done.cleaners);
        match result {
            Ok(()) => self.committed(done),
            Err(error) => self.failed(done, &error),
        }
        if !cleaners.is_empty() {
            self.retention.run(&self.connection, &self.catalog);
        }
        for cleaner in cleaners {
            let _ = cleaner.send(());
        }
    }

    /// Begins, however long another process holds the file.
    fn begin(&mut self) -> Result<(), LogError> {
        loop {
            match self.connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => return Ok(()),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    if self.busy_said.is_none_or(|said| said.elapsed() > BUSY_LOG) {
                        self.busy_said = Some(Instant::now());
                        tracing::warn!("another process holds the embedded log's file; waiting for it");
                    }
                }
                Err(error) => return Err(from_sqlite(&error, "beginning a transaction of the embedded log")),
            }
        }
    }

    /// Applies every job; on the first error of the file the rest is only collected, to be told.
    fn apply(&mut self, jobs: Vec<Job>, begun: Result<(), LogError>, done: &mut Done) -> Result<(), LogError> {
        let mut result = begun;
        let mut bytes = 0;
        for job in jobs {
            match job {
                Job::Append(outbox) => {
                    if bytes >= TRANSACTION_BYTES {
                        // Next time: others' records of this transaction should not wait for all of it.
                        self.shared.lock().jobs.push_back(Job::Append(outbox));
                        continue;
                    }
                    let mut parcels = outbox.collect();
                    if result.is_ok() {
                        result = parcels.iter_mut().try_for_each(|parcel| {
                            bytes += parcel.batch.bytes.len();
                            self.append(parcel, done)
                        });
                    }
                    done.parcels.push((outbox, parcels));
                }
                Job::Clean(reply) => done.cleaners.push(reply),
                Job::Transaction { mut parcels, change, reply } => {
                    let outcome = result.clone().and_then(|()| self.whole(&mut parcels, change, &mut bytes, done));
                    if self.connection.is_autocommit() && result.is_ok() {
                        result = outcome.clone().and(Err(rolled_back()));
                    }
                    done.replies.push((reply, outcome));
                }
                Job::Change { change, reply } => {
                    let outcome = result.clone().and_then(|()| self.change(change));
                    if self.connection.is_autocommit() && result.is_ok() {
                        // SQLite rolled all of it back, as it may on a full disk.
                        result = outcome.clone().map(drop).and(Err(rolled_back()));
                    }
                    done.topics |= outcome.as_ref().is_ok_and(|topics| *topics);
                    done.replies.push((reply, outcome.map(drop)));
                }
            }
        }
        result
    }

    /// Stores one batch at the end of its partition.
    fn append(&self, parcel: &mut Parcel, done: &mut Done) -> Result<(), LogError> {
        let operation = "writing to the embedded log";
        let sqlite = |error: rusqlite::Error| from_sqlite(&error, operation);
        let batch = &mut parcel.batch;
        let count = i64::from(batch.last_offset_delta) + 1;
        let mut reserve = self
            .connection
            .prepare_cached("UPDATE partitions SET next_offset = next_offset + ?2 WHERE id = ?1 RETURNING next_offset")
            .map_err(sqlite)?;
        let next: i64 = match reserve.query_row((parcel.partition.id, count), |row| row.get(0)) {
            Ok(next) => next,
            Err(rusqlite::Error::QueryReturnedNoRows) => {
                parcel.refused = Some(LogError {
                    message: format!(
                        "writing to {}-{}: the topic was deleted: create it again",
                        parcel.topic, parcel.number
                    ),
                    retriable: true,
                    code: Some("UNKNOWN_TOPIC_OR_PART"),
                });
                return Ok(());
            }
            Err(error) => return Err(sqlite(error)),
        };
        set_base_offset(&mut batch.bytes, next - count);
        self.connection
            .prepare_cached("INSERT INTO batches (partition, base_offset, last_offset, max_timestamp, bytes, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .and_then(|mut insert| {
                let length = batch.bytes.len() as i64;
                insert.execute((parcel.partition.id, next - count, next - 1, batch.max_timestamp, length, &batch.bytes[..]))
            })
            .map_err(sqlite)?;
        done.written += batch.bytes.len();
        done.heads.push((parcel.partition.clone(), next));
        Ok(())
    }

    /// Runs a change and stores records; what fails undoes all of it, and nothing else.
    fn whole(
        &self,
        parcels: &mut [Parcel],
        change: Change,
        bytes: &mut usize,
        done: &mut Done,
    ) -> Result<(), LogError> {
        let before = done.heads.len();
        let outcome = self.undoing(|| {
            change(&self.connection)?;
            for parcel in parcels {
                *bytes += parcel.batch.bytes.len();
                self.append(parcel, done)?;
                parcel.refused.take().map_or(Ok(()), Err)?;
            }
            Ok(())
        });
        if outcome.is_err() {
            done.heads.truncate(before);
        }
        outcome
    }

    /// Runs a change so that its failure undoes it alone.
    fn change(&self, change: Change) -> Result<bool, LogError> {
        self.undoing(|| change(&self.connection))
    }

    fn undoing<T>(&self, work: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
        let run = |sql: &str| {
            self.connection.execute_batch(sql).map_err(|error| from_sqlite(&error, "changing the embedded log"))
        };
        run("SAVEPOINT change")?;
        let outcome = work();
        if outcome.is_err() && !self.connection.is_autocommit() {
            run("ROLLBACK TO change")?;
        }
        if !self.connection.is_autocommit() {
            run("RELEASE change")?;
        }
        outcome
    }

    fn committed(&mut self, done: Done) {
        self.retention.wrote(done.written);
        for (partition, next) in done.heads {
            partition.reaches(next);
        }
        if done.topics
            && let Err(error) = self.catalog.reload(&self.connection)
        {
            tracing::error!(%error, "the embedded log's topics could not be read again");
        }
        self.catalog.notify();
        for (outbox, parcels) in done.parcels {
            outbox.report(parcels, None);
        }
        for (reply, outcome) in done.replies {
            let _ = reply.send(outcome);
        }
    }

    fn failed(&mut self, done: Done, error: &LogError) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        tracing::error!(%error, "a transaction of the embedded log failed and was undone");
        for (outbox, parcels) in done.parcels {
            outbox.report(parcels, Some(error));
        }
        for (reply, outcome) in done.replies {
            let _ = reply.send(outcome.and_then(|()| Err(error.clone())));
        }
    }
}

fn rolled_back() -> LogError {
    LogError::retriable("the transaction was rolled back by SQLite")
}
