//! Where configs, offsets and states are kept: one trait each, so that SQLite and Kafka's compacted topics are interchangeable.

use tributary_sdk::source::SourcePosition;

/// What went wrong in a store; names the operation and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);

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
