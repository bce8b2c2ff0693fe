//! What users ask for: checked, stored, answered; then whatever follows from it.

use std::sync::Arc;
use std::time::Instant;

use super::{Actor, CONFIGURED_WITHIN};
use crate::herder::HerderError;
use crate::herder::command::{Command, Created, Location, PutConnector, Reply, RestartRequest};
use crate::herder::entry::{Clock, Entry, Waiter};
use crate::herder::message::Message;
use crate::herder::restart_policy::Restarts;
use crate::herder::view::ConnectorView;
use crate::storage::StatusRecord;
use crate::worker::{State, TaskId};

impl Actor {
    pub(super) fn command(&mut self, command: Command) {
        // Whoever waited for an answer may have gone away; what was asked for counts all the same.
        match command {
            Command::Shutdown(reply) => self.shut_down(reply),
            command if self.shutting_down => command.refuse(HerderError::ShuttingDown),
            Command::Put(put, reply) => self.put(put, reply),
            Command::Delete(name, reply) => self.delete(&name, reply),
            Command::SetTarget(name, target, reply) => self.set_target(&name, target, reply),
            Command::Restart(name, request, reply) => drop(reply.send(self.restart(&name, request))),
            Command::RestartTask(name, task, reply) => drop(reply.send(self.restart_task(&name, task))),
            Command::WhileStopped(name, work, reply) => self.while_stopped(&name, work, reply),
            Command::ResetTopics(name, reply) => {
                if let Some(entry) = self.entries.get_mut(&name) {
                    entry.topics = Arc::default();
                    self.deps.statuses.remove_topics(&name);
                    self.publish(&name);
                }
                let _ = reply.send(Ok(()));
            }
            // This worker is the whole cluster.
            Command::ClusterLevel(_, _, reply) => drop(reply.send(Ok(()))),
            Command::Locate(_, reply) => drop(reply.send(Ok(Location::Here))),
            Command::PutTasks(name, _, reply) | Command::FenceTasks(name, reply) => {
                drop(reply.send(Err(HerderError::BadRequest(format!(
                    "a standalone worker takes no task configs from others (connector {name})"
                )))))
            }
        }
    }

    fn put(&mut self, put: PutConnector, reply: Reply<Created>) {
        let present = self.entries.get(&put.name);
        let refusal = match (present, &put.based_on) {
            (Some(entry), _) if entry.removed => Some(HerderError::Conflict(format!(
                "Connector {} is being deleted; try again when it is gone",
                put.name
            ))),
            (Some(_), _) if !put.replace => {
                Some(HerderError::AlreadyExists(format!("Connector {} already exists", put.name)))
            }
            (Some(entry), Some(base)) if *entry.config != *base => {
                Some(HerderError::Conflict(format!("the config of connector {} has changed in the meantime", put.name)))
            }
            (None, Some(_)) => Some(HerderError::NotFound(format!("Connector {} not found", put.name))),
            _ => None,
        };
        let stored = match refusal {
            Some(refusal) => Err(refusal),
            None => self.deps.configs.put_connector(&put.name, &put.config, put.initial_state).map_err(Into::into),
        };
        if let Err(error) = stored {
            let _ = reply.send(Err(error));
            return;
        }
        let created = present.is_none();
        let mut entry = self.entries.remove(&put.name).unwrap_or_else(|| {
            let target = put.initial_state.unwrap_or(State::Running);
            Entry::new(&put.name, put.config.clone(), target)
        });
        entry.target = put.initial_state.unwrap_or(entry.target);
        // The same config again changes nothing, unless the connector had failed with it.
        if *entry.config != put.config || entry.connector.state == State::Failed {
            entry.config = Arc::new(put.config);
            entry.connector.stale = entry.connector.started;
            entry.connector.restarts = Restarts::default();
            (entry.configured, entry.offered) = (false, None);
        }
        self.identify(&mut entry);
        entry.waiters.push(Waiter::Configured { created, until: Instant::now() + CONFIGURED_WITHIN, reply });
        if created && entry.target == State::Stopped {
            self.record_connector(&entry);
        }
        self.entries.insert(put.name.clone(), entry);
        tracing::info!(connector = put.name, "{} the connector", if created { "created" } else { "changed" });
        self.reconcile(&put.name);
    }

    fn delete(&mut self, name: &str, reply: Reply<()>) {
        let Some(entry) = self.entries.get_mut(name) else {
            let _ = reply.send(Err(HerderError::NotFound(format!("Connector {name} not found"))));
            return;
        };
        if let Err(error) = self.deps.configs.remove_connector(name) {
            let _ = reply.send(Err(error.into()));
            return;
        }
        entry.removed = true;
        entry.waiters.push(Waiter::Removed(reply));
        tracing::info!(connector = name, "deleted the connector");
        self.reconcile(name);
    }

    fn set_target(&mut self, name: &str, target: State, reply: Reply<()>) {
        let entry = match self.entries.get_mut(name).filter(|entry| !entry.removed) {
            Some(entry) => entry,
            None => return drop(reply.send(Err(HerderError::NotFound(format!("Unknown connector {name}"))))),
        };
        if let Err(error) = self.deps.configs.put_target(name, target) {
            return drop(reply.send(Err(error.into())));
        }
        let before = std::mem::replace(&mut entry.target, target);
        if target == State::Stopped {
            entry.waiters.push(Waiter::Stopped(reply));
        } else {
            let _ = reply.send(Ok(()));
            if before != target && before != State::Stopped && entry.connector.started {
                self.deps.runner.set_target_state(name, target);
                if target == State::Running {
                    self.deps.runner.request_task_configs(name, entry.max_tasks());
                }
            }
        }
        if before != target {
            tracing::info!(connector = name, ?target, "changed the target state");
        }
        self.reconcile(name);
    }

    fn restart(&mut self, name: &str, request: RestartRequest) -> Result<ConnectorView, HerderError> {
        let entry = self.entries.get_mut(name).filter(|entry| !entry.removed);
        let entry = entry.ok_or_else(|| HerderError::NotFound(format!("Unknown connector: {name}")))?;
        if entry.target != State::Stopped {
            let wanted = |state| !request.only_failed || state == State::Failed;
            if wanted(entry.connector.state) {
                entry.connector.restart(true);
            }
            for task in entry.tasks.iter_mut().filter(|_| request.include_tasks) {
                if wanted(task.instance.state) {
                    task.instance.restart(true);
                }
            }
        }
        let view = entry.view(Clock::now());
        self.record(name);
        self.reconcile(name);
        Ok(view)
    }

    fn restart_task(&mut self, name: &str, task: u32) -> Result<(), HerderError> {
        let entry = self.entries.get_mut(name).filter(|entry| !entry.removed);
        let entry = entry.ok_or_else(|| HerderError::NotFound(format!("Unknown connector: {name}")))?;
        let found = entry.tasks.get_mut(task as usize);
        found.ok_or_else(|| HerderError::NotFound(format!("Unknown task: {name}-{task}")))?.instance.restart(true);
        self.record(name);
        self.reconcile(name);
        Ok(())
    }

    fn shut_down(&mut self, reply: tokio::sync::oneshot::Sender<()>) {
        self.shutting_down = true;
        let (runner, messages) = (self.deps.runner.clone(), self.messages.clone());
        let stop = move || {
            runner.shutdown();
            let _ = messages.send(Message::ShutDown(reply));
        };
        if let Err(error) = std::thread::Builder::new().name("herder-shutdown".to_owned()).spawn(stop) {
            tracing::error!("cannot start a thread to stop the tasks: {error}; they end with the process");
        }
    }

    /// Records every state of a connector.
    pub(super) fn record(&self, name: &str) {
        let Some(entry) = self.entries.get(name) else { return };
        self.record_connector(entry);
        for id in 0..entry.tasks.len() as u32 {
            self.record_task(entry, id);
        }
    }

    pub(super) fn record_connector(&self, entry: &Entry) {
        self.deps.statuses.put_connector(&entry.name, &self.status(entry, &entry.connector));
    }

    pub(super) fn record_task(&self, entry: &Entry, task: u32) {
        let id = TaskId { connector: entry.name.clone(), task };
        if let Some(task) = entry.tasks.get(task as usize) {
            self.deps.statuses.put_task(&id, &self.status(entry, &task.instance));
        }
    }

    fn status(&self, entry: &Entry, instance: &crate::herder::entry::Instance) -> StatusRecord {
        StatusRecord {
            state: instance.state,
            trace: instance.trace.as_deref().map(str::to_owned),
            worker_id: self.settings.worker_id.clone(),
            generation: 0,
            version: entry.version.clone(),
        }
    }
}
