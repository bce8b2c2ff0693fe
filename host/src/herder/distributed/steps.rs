//! Takes the steps that [`Entry::next_step`] names.

use std::time::Instant;

use tributary_sdk::Config;

use super::actor::Actor;
use super::entry::{Entry, Step};
use super::input::Input;
use crate::herder::PluginKind;
use crate::herder::consumer_group::consumer_group;
use crate::herder::message::Message;
use crate::herder::stopping::Stopping;
use crate::herder::task_configs::max_tasks;
use crate::storage::ConfigWrite;
use crate::worker::{ConnectorSpec, State, TaskId, TaskSpec};

impl Actor {
    /// Takes steps until there is nothing to do or something to wait for, then publishes.
    pub fn reconcile(&mut self, name: &str, now: Instant) {
        self.follow(name);
        while let Some(entry) = self.entries.get_mut(name) {
            if self.shutting_down {
                break;
            }
            match entry.next_step(now) {
                Step::Nothing => break,
                Step::Stop { tasks, connector } => {
                    entry.busy = true;
                    self.stop(name, tasks, connector);
                }
                Step::Forget => {
                    self.entries.remove(name);
                }
                Step::RecordStopped => {
                    entry.stop_recorded = true;
                    (entry.connector.state, entry.connector.trace) = (State::Stopped, None);
                    entry.connector.restarts = Default::default();
                    self.record_connector(name);
                }
                Step::Tell(target) => {
                    entry.told = Some(target);
                    let (asks, max) =
                        (entry.connector.started && target == State::Running, entry.config().map(|c| max_tasks(c)));
                    self.deps.runner.set_target_state(name, target);
                    if asks {
                        self.deps.runner.request_task_configs(name, max.unwrap_or(1));
                    }
                }
                Step::StartConnector => {
                    let Some(wanted) = entry.wanted.clone() else { break };
                    entry.told = Some(wanted.target);
                    (entry.connector.started, entry.connector.restarts.due) = (true, None);
                    entry.running_config = Some(wanted.config.clone());
                    entry.hand_over.made = None;
                    entry.hand_over.at_once();
                    self.deps.runner.start_connector(ConnectorSpec {
                        name: name.to_owned(),
                        config: (*wanted.config).clone(),
                        target: wanted.target,
                    });
                }
                Step::StartTasks(ids) => {
                    let Some(wanted) = entry.wanted.clone() else { break };
                    entry.told = Some(wanted.target);
                    let generation = entry.exactly_once.then_some(entry.fencing.generation);
                    for id in ids {
                        let Some(config) = wanted.tasks.get(id as usize) else { continue };
                        let task = entry.tasks.entry(id).or_default();
                        (task.instance.started, task.instance.restarts.due) = (true, None);
                        task.configs = Some((wanted.config.clone(), config.clone()));
                        (task.sample, task.generation) = (None, generation);
                        self.deps.runner.start_task(TaskSpec {
                            id: (name, id).into(),
                            connector_config: (*wanted.config).clone(),
                            task_config: (**config).clone(),
                            target: wanted.target,
                            generation,
                        });
                    }
                }
                Step::HandOver => self.hand_over(name),
                Step::Fence => self.ask_to_fence(name),
            }
        }
        self.publish(name);
    }

    /// Tells the worker whose state to follow, where that has changed. Nothing of what runs depends on it.
    fn follow(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name).filter(|_| !self.shutting_down) else { return };
        let spec = entry.follows();
        if entry.following != spec {
            entry.following.clone_from(&spec);
            self.deps.runner.follow(name, spec);
        }
    }

    /// Stops on a thread of its own; [`Message::Stopped`] follows.
    fn stop(&mut self, name: &str, tasks: Vec<u32>, connector_too: bool) {
        let Some(entry) = self.entries.get(name) else { return };
        let (leaving, group) = leaving(entry, &tasks);
        let stopping = Stopping { connector: name.to_owned(), tasks, connector_too, leaving, group };
        let work = stopping.work(self.deps.runner.clone(), self.messages.clone());
        if !self.deps.jobs.run("herder-stop", Box::new(work))
            && let Some(entry) = self.entries.get_mut(name)
        {
            // Without threads nothing works; try again when something changes.
            entry.busy = false;
        }
    }

    pub fn stopped(&mut self, name: &str, tasks: &[u32], connector_too: bool) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.busy = false;
        let exists = entry.wanted.is_some();
        let mut report = Vec::new();
        for id in tasks {
            let Some(task) = entry.tasks.get_mut(id) else { continue };
            let fenced = std::mem::take(&mut task.fenced);
            task.instance.stopped();
            (task.sample, task.records_per_second, task.configs) = (None, None, None);
            let wanted = entry
                .wanted
                .as_ref()
                .is_some_and(|wanted| (*id as usize) < wanted.tasks.len() || wanted.target == State::Stopped);
            if wanted && !fenced {
                report.push(*id);
            }
        }
        let mut report_connector = false;
        if connector_too {
            let fenced = std::mem::take(&mut entry.connector_fenced);
            entry.connector.stopped();
            entry.running_config = None;
            entry.hand_over.made = None;
            report_connector = exists && !fenced && entry.wanted.as_ref().is_some_and(|w| w.target != State::Stopped);
        }
        // What was stopped to go elsewhere is UNASSIGNED until its next owner reports it.
        report.iter().for_each(|&id| self.record_task(name, id));
        if report_connector {
            self.record_connector(name);
        }
        if let Some(entry) = self.entries.get_mut(name) {
            let assigned = &entry.assigned_tasks;
            entry.tasks.retain(|id, task| task.instance.started || assigned.contains(id));
        }
        self.touched.insert(name.to_owned());
    }

    /// Hands the connector's task configs to the leader.
    fn hand_over(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Some(configs) = entry.hand_over.made.clone() else { return };
        let Some(assignment) = &self.assignment else { return entry.hand_over.failed(Instant::now()) };
        entry.hand_over.under_way = true;
        let messages = self.messages.clone();
        let connector = name.to_owned();
        if assignment.leader {
            let answer = move |result: Result<(), crate::herder::HerderError>| {
                let result = result.map_err(|error| error.to_string());
                let _ = messages.send(Message::Distributed(Input::HandedOver { connector, result }));
            };
            let write = ConfigWrite::Tasks(name.to_owned(), configs);
            return self.write(name, vec![write], Box::new(move |_, result| answer(result)));
        }
        let (leader, peers, key) =
            (assignment.leader_url.clone(), self.deps.peers.clone(), self.config.session_key.clone());
        let work = move || {
            let result = match key {
                Some(key) => peers.put_tasks(&leader, &connector, &configs, &key),
                None => Err("the leader has not made a session key yet".to_owned()),
            };
            let _ = messages.send(Message::Distributed(Input::HandedOver { connector, result }));
        };
        if !self.deps.jobs.run("herder-tasks", Box::new(work)) {
            self.handed_over(name, Err("no thread could be started".to_owned()));
        }
    }

    /// The leader has the task configs, or not.
    pub fn handed_over(&mut self, name: &str, result: Result<(), String>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        match result {
            Ok(()) => entry.hand_over.succeeded(Instant::now()),
            Err(message) => {
                entry.hand_over.failed(Instant::now());
                tracing::warn!(
                    connector = name,
                    "the leader has not taken the task configs, and gets them again: {message}"
                );
            }
        }
        self.touched.insert(name.to_owned());
    }
}

/// Of the sink tasks that are stopped, those that will not come back anywhere; and their group.
fn leaving(entry: &Entry, tasks: &[u32]) -> (Vec<TaskId>, String) {
    let none = Config::default();
    // Of a connector that is gone only what runs still has its config.
    let config = entry
        .config()
        .map(|config| &**config)
        .or_else(|| entry.tasks.values().find_map(|task| task.configs.as_ref().map(|(connector, _)| &**connector)));
    let group = consumer_group(&entry.name, config.unwrap_or(&none));
    if entry.kind != Some(PluginKind::Sink) {
        return (Vec::new(), group);
    }
    let wanted = match &entry.wanted {
        Some(wanted) if wanted.target != State::Stopped => wanted.tasks.len(),
        _ => 0,
    };
    let fenced = |id: &u32| entry.tasks.get(id).is_some_and(|task| task.fenced);
    let leaving = tasks.iter().filter(|id| (**id as usize) >= wanted && !fenced(id));
    (leaving.map(|&id| (entry.name.as_str(), id).into()).collect(), group)
}
