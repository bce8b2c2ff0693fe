//! The log in one SQLite file: `bootstrap.servers=embedded`, for a first run, for tests, for edge machines.
//!
//! | File | Noun |
//! |---|---|
//! | `database` | the file, its tables, connections to it |
//! | `record_batch`, `varint` | Kafka's record batch, from and to columns |
//! | `outbox`, `writer` | records on their way, and the one thread that commits them together |
//! | `catalog` | topics and how far partitions reach, in memory |
//! | `producer`, `consumer`, `admin` | the traits |
//! | `transactions` | records and offsets that become visible together |
//! | `groups` | who of a group reads what |
//! | `partitioner`, `topic_settings`, `retention`, `compaction` | what a broker does |
//!
//! Promises: what was acknowledged survives kill -9 and power failure; a transaction is whole or not there;
//! readers never wait for the writer, and idle ones cost nothing.
//!
//! Several processes: one worker owns a file ([`EmbeddedLog::open`] takes a lock beside it); others may read
//! and write it meanwhile ([`EmbeddedLog::attach`]), but not join its groups, which live in the worker's
//! memory. The owner sees their records within [`WATCH`].
//!
//! Not here: compression, log append time, quotas, ACLs; `max.message.bytes` bounds a record, not a batch;
//! group membership across processes.

mod admin;
mod catalog;
mod compaction;
mod consumer;
mod database;
mod groups;
mod outbox;
pub(in crate::log) mod partitioner;
mod producer;
mod record_batch;
mod retention;
mod topic_settings;
mod transactions;
mod varint;
mod writer;

#[cfg(test)]
mod record_batch_tests;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Once, Weak};
use std::time::{Duration, Instant};

use base64::Engine;
use rand::{Rng, SeedableRng};
use rusqlite::OptionalExtension;

use self::catalog::{Catalog, Topic};
use self::consumer::EmbeddedConsumer;
use self::database::{Database, from_sqlite};
use self::groups::{Groups, Joining, Wanted};
use self::producer::EmbeddedProducer;
use self::transactions::EmbeddedTransactions;
use self::writer::Writer;
use super::{
    ClientSettings, Log, LogAdmin, LogConsumer, LogError, LogProducer, Subscription, TopicPartition,
    TransactionalProducer,
};

/// How often other processes' commits are looked for.
pub const WATCH: Duration = Duration::from_millis(100);
/// How long an owner may take to let go: one that is just ending, or a process that it was just starting.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// A log in a file.
pub struct EmbeddedLog {
    inner: Arc<Inner>,
}

/// What producers and consumers share.
struct Inner {
    writer: Writer,
    catalog: Arc<Catalog>,
    database: Database,
    groups: Mutex<Groups>,
    default_partitions: i32,
    auto_create: bool,
    watching: Once,
    /// Held while this process owns the file.
    owner: Option<File>,
}

impl std::fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedLog").field("path", &self.inner.database.path()).finish()
    }
}

impl EmbeddedLog {
    /// Opens the file as its owner, making it where it is not there. Fails while another process owns it.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        Self::open_with(path, &ClientSettings::new())
    }

    /// The same with a broker's settings: `num.partitions` (1) and `auto.create.topics.enable` (true) for topics
    /// that are made when first written to.
    pub fn open_with(path: &Path, settings: &ClientSettings) -> Result<Self, LogError> {
        let owner = own(path)?;
        Self::start(path, settings, Some(owner))
    }

    /// Opens a file that is there, beside its owner, for reading and writing without groups.
    pub fn attach(path: &Path) -> Result<Self, LogError> {
        if !path.exists() {
            return Err(LogError::fatal(format!(
                "there is no embedded log {}: check the data directory, or start a worker with bootstrap.servers=embedded first",
                path.display()
            )));
        }
        Self::start(path, &ClientSettings::new(), None)
    }

    /// Deletes and compacts now what the topics' settings let go, instead of within a minute.
    pub fn clean(&self) -> Result<(), LogError> {
        self.inner.writer.clean()
    }

    /// Bounds the file's size in bytes, for machines whose disk others need, too; `None` lifts the bound. What does
    /// not fit fails as on a full disk. Holds until the log is closed.
    pub fn limit_size(&self, bytes: Option<u64>) -> Result<(), LogError> {
        let pages = bytes.map_or(u64::from(u32::MAX) - 1, |bytes| bytes / database::PAGE_BYTES);
        self.inner.writer.change(move |connection| {
            connection
                .pragma_update(None, "max_page_count", pages as i64)
                .map_err(|error| from_sqlite(&error, "limiting the embedded log's size"))?;
            Ok(((), false))
        })
    }

    fn start(path: &Path, settings: &ClientSettings, owner: Option<File>) -> Result<Self, LogError> {
        let (database, connection) = Database::open(path)?;
        let catalog = Arc::new(Catalog::default());
        catalog
            .reload(&connection)
            .map_err(|error| from_sqlite(&error, &format!("reading the embedded log {}", path.display())))?;
        let default_partitions =
            match settings.get("num.partitions") {
                None => 1,
                Some(text) => text.parse().ok().filter(|n| (1..=10_000).contains(n)).ok_or_else(|| {
                    LogError::fatal(format!("num.partitions={text}: a number from 1 to 10000 is wanted"))
                })?,
            };
        let inner = Inner {
            writer: Writer::start(connection, catalog.clone())?,
            catalog,
            database,
            groups: Mutex::default(),
            default_partitions,
            auto_create: settings.get("auto.create.topics.enable").is_none_or(|v| v != "false"),
            watching: Once::new(),
            owner,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// Takes the lock beside the file.
fn own(path: &Path) -> Result<File, LogError> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let failed =
        |error: std::io::Error| LogError::fatal(format!("locking the embedded log {}: {error}", path.display()));
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(failed)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => {
                return Err(LogError::fatal(format!(
                    "the embedded log {} is in use by another worker: stop it, or give this one another directory",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

impl Inner {
    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Reads topics and ends of partitions from the file again, as other processes may have changed them.
    fn refresh(&self) -> Result<(), LogError> {
        self.database.read("reading the embedded log's topics", |connection| self.catalog.reload(connection))
    }

    fn find_topic(&self, name: &str) -> Result<Option<Arc<Topic>>, LogError> {
        if let Some(topic) = self.catalog.topic(name) {
            return Ok(Some(topic));
        }
        self.refresh()?;
        Ok(self.catalog.topic(name))
    }

    /// The topic, made if need be.
    fn topic_for_writing(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        if let Some(topic) = self.find_topic(name)? {
            return Ok(topic);
        }
        if !self.auto_create {
            return Err(LogError {
                message: format!(
                    "writing to {name}: there is no such topic, and auto.create.topics.enable is false: create it"
                ),
                retriable: true,
                code: Some("UNKNOWN_TOPIC_OR_PART"),
            });
        }
        topic_settings::check_name(name)?;
        self.create_topic(name, self.default_partitions, BTreeMap::new())?;
        self.catalog
            .topic(name)
            .ok_or_else(|| LogError::retriable(format!("writing to {name}: the topic was deleted as it was made")))
    }

    fn create_topic(&self, name: &str, partitions: i32, settings: BTreeMap<String, String>) -> Result<bool, LogError> {
        let name = name.to_owned();
        self.writer.change(move |connection| {
            admin::insert_topic(connection, &name, partitions, &settings)
                .map(|created| (created, true))
                .map_err(|error| from_sqlite(&error, &format!("creating topic {name}")))
        })
    }

    /// Follows other processes' commits from now on.
    fn watch(self: &Arc<Self>) {
        self.watching.call_once(|| {
            let inner = Arc::downgrade(self);
            let started = std::thread::Builder::new().name("log-watch".into()).spawn(move || watch(&inner));
            if let Err(error) = started {
                tracing::warn!(%error, "other processes' records will be seen late: no thread to watch for them");
            }
        });
    }
}

/// Ends when the log is closed.
fn watch(inner: &Weak<Inner>) {
    let mut watched = None;
    let mut seen = None;
    loop {
        std::thread::sleep(WATCH);
        let Some(inner) = inner.upgrade() else { return };
        if watched.is_none() {
            watched = inner.database.reader().ok();
        }
        let Some(connection) = &watched else { continue };
        let version: Option<i64> =
            connection.pragma_query_value(None, "data_version", |row| row.get(0)).optional().ok().flatten();
        if version == seen {
            continue;
        }
        seen = version;
        match inner.catalog.reload(connection) {
            Ok(()) => inner.catalog.notify(),
            Err(error) => {
                tracing::debug!(%error, "the embedded log's topics could not be read; trying again");
                (watched, seen) = (None, None);
            }
        }
    }
}

impl Log for EmbeddedLog {
    fn cluster_id(&self, _timeout: Duration) -> Result<String, LogError> {
        self.inner.writer.change(|connection| {
            let read = || -> rusqlite::Result<String> {
                let known = connection.query_row("SELECT id FROM cluster", [], |row| row.get(0)).optional()?;
                if let Some(id) = known {
                    return Ok(id);
                }
                let id: [u8; 16] = rand::rngs::StdRng::from_os_rng().random();
                let id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id);
                connection.execute("INSERT INTO cluster (id) VALUES (?1)", [&id])?;
                Ok(id)
            };
            read().map(|id| (id, false)).map_err(|error| from_sqlite(&error, "reading the cluster id"))
        })
    }

    fn producer(&self, settings: &ClientSettings) -> Result<Box<dyn LogProducer>, LogError> {
        Ok(Box::new(EmbeddedProducer::new(self.inner.clone(), settings)))
    }

    fn transactional_producer(
        &self,
        transactional_id: &str,
        settings: &ClientSettings,
    ) -> Result<Box<dyn TransactionalProducer>, LogError> {
        Ok(Box::new(EmbeddedTransactions::new(self.inner.clone(), transactional_id, settings)))
    }

    fn fence_producers(&self, transactional_ids: &[String], _timeout: Duration) -> Result<(), LogError> {
        transactional_ids.iter().try_for_each(|id| transactions::fence(&self.inner, id).map(drop))
    }

    fn consumer(
        &self,
        settings: &ClientSettings,
        subscription: &Subscription,
    ) -> Result<Box<dyn LogConsumer>, LogError> {
        let Some(group) = settings.get("group.id").filter(|group| !group.is_empty()) else {
            return Err(LogError::fatal("a consumer needs the client setting group.id"));
        };
        if self.inner.owner.is_none() {
            return Err(LogError::fatal(
                "groups of the embedded log live in the worker that owns it: read without a group, or through that worker",
            ));
        }
        let wanted = match subscription {
            Subscription::Topics(topics) => Wanted::Names(topics.iter().cloned().collect()),
            Subscription::Pattern(pattern) => {
                let regex = tributary_sdk::Pattern::whole(pattern).map_err(|error| {
                    LogError::fatal(format!("topic pattern {pattern:?} is not a regular expression: {error}"))
                })?;
                Wanted::Pattern(regex)
            }
        };
        let millis = |name: &str, default: u64| {
            Duration::from_millis(settings.get(name).and_then(|v| v.parse().ok()).unwrap_or(default))
        };
        let joining = Joining {
            wanted,
            instance: settings.get("group.instance.id").cloned(),
            session_timeout: millis("session.timeout.ms", 45_000),
            poll_interval: millis("max.poll.interval.ms", 300_000),
        };
        self.inner.watch();
        self.inner.refresh()?;
        let member = self.inner.groups().join(group, joining);
        self.inner.catalog.notify();
        Ok(Box::new(EmbeddedConsumer::new(self.inner.clone(), settings, Some(member))?))
    }

    fn reader(
        &self,
        settings: &ClientSettings,
        start: &[(TopicPartition, i64)],
    ) -> Result<Box<dyn LogConsumer>, LogError> {
        self.inner.watch();
        self.inner.refresh()?;
        let mut reader = EmbeddedConsumer::new(self.inner.clone(), settings, None)?;
        let start: Vec<_> = start.iter().map(|(partition, offset)| (partition.clone(), Some(*offset))).collect();
        LogConsumer::assign(&mut reader, &start)?;
        Ok(Box::new(reader))
    }

    fn admin(&self) -> &dyn LogAdmin {
        self
    }
}
