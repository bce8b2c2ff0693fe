//! What is in the log, in memory: topics, their settings, and how far each partition reaches.
//!
//! Readers look here before they look at the file, so that a commit to one topic costs the readers of others
//! a comparison. It follows the file: at every commit of this process, and at other processes' commits
//! within the watcher's interval.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::TopicPartition;

/// One partition's row and reach.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: i64,
    first: AtomicI64,
    next: AtomicI64,
}

impl Partition {
    /// The first offset still there.
    pub(super) fn first(&self) -> i64 {
        self.first.load(Ordering::Acquire)
    }

    /// The offset after the last committed record.
    pub(super) fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }

    pub(super) fn reaches(&self, next: i64) {
        self.next.fetch_max(next, Ordering::AcqRel);
    }

    pub(super) fn starts(&self, first: i64) {
        self.first.fetch_max(first, Ordering::AcqRel);
    }
}

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) partitions: Vec<Arc<Partition>>,
    /// What was set when it was created; the rest has defaults.
    pub(super) settings: BTreeMap<String, String>,
}

impl Topic {
    /// A setting as a number, or its default.
    pub(super) fn number(&self, name: &str) -> i64 {
        let default = || super::topic_settings::default_of(name).and_then(|v| v.parse().ok()).unwrap_or(-1);
        self.settings.get(name).and_then(|v| v.parse().ok()).unwrap_or_else(default)
    }

    /// Whether `cleanup.policy` names this policy.
    pub(super) fn has_policy(&self, policy: &str) -> bool {
        let policies = self.settings.get("cleanup.policy").map_or("delete", String::as_str);
        policies.split(',').any(|p| p.trim() == policy)
    }
}

#[derive(Debug, Default)]
pub(super) struct Catalog {
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    version: Mutex<u64>,
    changed: Condvar,
}

impl Catalog {
    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(|e| e.into_inner()).get(name).cloned()
    }

    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(|e| e.into_inner()).values().cloned().collect()
    }

    pub(super) fn partition(&self, partition: &TopicPartition) -> Option<Arc<Partition>> {
        self.topic(&partition.topic)?.partitions.get(usize::try_from(partition.partition).ok()?).cloned()
    }

    /// Reads everything again. Partitions that are still the same keep their identity, so that readers see
    /// them move.
    pub(super) fn reload(&self, connection: &Connection) -> rusqlite::Result<()> {
        // One read transaction: all rows are of one moment.
        let transaction = connection.unchecked_transaction()?;
        let old: BTreeMap<i64, Arc<Partition>> =
            self.topics().iter().flat_map(|topic| topic.partitions.iter().map(|p| (p.id, p.clone()))).collect();
        let mut topics: BTreeMap<i64, Topic> = BTreeMap::new();
        let mut statement = transaction.prepare_cached("SELECT id, name FROM topics")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
            topics.insert(id, Topic { name: name.into(), partitions: Vec::new(), settings: BTreeMap::new() });
        }
        let mut statement = transaction
            .prepare_cached("SELECT topic, id, first_offset, next_offset FROM partitions ORDER BY topic, partition")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (topic, id, first, next): (i64, i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let Some(topic) = topics.get_mut(&topic) else { continue };
            let partition =
                old.get(&id).cloned().unwrap_or_else(|| Arc::new(Partition { id, first: 0.into(), next: 0.into() }));
            partition.starts(first);
            partition.reaches(next);
            topic.partitions.push(partition);
        }
        let mut statement = transaction.prepare_cached("SELECT topic, name, value FROM topic_settings")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(topic) = topics.get_mut(&row.get(0)?) {
                topic.settings.insert(row.get(1)?, row.get(2)?);
            }
        }
        let topics = topics.into_values().map(|topic| (topic.name.clone(), Arc::new(topic))).collect();
        *self.topics.write().unwrap_or_else(|e| e.into_inner()) = topics;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.version.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Counts changes; what was looked at after taking it is not missed by [`Catalog::wait`].
    pub(super) fn version(&self) -> u64 {
        *self.lock()
    }

    /// Wakes those who wait: records were committed, or the group or the topics changed.
    pub(super) fn notify(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits for a change since `version`, at most until `deadline`.
    pub(super) fn wait(&self, version: u64, deadline: Instant) {
        let mut guard = self.lock();
        while *guard == version {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            guard = self.changed.wait_timeout(guard, left).unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}
