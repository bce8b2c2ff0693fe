//! Takes the steps that [`Entry::next_step`] names.

use super::Actor;
use crate::herder::PluginKind;
use crate::herder::consumer_group::consumer_group;
use crate::herder::entry::{Entry, Step, Waiter};
use crate::herder::stopping::Stopping;
use crate::worker::{ConnectorSpec, State, TaskId, TaskSpec};

impl Actor {
    /// Takes steps until there is nothing to do or something to wait for, then publishes.
    pub(super) fn reconcile(&mut self, name: &str) {
        while let Some(entry) = self.entries.get_mut(name) {
            if self.shutting_down {
                break;
            }
            match entry.next_step() {
                Step::Nothing => break,
                Step::Stop { tasks, connector } => {
                    entry.busy = true;
                    self.stop(name, tasks, connector);
                }
                Step::Remove => return self.remove(name),
                Step::ForgetTasks => self.forget_tasks(name),
                Step::StartConnector => {
                    entry.connector.started = true;
                    entry.connector.restarts.due = None;
                    (entry.configured, entry.offered) = (false, None);
                    self.deps.runner.start_connector(ConnectorSpec {
                        name: name.to_owned(),
                        config: (*entry.config).clone(),
                        target: entry.target,
                    });
                }
                Step::PlaceOffer => self.place_offer(name),
                Step::StartTasks(ids) => {
                    for id in ids {
                        let task = &mut entry.tasks[id as usize];
                        task.instance.started = true;
                        task.instance.restarts.due = None;
                        task.sample = None;
                        self.deps.runner.start_task(TaskSpec {
                            id: (name, id).into(),
                            connector_config: (*entry.config).clone(),
                            task_config: (*task.config).clone(),
                            target: entry.target,
                            generation: None,
                        });
                    }
                }
            }
        }
        self.publish(name);
    }

    /// Stops on a thread of its own; [`Message::Stopped`](crate::herder::message::Message::Stopped) follows.
    fn stop(&mut self, name: &str, tasks: Vec<u32>, connector_too: bool) {
        let Some(entry) = self.entries.get(name) else { return };
        let gone = entry.removed || entry.target == State::Stopped;
        let leaving = |task: &&u32| entry.kind == Some(PluginKind::Sink) && (gone || entry.retired.contains(task));
        let leaving: Vec<TaskId> = tasks.iter().filter(leaving).map(|&task| (name, task).into()).collect();
        let group = consumer_group(name, &entry.config);
        let stopping = Stopping { connector: name.to_owned(), tasks, connector_too, leaving, group };
        let work = stopping.work(self.deps.runner.clone(), self.messages.clone());
        let spawned = std::thread::Builder::new().name("herder-stop".to_owned()).stack_size(256 << 10).spawn(work);
        if let Err(error) = spawned {
            // Without threads nothing works; try again when something changes.
            tracing::error!(connector = name, "cannot start a thread to stop tasks: {error}");
            if let Some(entry) = self.entries.get_mut(name) {
                entry.busy = false;
            }
        }
    }

    pub(super) fn stopped(&mut self, name: &str, tasks: &[u32], connector_too: bool) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.busy = false;
        for id in tasks {
            entry.retired.remove(id);
            if let Some(task) = entry.tasks.get_mut(*id as usize) {
                task.instance.stopped();
                (task.sample, task.records_per_second) = (None, None);
            }
        }
        if connector_too {
            entry.connector.stopped();
        }
        if entry.target == State::Stopped && !entry.connector.started {
            entry.connector.state = State::Stopped;
            entry.connector.trace = None;
            entry.connector.restarts = Default::default();
        }
        let gone: Vec<u32> = tasks.iter().copied().filter(|id| *id as usize >= entry.tasks.len()).collect();
        for id in gone {
            self.deps.statuses.remove_task(&(name, id).into());
        }
        self.record(name);
        self.reconcile(name);
    }

    fn forget_tasks(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if let Err(error) = self.deps.configs.put_tasks(name, &[], &entry.config) {
            // They are forgotten again at the next start.
            tracing::warn!(connector = name, "{error}");
        }
        for id in 0..entry.tasks.len() as u32 {
            self.deps.statuses.remove_task(&(name, id).into());
        }
        entry.tasks.clear();
        (entry.applied, entry.configured) = (None, false);
    }

    fn place_offer(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Some(configs) = entry.offered.take() else { return };
        let same = entry.applied.as_ref() == Some(&entry.config)
            && configs.len() == entry.tasks.len()
            && configs.iter().zip(&entry.tasks).all(|(config, task)| *config == *task.config);
        if same {
            entry.configured = true;
        } else if let Err(error) = self.deps.configs.put_tasks(name, &configs, &entry.config) {
            entry.connector.state = State::Failed;
            entry.connector.trace = Some(error.to_string().into());
            let policy = entry.policy();
            entry.connector.restarts.failed(&policy, std::time::Instant::now());
            tracing::error!(connector = name, "{error}");
            self.record_connector(&self.entries[name]);
        } else {
            entry.place(configs);
        }
    }

    fn remove(&mut self, name: &str) {
        self.deps.statuses.remove_connector(name);
        self.view.remove(name);
        let waiters = self.entries.remove(name).map(|entry: Entry| entry.waiters).unwrap_or_default();
        for waiter in waiters {
            match waiter {
                Waiter::Stopped(reply) | Waiter::Removed(reply) => drop(reply.send(Ok(()))),
                Waiter::Configured { reply, .. } => {
                    let gone = crate::herder::HerderError::NotFound(format!("Connector {name} not found"));
                    drop(reply.send(Err(gone)));
                }
            }
        }
    }
}
