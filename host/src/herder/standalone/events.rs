//! What the worker reports, and what falls due.

use std::sync::Arc;
use std::time::Instant;

use tributary_sdk::Config;

use super::Actor;
use crate::herder::entry::{Entry, Instance};
use crate::herder::restart_policy::RestartPolicy;
use crate::storage::TopicStatus;
use crate::worker::{State, TaskId, WorkerEvent};

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
                    match offer(entry, configs) {
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

/// Takes over a reported state; `false` if it changes nothing. A failure plans the next restart.
fn observe(instance: &mut Instance, policy: &RestartPolicy, state: State, trace: Option<String>) -> bool {
    let trace: Option<Arc<str>> = trace.map(Into::into);
    // What was stopped has nothing to say any more.
    if !instance.started || (instance.state == state && instance.trace == trace) {
        return false;
    }
    // Until it has stopped, what is to be restarted shows that.
    if instance.stale && instance.state == State::Restarting {
        return false;
    }
    (instance.state, instance.trace) = (state, trace);
    if state == State::Failed {
        instance.restarts.failed(policy, Instant::now());
    }
    true
}

fn log_state(connector: &str, task: Option<u32>, instance: &Instance) {
    let trace = instance.trace.as_deref().unwrap_or_default();
    match (instance.state, instance.restarts.due) {
        (State::Failed, None) => {
            tracing::error!(connector, task, "failed, and stays so until it is restarted: {trace}")
        }
        (State::Failed, Some(due)) => {
            let pause = due.saturating_duration_since(Instant::now());
            tracing::error!(connector, task, "failed, and restarts in {:.1} s: {trace}", pause.as_secs_f64());
        }
        (state, _) => tracing::info!(connector, task, ?state, "changed state"),
    }
}

/// The task configs to store: not more than allowed, and with references where the connector's config has them, so that no
/// secret is stored or shown.
fn offer(entry: &Entry, mut configs: Vec<Config>) -> Result<Vec<Config>, String> {
    let (count, max) = (configs.len(), entry.max_tasks());
    let enforce = entry.config.get("tasks.max.enforce").is_none_or(|enforce| enforce.trim() != "false");
    if count > max && enforce {
        return Err(format!(
            "the connector made {count} task configs, more than tasks.max={max} allows; raise tasks.max, or set tasks.max.enforce=false"
        ));
    }
    for config in &mut configs {
        for (key, reference) in entry.config.0.iter().filter(|(_, value)| value.contains("${")) {
            if let Some(value) = config.0.get_mut(key) {
                value.clone_from(reference);
            }
        }
    }
    Ok(configs)
}

impl From<(&str, u32)> for TaskId {
    fn from((connector, task): (&str, u32)) -> Self {
        Self { connector: connector.to_owned(), task }
    }
}
