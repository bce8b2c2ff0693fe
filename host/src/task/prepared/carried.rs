//! What the metadata of a committed offset says: `prepared:1:<epoch>:<token>`.

use std::sync::Arc;

/// Bytes of metadata that Kafka takes, unless `offset.metadata.max.bytes` of the brokers says otherwise.
pub const MAX_METADATA: usize = 4096;

const MARK: &str = "prepared:1:";

/// The owner of a partition, and what is prepared up to its offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The epoch of the owner that committed the offset.
    pub epoch: i64,
    /// What has to be committed in the store, if it is not yet.
    pub token: Option<Arc<str>>,
}

impl Carried {
    /// Reads metadata; `None` where it says nothing of this.
    pub fn parse(metadata: &str) -> Option<Self> {
        let (epoch, token) = metadata.strip_prefix(MARK)?.split_once(':')?;
        Some(Self { epoch: epoch.parse().ok()?, token: Some(token).filter(|token| !token.is_empty()).map(Into::into) })
    }

    /// As metadata.
    pub fn metadata(&self) -> Arc<str> {
        format!("{MARK}{}:{}", self.epoch, self.token.as_deref().unwrap_or_default()).into()
    }

    /// The epoch of the owner after the one that committed this metadata. By the clock, so that it grows also where the metadata was lost, as when
    /// offsets are reset; and by at least one, whatever the clock says.
    pub fn next_epoch(metadata: &str, now_ms: i64) -> i64 {
        Self::parse(metadata).map_or(now_ms, |carried| now_ms.max(carried.epoch.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use tributary_sdk::prepared::MAX_TOKEN;

    use super::*;

    #[test]
    fn metadata_is_read_as_it_was_written() {
        for token in [None, Some("a"), Some("with:colons: and ☃")] {
            let carried = Carried { epoch: 1_764_000_000_000, token: token.map(Into::into) };
            assert_eq!(Carried::parse(&carried.metadata()), Some(carried));
        }
        for other in ["", "prepared:1:", "prepared:1:x:y", "prepared:2:1:y", "someone else's"] {
            assert_eq!(Carried::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_largest_token_fits() {
        let carried = Carried { epoch: i64::MIN, token: Some("x".repeat(MAX_TOKEN).into()) };
        assert!(carried.metadata().len() <= MAX_METADATA);
    }

    #[test]
    fn epochs_grow_whatever_the_clock_says() {
        let metadata = Carried { epoch: 100, token: None }.metadata();
        assert_eq!(Carried::next_epoch(&metadata, 50), 101);
        assert_eq!(Carried::next_epoch(&metadata, 500), 500);
        assert_eq!(Carried::next_epoch("", 50), 50);
    }
}
