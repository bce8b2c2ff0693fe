//! Where configs, offsets and states are kept: one trait each, so that SQLite and Kafka's compacted topics are interchangeable.
//!
//! Every call blocks and none may be made on a tokio worker. What returns `Ok` is durable, except for statuses and topics in
//! use, which follow within moments: they are observations, and a lost one is observed again.

mod cluster_config;
mod config_store;
mod error;
pub mod kafka;
pub mod sqlite;
mod status_store;

use tributary_sdk::source::SourcePosition;

use crate::log::LogRecords;

pub use cluster_config::{
    ClusterConfig, ClusterConnector, ConfigChange, ConfigLog, ConfigWrite, SessionKey, TaskFencing,
};
pub use config_store::{ConfigStore, StoredConnector};
pub(crate) use sqlite::offsets::canonical;

pub use error::{StorageError, StorageErrorKind};
pub use status_store::{StatusRecord, StatusStore, TopicStatus};

/// Source offsets by connector and source partition. Calls block; none may be made on a tokio worker.
pub trait OffsetStore: Send + Sync {
    /// Stored offsets of these source partitions, in order.
    fn get(
        &self,
        connector: &str,
        partitions: &[serde_json::Value],
    ) -> Result<Vec<Option<serde_json::Value>>, StorageError>;
    /// All stored offsets of a connector.
    fn all(&self, connector: &str) -> Result<Vec<SourcePosition>, StorageError>;
    /// Stores (or, without offset, removes) positions, all or none; durable on return.
    fn put(&self, connector: &str, positions: &[SourcePosition]) -> Result<(), StorageError>;
}

/// Source offsets that a task commits in its own transactions.
pub trait TransactionalOffsets: OffsetStore {
    /// The topic that they are written to.
    fn topic(&self) -> &str;
    /// The records that store these positions; `None`: there are none.
    fn records(&self, connector: &str, positions: &[SourcePosition]) -> Option<LogRecords>;
    /// They are committed: copies them to where others look, if there is such a place. Does not wait long; a failure is logged.
    fn committed(&self, connector: &str, positions: &[SourcePosition]);
}

/// A connector's keyed state by shard (`state_get_many` and so on of the SDK). Calls block.
pub trait StateStore: Send + Sync {
    /// Values by key, `None` where absent.
    fn get_many(&self, connector: &str, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError>;
    /// Writes, all or none; a `None` value removes the key. Durable on return.
    fn put_many(&self, connector: &str, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<(), StorageError>;
    /// Entries whose key begins with `prefix`, from `from`, in byte order, until `entry` answers `false`.
    fn scan(
        &self,
        connector: &str,
        shard: &str,
        prefix: &[u8],
        from: &[u8],
        entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError>;
}
