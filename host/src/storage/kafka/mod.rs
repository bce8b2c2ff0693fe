//! Configs, source offsets and statuses of a worker group, in three compacted topics of Kafka, in Kafka Connect's own
//! record formats: the topics of a Connect cluster are taken over as they are, and can be handed back.
//!
//! | File | Noun |
//! |---|---|
//! | `settings` | the three topics as the worker's properties name them |
//! | `prepare` | creating and checking a topic |
//! | `compacted_topic` | a topic read to its end and followed, with its image in the worker's database |
//! | `early` | what the leader has written, applied before it is read |
//! | `writer`, `leader` | the producer that all share; the leader's transactions |
//! | `config_records`, `config_fold`, `config_log` | configs |
//! | `offset_fold`, `offset_topic`, `offset_store` | source offsets, and the journal of those that could not be committed |
//! | `standalone_offsets` | those of a standalone worker that delivers exactly once |
//! | `status_records`, `status_store`, `own_statuses` | statuses, and topics in use |
//! | `java_json`, `warnings` | JSON as Connect writes it; records that make no sense |
//!
//! Promises: nothing is remembered that is not in a topic; a worker that starts while Kafka is away answers what it
//! remembers, marked stale. Everything here blocks; nothing may be called on a tokio worker.

mod compacted_topic;
mod config_fold;
mod config_log;
mod config_records;
mod early;
mod java_json;
mod leader;
mod offset_fold;
mod offset_store;
mod offset_topic;
mod own_statuses;
mod prepare;
mod settings;
mod standalone_offsets;
mod status_records;
mod status_store;
mod warnings;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::writer::TopicWriter;
use super::StorageError;
use super::sqlite::SqliteStore;
use crate::log::{ClientSettings, Log};

pub use config_fold::ConfigListener;
pub use config_log::KafkaConfigLog;
pub use offset_store::KafkaOffsetStore;
pub use settings::{InternalTopic, StorageSettings, TopicRole};
pub use standalone_offsets::StandaloneOffsets;
pub use status_store::{KafkaStatusStore, StatusListener};

/// Who is told of changes. Called on reading threads, and must not wait.
#[derive(Clone)]
pub struct Listeners {
    /// Changes in the config topic, in its order.
    pub config: ConfigListener,
    /// Connectors whose statuses changed, those of this worker too.
    pub status: StatusListener,
}

impl Default for Listeners {
    /// Nobody.
    fn default() -> Self {
        Self { config: Arc::new(|_| {}), status: Arc::new(|_| {}) }
    }
}

/// The three stores of a worker in a group.
pub struct KafkaStorage {
    /// Connector and task configs.
    pub configs: Arc<KafkaConfigLog>,
    /// Source offsets.
    pub offsets: Arc<KafkaOffsetStore>,
    /// Statuses, and topics in use.
    pub statuses: Arc<KafkaStatusStore>,
    writer: Arc<TopicWriter>,
}

impl KafkaStorage {
    /// Opens the stores with what `database` remembers of them, and starts to read; does not wait for Kafka.
    pub fn open(
        log: Arc<dyn Log>,
        settings: &StorageSettings,
        database: &SqliteStore,
        listeners: Listeners,
    ) -> Result<Self, StorageError> {
        // The worker's principal has rights on its own group; the reader neither joins nor commits.
        let client: ClientSettings = [("group.id".to_owned(), settings.group.clone())].into();
        let writer = Arc::new(TopicWriter::start(log.clone(), &ClientSettings::new())?);
        let Listeners { config, status } = listeners;
        let configs = KafkaConfigLog::open(log.clone(), settings, &client, database, writer.clone(), config)?;
        let offsets = KafkaOffsetStore::open(log.clone(), &settings.offset, &client, database, writer.clone())?;
        let statuses = KafkaStatusStore::open(log, &settings.status, &client, database, writer.clone(), status)?;
        Ok(Self { configs: Arc::new(configs), offsets: Arc::new(offsets), statuses: Arc::new(statuses), writer })
    }

    /// Waits until all three topics were read to their ends for the first time. An error of kind
    /// [`Away`](super::StorageErrorKind::Away) may pass; any other one is for a person to mend.
    pub fn wait_current(&self, timeout: Duration) -> Result<(), StorageError> {
        let deadline = Instant::now() + timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.configs.wait_current(left())?;
        self.offsets.wait_current(left())?;
        self.statuses.wait_current(left())
    }

    /// Ends reading and writing. What was put and not acknowledged is waited for, at most `timeout`.
    pub fn close(&self, timeout: Duration) {
        let writer = self.writer.clone();
        let abandon = std::thread::Builder::new().name("storage-close".to_owned()).spawn({
            let writer = writer.clone();
            move || {
                std::thread::park_timeout(timeout);
                writer.abandon();
            }
        });
        writer.close();
        if let Ok(abandon) = abandon {
            abandon.thread().unpark();
        }
        // Each of them waits for its Kafka clients to end.
        std::thread::scope(|scope| {
            scope.spawn(|| self.configs.close());
            scope.spawn(|| self.offsets.close());
            self.statuses.close();
        });
    }
}
