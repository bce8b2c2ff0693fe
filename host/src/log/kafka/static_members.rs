//! Takes static members out of a consumer group, which librdkafka cannot.
//!
//! A sink task carries a `group.instance.id`, so that after a crash it has its partitions back at once instead of after the
//! dead member's session. The price: its client never says good-bye, and a task that is gone for good would hold its
//! partitions until the session ends. This says it: one LeaveGroup request to the group's coordinator, by the worker's own
//! Kafka client, with the same client settings.

use std::time::Duration;

use super::super::{ClientSettings, LogError};
use crate::group::wire::{Cluster, WireSettings};

/// Whether members can be taken out of groups with these client settings: the own client has to understand them.
pub(super) fn possible(settings: &ClientSettings) -> bool {
    match WireSettings::new(settings) {
        Ok(_) => true,
        Err(error) => {
            tracing::info!("sink tasks are ordinary members of their groups: {error}");
            false
        }
    }
}

/// Takes members out; fine where they are not in.
pub(super) fn remove(
    settings: &ClientSettings,
    group: &str,
    members: &[String],
    timeout: Duration,
) -> Result<(), LogError> {
    let away = |error: &dyn std::fmt::Display| {
        LogError::retriable(format!("taking members out of group {group}: {error}; they leave when their session ends"))
    };
    let settings = WireSettings::new(settings).map_err(|error| away(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| away(&error))?;
    let removed = runtime.block_on(async {
        let removal = Cluster::new(settings).remove_static_members(group, members, timeout).await;
        removal.map_err(|error| away(&error))
    });
    runtime.shutdown_timeout(Duration::from_millis(10));
    removed
}
