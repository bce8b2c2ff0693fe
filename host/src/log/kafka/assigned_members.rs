//! Who reads which partitions in a consumer group, asked of its coordinator by the worker's own Kafka client.

use std::time::Duration;

use super::super::{AssignedMember, ClientSettings, LogError};
use crate::group::wire::{Cluster, WireSettings};

/// See [`Log::assigned_members`](super::super::Log::assigned_members).
pub(super) fn ask(
    settings: &ClientSettings,
    group: &str,
    timeout: Duration,
) -> Result<Option<Vec<AssignedMember>>, LogError> {
    let failed = |error: &dyn std::fmt::Display| {
        LogError::retriable(format!("asking for the members of group {group}: {error}"))
    };
    let settings = WireSettings::new(settings).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let members = runtime.block_on(async {
        let members = Cluster::new(settings).assigned_members(group, timeout).await;
        members.map_err(|error| failed(&error))
    });
    runtime.shutdown_timeout(Duration::from_millis(10));
    members
}
