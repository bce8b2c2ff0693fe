//! What the API has to know of the group.

use std::sync::Arc;

use super::peer::PeerClient;
use super::signature::Signing;
use crate::group::GroupState;
use crate::storage::SessionKey;

/// Why a worker is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has not been a member of the group yet, and this is why.
    Starting(String),
    /// It cannot do its work.
    Unhealthy(String),
}

/// The group that a worker is in.
pub struct Cluster {
    /// Requests to other workers.
    pub peers: PeerClient,
    /// How requests between workers are signed.
    pub signing: Signing,
    /// The present key.
    pub key: Arc<dyn Fn() -> Option<SessionKey> + Send + Sync>,
    /// Reads what another worker has just written for a request, so that this worker shows it. Blocks, not for long.
    pub catch_up: Arc<dyn Fn() + Send + Sync>,
    /// The membership.
    pub group: Arc<dyn Fn() -> GroupState + Send + Sync>,
    /// What is wrong, if anything is.
    pub health: Arc<dyn Fn() -> Option<Health> + Send + Sync>,
}
