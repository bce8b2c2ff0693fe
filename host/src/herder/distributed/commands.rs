//! What users and other workers ask for.

use std::sync::Arc;
use std::time::Instant;

use tributary_sdk::Config;

use super::actor::Actor;
use super::writes::Claim;
use crate::herder::HerderError;
use crate::herder::command::{Command, Created, Location, Place, PutConnector, Reply, RestartRequest};
use crate::herder::entry::Clock;
use crate::herder::view::ConnectorView;
use crate::storage::{ConfigWrite, SessionKey};
use crate::worker::State;

/// What a request that nobody can carry out now is told.
const NO_LEADER: &str =
    "Cannot complete request momentarily due to no known leader URL, likely because a rebalance was underway.";
const REBALANCING: &str = "Cannot complete request because of a conflicting operation (e.g. worker rebalance)";

impl Actor {
    pub fn command(&mut self, command: Command) {
        // Whoever waited for an answer may have gone away; what was asked for counts all the same.
        match command {
            Command::Shutdown(reply) => self.shut_down(reply),
            command if self.shutting_down => command.refuse(HerderError::ShuttingDown),
            Command::ResetTopics(name, reply) => {
                self.deps.statuses.remove_topics(&name);
                self.publish(&name);
                let _ = reply.send(Ok(()));
            }
            Command::Locate(place, reply) => match self.locate(&place) {
                Some(location) => drop(reply.send(Ok(location))),
                None => self.wait(Command::Locate(place, reply)),
            },
            Command::Restart(name, request, reply) if !request.include_tasks && !request.only_failed => {
                drop(reply.send(self.restart_connector(&name)));
            }
            Command::RestartTask(name, task, reply) => drop(reply.send(self.restart_task(&name, task))),
            command => self.leader_command(command),
        }
    }

    /// Where a request has to go; `None` while nobody knows.
    fn locate(&self, place: &Place) -> Option<Location> {
        let assignment = self.assignment.as_ref()?;
        let leader = if assignment.leader {
            (self.writes.claim == Claim::Held).then_some(Location::Here)
        } else {
            Some(Location::At(assignment.leader_url.clone()))
        };
        let (name, task) = match place {
            Place::Leader => return leader,
            Place::Connector(name) => (name, None),
            Place::Task(name, task) => (name, Some(*task)),
        };
        let entry = self.entries.get(name);
        let wanted = entry.and_then(|entry| entry.wanted.as_ref());
        let (exists, here) = match task {
            None => (wanted.is_some(), entry.is_some_and(|entry| entry.assigned)),
            Some(id) => (
                wanted.is_some_and(|wanted| (id as usize) < wanted.tasks.len()),
                entry.is_some_and(|entry| entry.assigned_tasks.contains(&id)),
            ),
        };
        if here || (assignment.leader && !exists) {
            return Some(Location::Here);
        }
        if assignment.leader { self.deps.group.owner_url(name, task).map(Location::At) } else { leader }
    }

    /// Only the leader does these.
    fn leader_command(&mut self, command: Command) {
        match &self.assignment {
            Some(assignment) if !assignment.leader => {
                command.refuse(HerderError::Elsewhere(assignment.leader_url.clone()));
                return;
            }
            Some(_) if self.writes.claim == Claim::Held => {}
            _ => return self.wait(command),
        }
        match command {
            Command::Put(put, reply) => {
                self.in_turn(&put.name.clone(), Box::new(move |actor| actor.put(put, reply)));
            }
            Command::Delete(name, reply) => {
                self.in_turn(&name.clone(), Box::new(move |actor| actor.delete(&name, reply)));
            }
            Command::SetTarget(name, target, reply) => {
                self.in_turn(&name.clone(), Box::new(move |actor| actor.set_target(&name, target, reply)));
            }
            Command::Restart(name, request, reply) => {
                self.in_turn(&name.clone(), Box::new(move |actor| actor.restart_all(&name, request, reply)));
            }
            Command::WhileStopped(name, work, reply) => {
                self.in_turn(&name.clone(), Box::new(move |actor| actor.while_stopped(&name, work, reply)));
            }
            Command::PutTasks(name, configs, reply) => {
                self.in_turn(&name.clone(), Box::new(move |actor| actor.put_tasks(&name, configs, reply)));
            }
            Command::FenceTasks(name, reply) => {
                self.in_turn(&name.clone(), Box::new(move |actor| actor.fence_for_other(&name, reply)));
            }
            Command::ClusterLevel(logger, level, reply) => {
                let write = ConfigWrite::LoggerLevel(logger, level);
                self.write("", vec![write], Box::new(move |_, result| drop(reply.send(result))));
            }
            other => other.refuse(HerderError::Internal("the herder does not know this command".to_owned())),
        }
    }

    /// Keeps a command until there is a leader.
    fn wait(&mut self, command: Command) {
        self.waiting.push((Instant::now() + self.settings.patience, command));
    }

    /// Something has changed that commands wait for.
    pub fn commands_again(&mut self) {
        for (deadline, command) in std::mem::take(&mut self.waiting) {
            let before = self.waiting.len();
            self.command(command);
            // It waits on, no longer than before.
            if let Some(again) = self.waiting.get_mut(before) {
                again.0 = deadline;
            }
        }
    }

    pub fn give_up_waiting(&mut self, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let message = match (&self.assignment, self.deps.group.state().problem) {
            (_, Some(problem)) => format!("{NO_LEADER} {problem}"),
            (Some(_), None) => REBALANCING.to_owned(),
            (None, None) => NO_LEADER.to_owned(),
        };
        let (late, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(deadline, _)| *deadline <= now);
        self.waiting = waiting;
        for (_, command) in Vec::<(Instant, Command)>::from_iter(late) {
            command.refuse(HerderError::Rebalancing(message.clone()));
        }
    }

    fn config_of(&self, name: &str) -> Option<&Arc<Config>> {
        self.config.connectors.get(name).map(|connector| &connector.config)
    }

    fn view_of(&self, name: &str) -> Result<ConnectorView, HerderError> {
        let view = self.entries.get(name).and_then(|entry| entry.view(Clock::now()));
        view.ok_or_else(|| HerderError::NotFound(format!("Connector {name} not found")))
    }

    fn put(&mut self, put: PutConnector, reply: Reply<Created>) {
        let PutConnector { name, config, initial_state, replace, based_on } = put;
        let present = self.config_of(&name);
        let refusal = match (present, &based_on) {
            (Some(_), _) if !replace => Some(HerderError::AlreadyExists(format!("Connector {name} already exists"))),
            (Some(present), Some(base)) if **present != *base => {
                Some(HerderError::Conflict(format!("the config of connector {name} has changed in the meantime")))
            }
            (None, Some(_)) => Some(HerderError::NotFound(format!("Connector {name} not found"))),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return drop(reply.send(Err(refusal)));
        }
        let created = present.is_none();
        // The same config again changes nothing, unless the connector had failed with it.
        let same = present.is_some_and(|present| **present == config);
        if same && initial_state.is_none() {
            let answer = self.view_of(&name).map(|connector| Created { created, connector });
            let failed = self.view.connector(&name).is_some_and(|view| view.instance.state == State::Failed);
            if !failed {
                return drop(reply.send(answer));
            }
        }
        let write = ConfigWrite::Connector { name: name.clone(), config, initial: initial_state };
        let mut writes = vec![write];
        if same {
            writes.push(ConfigWrite::Restart(name.clone(), RestartRequest { include_tasks: false, only_failed: true }));
        }
        let done = move |actor: &mut Self, result: Result<(), HerderError>| {
            let answer = result.and_then(|()| {
                tracing::info!(connector = name, "{} the connector", if created { "created" } else { "changed" });
                Ok(Created { created, connector: actor.view_of(&name)? })
            });
            let _ = reply.send(answer);
        };
        let name = writes_name(&writes);
        self.write(&name, writes, Box::new(done));
    }

    fn delete(&mut self, name: &str, reply: Reply<()>) {
        if self.config_of(name).is_none() {
            return drop(reply.send(Err(HerderError::NotFound(format!("Connector {name} not found")))));
        }
        tracing::info!(connector = name, "deleting the connector");
        self.write(
            name,
            vec![ConfigWrite::Remove(name.to_owned())],
            Box::new(move |_, result| drop(reply.send(result))),
        );
    }

    fn set_target(&mut self, name: &str, target: State, reply: Reply<()>) {
        let Some(connector) = self.config.connectors.get(name) else {
            return drop(reply.send(Err(HerderError::NotFound(format!("Unknown connector {name}")))));
        };
        let mut writes = Vec::new();
        // A stopped connector has no tasks. Should the leader die between the two, a running connector without tasks is
        // whole again as soon as it is asked; a stopped one with tasks would not be.
        if target == State::Stopped && !connector.tasks.is_empty() {
            writes.push(ConfigWrite::Tasks(name.to_owned(), Vec::new()));
        }
        writes.push(ConfigWrite::Target(name.to_owned(), target));
        tracing::info!(connector = name, ?target, "changing the target state");
        self.write(name, writes, Box::new(move |_, result| drop(reply.send(result))));
    }

    /// Through the config topic, so that every worker restarts what it has.
    fn restart_all(&mut self, name: &str, request: RestartRequest, reply: Reply<ConnectorView>) {
        if self.config_of(name).is_none() {
            return drop(reply.send(Err(HerderError::NotFound(format!("Unknown connector: {name}")))));
        }
        let write = ConfigWrite::Restart(name.to_owned(), request);
        let shown = self.view.connector(name);
        let done = move |_: &mut Self, result: Result<(), HerderError>| {
            let answer = result.and_then(|()| {
                let gone = || HerderError::Internal("the connector is gone".to_owned());
                let mut view = ConnectorView::clone(&*shown.ok_or_else(gone)?);
                let wanted = |state| !request.only_failed || state == State::Failed;
                if wanted(view.instance.state) {
                    (view.instance.state, view.instance.trace) = (State::Restarting, None);
                }
                for task in view.tasks.iter_mut().filter(|task| request.include_tasks && wanted(task.instance.state)) {
                    (task.instance.state, task.instance.trace) = (State::Restarting, None);
                }
                Ok(view)
            });
            let _ = reply.send(answer);
        };
        self.write(name, vec![write], Box::new(done));
    }

    fn put_tasks(&mut self, name: &str, configs: Vec<Config>, reply: Reply<()>) {
        let Some(entry) = self.entries.get(name).filter(|entry| entry.wanted.is_some()) else {
            return drop(reply.send(Err(HerderError::NotFound(format!("Connector {name} not found")))));
        };
        if entry.wanted.as_ref().is_some_and(|wanted| wanted.target == State::Stopped) {
            return drop(
                reply.send(Err(HerderError::Conflict(format!("connector {name} is stopped and has no tasks")))),
            );
        }
        if entry.has(&configs) {
            return drop(reply.send(Ok(())));
        }
        let write = ConfigWrite::Tasks(name.to_owned(), configs);
        self.write(name, vec![write], Box::new(move |_, result| drop(reply.send(result))));
    }

    fn restart_connector(&mut self, name: &str) -> Result<ConnectorView, HerderError> {
        let entry = self.entries.get_mut(name).filter(|entry| entry.wanted.is_some());
        let entry = entry.ok_or_else(|| HerderError::NotFound(format!("Unknown connector: {name}")))?;
        if !entry.assigned {
            return Err(HerderError::Rebalancing(REBALANCING.to_owned()));
        }
        if entry.wanted.as_ref().is_some_and(|wanted| wanted.target != State::Stopped) {
            entry.connector.restart(true);
            self.record_connector(name);
            self.touched.insert(name.to_owned());
        }
        self.view_of(name)
    }

    fn restart_task(&mut self, name: &str, task: u32) -> Result<(), HerderError> {
        let entry = self.entries.get_mut(name).filter(|entry| entry.wanted.is_some());
        let entry = entry.ok_or_else(|| HerderError::NotFound(format!("Unknown connector: {name}")))?;
        if entry.wanted.as_ref().is_none_or(|wanted| wanted.tasks.len() <= task as usize) {
            return Err(HerderError::NotFound(format!("Unknown task: {name}-{task}")));
        }
        if !entry.assigned_tasks.contains(&task) {
            return Err(HerderError::Rebalancing(REBALANCING.to_owned()));
        }
        entry.tasks.entry(task).or_default().instance.restart(true);
        self.record_task(name, task);
        self.touched.insert(name.to_owned());
        Ok(())
    }

    /// As the leader: there has to be a session key, and not too old a one.
    pub fn see_to_the_key(&mut self) {
        self.key_due = None;
        if !self.leads() || self.writes.claim != Claim::Held {
            return;
        }
        let now = Clock::now();
        let ttl = i64::try_from(self.settings.key_ttl.as_millis()).unwrap_or(i64::MAX);
        let left = self.config.session_key.as_ref().map(|key| key.created_ms.saturating_add(ttl) - now.now_ms);
        if let Some(left) = left.filter(|left| *left > 0) {
            self.key_due = Some(now.now + std::time::Duration::from_millis(left as u64));
            return;
        }
        let key = SessionKey {
            key: new_key(&self.settings.key_algorithm, self.settings.key_bits),
            algorithm: self.settings.key_algorithm.clone(),
            created_ms: now.now_ms,
        };
        // Until it is written, and again if it could not be.
        self.key_due = Some(now.now + std::time::Duration::from_secs(5));
        let done = |actor: &mut Self, result: Result<(), HerderError>| match result {
            Ok(()) => actor.see_to_the_key(),
            Err(error) => tracing::warn!("no new key for requests between workers: {error}"),
        };
        self.write("", vec![ConfigWrite::SessionKey(key)], Box::new(done));
    }

    fn shut_down(&mut self, reply: tokio::sync::oneshot::Sender<()>) {
        self.shutting_down = true;
        for (_, command) in std::mem::take(&mut self.waiting) {
            command.refuse(HerderError::ShuttingDown);
        }
        let (runner, messages) = (self.deps.runner.clone(), self.messages.clone());
        let stop = move || {
            runner.shutdown();
            let _ = messages.send(crate::herder::message::Message::ShutDown(reply));
        };
        if !self.deps.jobs.run("herder-shutdown", Box::new(stop)) {
            tracing::error!("the tasks cannot be stopped in order; they end with the process");
        }
    }
}

/// The connector that writes are about.
fn writes_name(writes: &[ConfigWrite]) -> String {
    match writes.first() {
        Some(ConfigWrite::Connector { name, .. }) => name.clone(),
        _ => String::new(),
    }
}

/// A secret key for an algorithm of Java's names.
fn new_key(algorithm: &str, bits: Option<usize>) -> Vec<u8> {
    use rand::{RngCore, SeedableRng};
    // As Java's generators: a block of the hash function, unless told otherwise.
    let standard = if algorithm.contains("512") || algorithm.contains("384") { 64 } else { 32 };
    let mut key = vec![0; bits.map_or(standard, |bits| bits.div_ceil(8).max(1))];
    rand::rngs::StdRng::from_os_rng().fill_bytes(&mut key);
    key
}
