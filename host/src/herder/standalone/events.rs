//! What the worker reports, and what falls due.

use std::sync::Arc;
use std::time::Instant;

use super::Actor;
use crate::herder::entry::Instance;
use crate::herder::observation::{log_state, observe};
use crate::herder::task_configs::offered;
use crate::storage::TopicStatus;
use crate::worker::{State, WorkerEvent};

impl Actor {
    pub(super) fn event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Connector { name, state, trace } => {
                let Some(entry) = self.entries.get_mut(&name) else { return };
                let policy = entry.policy();
                if observe(&mut entry.connector, &policy, state, trace) {
                    log_state(&name, None, &entry.connector);
                    self.record_connector(&self.entries[&name]);
                    self.publish(&name);
                }
            }
            WorkerEvent::Task { id, state, trace } => {
                let Some(entry) = self.entries.get_mut(&id.connector) else { return };
                let policy = entry.policy();
                let Some(task) = entry.tasks.get_mut(id.task as usize) else { return };
                if observe(&mut task.instance, &policy, state, trace) {
                    log_state(&id.connector, Some(id.task), &task.instance);
                    self.record_task(&self.entries[&id.connector], id.task);
                    self.publish(&id.connector);
                }
            }
            WorkerEvent::TaskConfigs { name, configs } => {
                let Some(entry) = self.entries.get_mut(&name) else { return };
                // What an instance says that is about to be replaced is about an older config.
                if entry.connector.started && !entry.connector.stale {
                    match offered(&entry.config, configs) {
                        Ok(configs) => entry.offered = Some(configs),
                        Err(message) => {
                            let policy = entry.policy();
                            observe(&mut entry.connector, &policy, State::Failed, Some(message));
                            log_state(&name, None, &entry.connector);
                            self.record_connector(&self.entries[&name]);
                        }
                    }
                    self.reconcile(&name);
                }
            }
            WorkerEvent::TopicUsed { connector, task, topic } => self.topic_used(&connector, task, topic),
        }
    }

    fn topic_used(&mut self, connector: &str, task: u32, topic: String) {
        let Some(entry) = self.entries.get_mut(connector) else { return };
        if self.settings.topic_tracking && !entry.topics.contains(&topic) {
            Arc::make_mut(&mut entry.topics).insert(topic.clone());
            let discovered_ms = chrono::Utc::now().timestamp_millis();
            self.deps.statuses.put_topic(connector, &TopicStatus { topic, task, discovered_ms });
            self.publish(connector);
        }
    }

    /// Begins the restarts of a connector that are due.
    pub(super) fn restart_due(&mut self, name: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let due = |instance: &Instance| instance.restarts.due.is_some_and(|due| due <= now);
        let mut any = false;
        let tasks = entry.tasks.iter_mut().enumerate().map(|(id, task)| (Some(id), &mut task.instance));
        for (task, instance) in tasks.chain([(None, &mut entry.connector)]).filter(|(_, instance)| due(instance)) {
            instance.restart(false);
            any = true;
            tracing::info!(connector = name, task, attempt = instance.restarts.attempts, "restarting after a failure");
        }
        if any {
            self.record(name);
        }
    }

    /// The worker has stopped everything: nothing is assigned any more.
    pub(super) fn record_end(&mut self) {
        for entry in self.entries.values_mut() {
            if entry.connector.state != State::Stopped {
                entry.connector.state = State::Unassigned;
            }
            entry.tasks.iter_mut().for_each(|task| task.instance.state = State::Unassigned);
        }
        for (name, entry) in &self.entries {
            self.deps.statuses.put_connector(
                name,
                &crate::storage::StatusRecord {
                    state: entry.connector.state,
                    trace: None,
                    worker_id: self.settings.worker_id.clone(),
                    generation: 0,
                    version: entry.version.clone(),
                },
            );
            for id in 0..entry.tasks.len() as u32 {
                self.record_task(entry, id);
            }
        }
    }
}
