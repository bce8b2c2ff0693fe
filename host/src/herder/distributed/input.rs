//! What comes to the distributed herder's thread besides commands and the worker's events.

use std::sync::mpsc::SyncSender;

use super::fencing::Fenced;
use crate::group::{Assignment, GroupAssignment};
use crate::herder::RestartRequest;
use crate::storage::StorageError;

/// See the module.
pub enum Input {
    /// The config topic says something new.
    ConfigChanged,
    /// Somebody asked, through the config topic, to restart a connector with its tasks.
    RestartAsked(String, RestartRequest),
    /// A log level of the whole cluster, through the config topic.
    LoggerLevel(String, String),
    /// The outcome of a rebalance.
    Assigned(Box<GroupAssignment>),
    /// Stop these; the sender is told when none of them runs any more.
    Revoked(Assignment, SyncSender<()>),
    /// This worker is no member any more; the sender is told when everything is fenced.
    Lost(String, SyncSender<()>),
    /// The batch of writes to the config topic that was under way has ended.
    Written(Result<(), StorageError>),
    /// This worker is the only one that can write to the config topic, or could not become that.
    Claimed(Result<(), StorageError>),
    /// The leader has answered to the wish to have former tasks fenced.
    FenceAnswered {
        /// Whose.
        connector: String,
        /// How.
        result: Result<(), String>,
    },
    /// As the leader: the producers of a connector's former tasks are fenced, or not.
    Fenced(Fenced),
    /// The leader has answered to task configs.
    HandedOver {
        /// Whose.
        connector: String,
        /// How.
        result: Result<(), String>,
    },
}
