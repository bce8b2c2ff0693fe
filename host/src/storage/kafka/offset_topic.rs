//! One offsets topic: the group's, or a connector's own (`offsets.storage.topic`).
//!
//! Promises: a read sees what was in the topic when it was asked for, so that a task begins where the last one of any worker
//! has ended; what was put is acknowledged by all in-sync replicas. Positions of one put are separate records: after a
//! failure some of them may have been written (as in Kafka Connect).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tributary_sdk::source::SourcePosition;

use super::compacted_topic::CompactedTopic;
use super::offset_fold::{FORMAT, OffsetFold};
use super::settings::InternalTopic;
use super::writer::{Row, TopicWriter, records};
use crate::log::{ClientSettings, Log, LogRecords};
use crate::storage::sqlite::{SqliteStore, TopicImage};
use crate::storage::{OffsetStore, StorageError, TransactionalOffsets};

/// How long reading to the end may take.
const READ: Duration = Duration::from_secs(30);

pub(super) struct OffsetTopic {
    topic: CompactedTopic<OffsetFold>,
    writer: Arc<TopicWriter>,
}

impl OffsetTopic {
    pub(super) fn open(
        log: Arc<dyn Log>,
        topic: &InternalTopic,
        client: &ClientSettings,
        database: &SqliteStore,
        writer: Arc<TopicWriter>,
    ) -> Result<Self, StorageError> {
        let image = TopicImage::new(database, &topic.name, FORMAT);
        let topic = CompactedTopic::open(log, topic.clone(), client, image, OffsetFold::new(&topic.name))?;
        Ok(Self { topic, writer })
    }

    pub(super) fn wait_current(&self, timeout: Duration) -> Result<(), StorageError> {
        self.topic.wait_current(timeout)
    }

    pub(super) fn read_to_end(&self, timeout: Duration) -> Result<(), StorageError> {
        self.topic.read_to_end(timeout)
    }

    pub(super) fn stale(&self) -> bool {
        self.topic.stale()
    }

    pub(super) fn records_read(&self) -> u64 {
        self.topic.records_read()
    }

    /// What was read so far, without waiting.
    pub(super) fn known(&self, connector: &str) -> Vec<SourcePosition> {
        self.topic.with(|fold| fold.all(connector))
    }

    pub(super) fn close(&self) {
        self.topic.close();
    }
}

impl OffsetTopic {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.topic.topic().name
    }

    /// The records that store positions.
    pub(super) fn rows(&self, connector: &str, positions: &[SourcePosition]) -> Vec<Row> {
        self.topic.with(|fold| positions.iter().flat_map(|position| fold.rows(connector, position)).collect())
    }

    /// Stores positions without waiting for it.
    pub(super) fn put_later(&self, connector: &str, positions: &[SourcePosition]) {
        let (rows, connector) = (self.rows(connector, positions), connector.to_owned());
        self.writer.send(self.name(), rows, move |written| {
            if let Err(error) = written {
                tracing::warn!(
                    connector,
                    "offsets are committed in the connector's own topic, but were not copied to the group's: {error}"
                );
            }
        });
    }
}

impl TransactionalOffsets for OffsetTopic {
    fn topic(&self) -> &str {
        self.name()
    }

    fn records(&self, connector: &str, positions: &[SourcePosition]) -> Option<LogRecords> {
        let rows = self.rows(connector, positions);
        (!rows.is_empty()).then(|| records(&rows))
    }

    fn committed(&self, _connector: &str, _positions: &[SourcePosition]) {}
}

impl OffsetStore for OffsetTopic {
    fn get(&self, connector: &str, partitions: &[Value]) -> Result<Vec<Option<Value>>, StorageError> {
        self.topic.read_to_end(READ)?;
        Ok(self.topic.with(|fold| partitions.iter().map(|partition| fold.get(connector, partition)).collect()))
    }

    fn all(&self, connector: &str) -> Result<Vec<SourcePosition>, StorageError> {
        self.topic.read_to_end(READ)?;
        Ok(self.known(connector))
    }

    fn put(&self, connector: &str, positions: &[SourcePosition]) -> Result<(), StorageError> {
        self.writer.write(self.name(), self.rows(connector, positions)).map(drop)
    }
}
