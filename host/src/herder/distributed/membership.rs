//! What the group asks of the herder: passed on to its thread, except for what the config topic's snapshot answers.

use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};
use std::time::Duration;

use tributary_sdk::Config;

use super::Input;
use crate::group::{Assignment, ClusterSnapshot, ConnectorShape, GroupAssignment, GroupCallbacks};
use crate::herder::message::Message;
use crate::storage::{ClusterConfig, ClusterConnector, ConfigLog};
use crate::transform::registry;
use crate::worker::State;

/// The herder as its group sees it.
pub struct Membership {
    configs: Arc<dyn ConfigLog>,
    messages: Sender<Message>,
    /// How long a revocation may take.
    patience: Duration,
}

impl Membership {
    pub(in crate::herder) fn new(configs: Arc<dyn ConfigLog>, messages: Sender<Message>, patience: Duration) -> Self {
        Self { configs, messages, patience }
    }

    /// Waits until the herder has done it; not for a herder that has ended.
    fn wait(&self, input: impl FnOnce(std::sync::mpsc::SyncSender<()>) -> Input, timeout: Duration) -> bool {
        let (done, ended) = sync_channel(1);
        if self.messages.send(Message::Distributed(input(done))).is_err() {
            return true;
        }
        !matches!(ended.recv_timeout(timeout), Err(std::sync::mpsc::RecvTimeoutError::Timeout))
    }
}

impl GroupCallbacks for Membership {
    fn snapshot(&self) -> ClusterSnapshot {
        shape(&self.configs.snapshot())
    }

    fn refresh(&self, config_offset: i64, timeout: Duration) {
        if self.configs.snapshot().offset >= config_offset {
            return;
        }
        if let Err(error) = self.configs.refresh(timeout) {
            tracing::warn!(
                "the config topic could not be read up to offset {config_offset}, to which another worker has read it: {error}"
            );
        }
        let _ = self.messages.send(Message::Distributed(Input::ConfigChanged));
    }

    fn assigned(&self, assignment: GroupAssignment) {
        let _ = self.messages.send(Message::Distributed(Input::Assigned(Box::new(assignment))));
    }

    fn revoke(&self, revoked: &Assignment) {
        if !self.wait(|done| Input::Revoked(revoked.clone(), done), self.patience) {
            tracing::error!(
                "{revoked} were not stopped within {:?}; the group goes on without waiting for them",
                self.patience
            );
        }
    }

    fn lost(&self, reason: &str) {
        if !self.wait(|done| Input::Lost(reason.to_owned(), done), self.patience) {
            tracing::error!("the herder did not take note within {:?} that the membership was lost", self.patience);
        }
    }
}

/// What an assignment has to know.
pub(super) fn shape(config: &ClusterConfig) -> ClusterSnapshot {
    let connectors = config.connectors.iter().map(|(name, connector)| (name.clone(), shape_of(connector)));
    ClusterSnapshot { config_offset: config.offset, connectors: connectors.collect() }
}

/// What an assignment has to know of one connector.
pub(super) fn shape_of(connector: &ClusterConnector) -> ConnectorShape {
    let tasks = if connector.target == State::Stopped { 0 } else { connector.tasks.len() as u32 };
    let weight = connector.config.parsed("tributary.weight", 1.0).unwrap_or(1.0);
    ConnectorShape { tasks, weight, labels: labels(&connector.config), standbys: standbys(&connector.config) }
}

/// How many workers follow the state of each task.
fn standbys(config: &Config) -> u32 {
    let replicas = config.parsed("state.standby.replicas", 0).unwrap_or(0);
    if replicas > 0 && registry::keeps_state(config) { replicas } else { 0 }
}

fn labels(config: &Config) -> Vec<String> {
    config.list("tributary.worker.labels").into_iter().map(str::to_owned).collect()
}
