//! The config topic of a worker group.
//!
//! Promises: a write is all or nothing and visible when it returns (see [`early`](super::early)); what only the leader may write is written in
//! transactions of the group's one `transactional.id`, so that a former leader's writes fail with
//! [`Fenced`](StorageErrorKind::Fenced) and change nothing.
//!
//! Fails: see [`CompactedTopic`]. A write that fails with [`Away`](StorageErrorKind::Away) may have been written.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::compacted_topic::CompactedTopic;
use super::config_fold::{ConfigFold, ConfigListener, FORMAT};
use super::config_records::rows;
use super::leader::LeaderWriter;
use super::settings::StorageSettings;
use super::writer::TopicWriter;
use crate::log::{ClientSettings, Log};
use crate::storage::sqlite::{SqliteStore, TopicImage};
use crate::storage::{ClusterConfig, ConfigLog, ConfigWrite, StorageError};

/// How long writing and reading back may take, as in Connect.
const WRITE: Duration = Duration::from_secs(30);

/// See the module.
pub struct KafkaConfigLog {
    topic: CompactedTopic<ConfigFold>,
    snapshot: Arc<RwLock<Arc<ClusterConfig>>>,
    leader: LeaderWriter,
    writer: Arc<TopicWriter>,
}

impl KafkaConfigLog {
    pub(super) fn open(
        log: Arc<dyn Log>,
        settings: &StorageSettings,
        client: &ClientSettings,
        database: &SqliteStore,
        writer: Arc<TopicWriter>,
        listener: ConfigListener,
    ) -> Result<Self, StorageError> {
        let topic = settings.config.clone();
        let snapshot: Arc<RwLock<Arc<ClusterConfig>>> = Arc::default();
        let image = TopicImage::new(database, &topic.name, FORMAT);
        let fold = ConfigFold::new(&topic.name, snapshot.clone(), listener);
        let leader = LeaderWriter::new(log.clone(), client, settings.leader_transactional_id(), topic.name.clone());
        let topic = CompactedTopic::open(log, topic, client, image, fold)?;
        Ok(Self { topic, snapshot, leader, writer })
    }

    /// Waits until the topic was read to its end for the first time.
    pub fn wait_current(&self, timeout: Duration) -> Result<(), StorageError> {
        self.topic.wait_current(timeout)
    }

    /// Whether this worker has claimed the topic and has not been found fenced since.
    pub fn leads(&self) -> bool {
        self.leader.leads()
    }

    /// Records read from Kafka since the start, to see that a restart reads only what is new.
    pub fn records_read(&self) -> u64 {
        self.topic.records_read()
    }

    pub(super) fn close(&self) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.leader.close());
            self.topic.close();
        });
    }
}

impl ConfigLog for KafkaConfigLog {
    fn snapshot(&self) -> Arc<ClusterConfig> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refresh(&self, timeout: Duration) -> Result<(), StorageError> {
        self.topic.read_to_end(timeout)
    }

    fn claim(&self) -> Result<(), StorageError> {
        self.leader.claim()
    }

    fn write(&self, writes: &[ConfigWrite]) -> Result<(), StorageError> {
        let rows: Vec<_> = writes.iter().flat_map(rows).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + WRITE;
        let offset = if self.leader.leads() || writes.iter().any(ConfigWrite::privileged) {
            let applied = self.topic.records_applied();
            let offset = self.leader.write(&rows)?;
            if offset.is_some_and(|last| self.topic.apply_written(applied, &rows, last)) {
                return Ok(());
            }
            offset
        } else {
            self.writer.write(&self.topic.topic().name, rows)?.map(|(_, offset)| offset)
        };
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let written = Instant::now();
        match offset {
            Some(offset) => {
                let seen = self.topic.wait_for(0, offset, left);
                tracing::debug!(topic = self.topic.topic().name, offset, took = ?written.elapsed(), "read back");
                seen
            }
            // The log does not tell where it was written.
            None => self.topic.read_to_end(left),
        }
    }
}
