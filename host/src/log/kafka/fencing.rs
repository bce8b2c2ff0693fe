//! Fences transactional ids without a producer of librdkafka's: one InitProducerId request each, by the worker's own Kafka
//! client with the same client settings. The coordinator aborts what the former producer has open and answers once that is done.

use std::time::{Duration, Instant};

use super::super::{ClientSettings, LogError};
use crate::group::wire::{Cluster, WireSettings};

/// Fences one after the other, all of them or with the reason why not.
pub(super) fn fence(settings: &ClientSettings, ids: &[String], timeout: Duration) -> Result<(), LogError> {
    let failed = |error: &dyn std::fmt::Display, retriable| {
        let message = format!("fencing former producers of {} transactional ids: {error}", ids.len());
        LogError { message, retriable, code: None }
    };
    let settings = WireSettings::new(settings).map_err(|error| failed(&error, false))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error, true))?;
    let deadline = Instant::now() + timeout;
    let fenced = runtime.block_on(async {
        let cluster = Cluster::new(settings);
        for id in ids {
            let left = deadline.saturating_duration_since(Instant::now());
            let fenced = cluster.fence_producer(id, left).await;
            fenced.map_err(|error| failed(&error, error.retriable()))?;
        }
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_millis(10));
    fenced
}
