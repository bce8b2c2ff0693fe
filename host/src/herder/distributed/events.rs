//! What the worker, the config topic and the group report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tributary_sdk::Config;

use super::actor::Actor;
use super::entry::{Entry, LocalTask};
use super::input::Input;
use super::membership::shape_of;
use crate::group::{Assignment, GroupAssignment};
use crate::herder::entry::Instance;
use crate::herder::observation::{log_state, observe};
use crate::herder::task_configs::{TASK_CLASS, offered, task_class};
use crate::herder::{PluginKind, RestartRequest};
use crate::storage::{ClusterConfig, StatusRecord, TopicStatus};
use crate::worker::{State, TaskId, WorkerEvent};

impl Actor {
    pub fn input(&mut self, input: Input) {
        match input {
            Input::ConfigChanged => self.take_config(),
            Input::RestartAsked(name, request) => self.restart_asked(&name, request),
            Input::LoggerLevel(logger, level) => (self.deps.set_level)(&logger, &level),
            Input::Assigned(assignment) => self.assigned(*assignment),
            Input::Revoked(revoked, done) => self.revoked(revoked, done),
            Input::Lost(reason, done) => self.lost(&reason, &done),
            Input::Written(result) => self.written(result),
            Input::Claimed(result) => self.claimed(result),
            Input::HandedOver { connector, result } => self.handed_over(&connector, result),
            Input::FenceAnswered { connector, result } => self.fence_answered(&connector, result),
            Input::Fenced(fenced) => self.fenced(fenced),
        }
    }

    pub fn event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Connector { name, state, trace } => {
                let Some(entry) = self.entries.get_mut(&name) else { return };
                let policy = entry.policy();
                if observe(&mut entry.connector, &policy, state, trace) {
                    log_state(&name, None, &entry.connector);
                    self.record_connector(&name);
                    self.publish(&name);
                }
            }
            WorkerEvent::Task { id, state, trace } => {
                let Some(entry) = self.entries.get_mut(&id.connector) else { return };
                let policy = entry.policy();
                let Some(task) = entry.tasks.get_mut(&id.task) else { return };
                if observe(&mut task.instance, &policy, state, trace) {
                    log_state(&id.connector, Some(id.task), &task.instance);
                    self.record_task(&id.connector, id.task);
                    self.publish(&id.connector);
                }
            }
            WorkerEvent::TaskConfigs { name, configs } => self.task_configs(&name, configs),
            WorkerEvent::TopicUsed { connector, task, topic } => {
                // Told again and again while the topic is in use.
                let known = || self.deps.statuses.topics(&connector).unwrap_or_default();
                if self.settings.topic_tracking
                    && self.entries.contains_key(&connector)
                    && !known().iter().any(|known| known.topic == topic)
                {
                    let discovered_ms = chrono::Utc::now().timestamp_millis();
                    self.deps.statuses.put_topic(&connector, &TopicStatus { topic, task, discovered_ms });
                }
            }
        }
    }

    fn task_configs(&mut self, name: &str, configs: Vec<Config>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Some(wanted) = &entry.wanted else { return };
        // What an instance says that is about to be replaced is about an older config.
        let current = entry.connector.started
            && !entry.connector.stale
            && !entry.connector_fenced
            && entry.running_config.as_ref() == Some(&wanted.config);
        if !current {
            return;
        }
        match offered(&wanted.config, configs) {
            Ok(mut configs) => {
                if let Some(plugin) = self.deps.plugins.connector_of(&wanted.config) {
                    // A Connect worker that takes the group over does not start them without it.
                    let class = task_class(&plugin.class);
                    for task in &mut configs {
                        task.0.entry(TASK_CLASS.to_owned()).or_insert_with(|| class.clone());
                    }
                }
                entry.hand_over.made = Some(configs);
                entry.hand_over.at_once();
            }
            Err(message) => {
                let policy = entry.policy();
                observe(&mut entry.connector, &policy, State::Failed, Some(message));
                log_state(name, None, &entry.connector);
                self.record_connector(name);
            }
        }
        self.touched.insert(name.to_owned());
    }

    /// Takes over what the config topic says now.
    pub fn take_config(&mut self) {
        let new = self.deps.configs.snapshot();
        if Arc::ptr_eq(&new, &self.config) {
            return;
        }
        let old = std::mem::replace(&mut self.config, new.clone());
        let names = old.differing(&new);
        for name in &names {
            self.take_connector(name, &new);
        }
        let shape = |config: &ClusterConfig, name: &str| config.connectors.get(name).map(shape_of);
        let reshaped = names.iter().any(|name| shape(&old, name) != shape(&new, name));
        for name in names {
            self.publish(name);
        }
        // A topic that was made anew begins with small offsets; nobody could ever reach the old one.
        self.shape_changed = self.shape_changed.min(new.offset);
        if new.offset != old.offset && reshaped {
            self.shape_changed = new.offset;
            self.rejoin_if_outdated();
        }
        if let Some(coming) = self.coming.take_if(|coming| coming.config_offset <= new.offset) {
            self.assign(coming);
        }
    }

    fn take_connector(&mut self, name: &str, config: &ClusterConfig) {
        let entry = self.entries.entry(name.to_owned()).or_insert_with(|| Entry::new(name));
        let before = std::mem::replace(&mut entry.wanted, config.connectors.get(name).cloned());
        self.touched.insert(name.to_owned());
        let Some(wanted) = entry.wanted.clone() else {
            // Nothing of a connector that is gone comes back by itself.
            entry.instances().for_each(|(_, instance)| instance.restarts = Default::default());
            if self.leads() {
                self.deps.statuses.remove_connector(name);
            }
            return;
        };
        let plugin = self.deps.plugins.connector_of(&wanted.config);
        entry.kind = plugin.map(|plugin| plugin.kind);
        entry.version = plugin.map(|plugin| plugin.version.clone());
        entry.hand_over.at_once();
        entry.exactly_once = self.settings.exactly_once && entry.kind == Some(PluginKind::Source);
        let fencing = config.fencing.get(name).copied().unwrap_or_default();
        if entry.fencing != fencing {
            (entry.fencing, entry.fence.not_before) = (fencing, None);
        }
        entry.inconsistent = config.inconsistent.contains(name);
        entry.stop_recorded &= wanted.target == State::Stopped;
        let Some(before) = before else { return };
        if before.config != wanted.config {
            entry.connector.restarts = Default::default();
        }
        // What a stopped connector's workers report is how the leader learns that it has stopped everywhere.
        if self.leads() && wanted.target != State::Stopped && before.tasks != wanted.tasks {
            let statuses = self.deps.statuses.tasks(name).unwrap_or_default();
            for (id, _) in statuses.iter().filter(|(id, _)| *id as usize >= wanted.tasks.len()) {
                self.deps.statuses.remove_task(&(name, *id).into());
            }
        }
    }

    /// Asks for a rebalance if the last one did not know of all connectors and tasks.
    fn rejoin_if_outdated(&mut self) {
        let outdated = |known: &GroupAssignment| known.config_offset < self.shape_changed;
        if self.coming.as_ref().or(self.assignment.as_ref()).is_some_and(outdated) {
            self.rejoins.wish(Instant::now(), self.settings.rejoin_after);
        } else {
            self.rejoins.no_wish();
        }
    }

    fn restart_asked(&mut self, name: &str, request: RestartRequest) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.wanted.as_ref().is_none_or(|wanted| wanted.target == State::Stopped) {
            return;
        }
        let (assigned, tasks) = (entry.assigned, entry.assigned_tasks.clone());
        let wanted = |instance: &Instance| !request.only_failed || instance.state == State::Failed;
        let mut restarted = Vec::new();
        for (task, instance) in entry.instances() {
            let here = task.map_or(assigned, |id| request.include_tasks && tasks.contains(&id));
            if here && wanted(instance) {
                instance.restart(true);
                restarted.push(task);
            }
        }
        for task in restarted {
            match task {
                Some(id) => self.record_task(name, id),
                None => self.record_connector(name),
            }
        }
        self.touched.insert(name.to_owned());
    }

    fn assigned(&mut self, assignment: GroupAssignment) {
        if self.shutting_down {
            return;
        }
        if assignment.config_offset > self.config.offset {
            tracing::debug!(
                "the assignment of generation {} waits for the config topic up to offset {}; it was read up to {}",
                assignment.generation,
                assignment.config_offset,
                self.config.offset
            );
            self.coming = Some(assignment);
            let (configs, messages) = (self.deps.configs.clone(), self.messages.clone());
            self.deps.jobs.queue(Box::new(move || {
                if let Err(error) = configs.refresh(std::time::Duration::from_secs(30)) {
                    tracing::warn!("the config topic could not be read to its end: {error}");
                }
                let _ = messages.send(crate::herder::message::Message::Distributed(Input::ConfigChanged));
            }));
            return;
        }
        self.assign(assignment);
    }

    fn assign(&mut self, assignment: GroupAssignment) {
        tracing::info!(
            generation = assignment.generation,
            leader = assignment.leader_url,
            "assigned {}: {} new, {} to be stopped",
            assignment.owned,
            assignment.added,
            assignment.revoking
        );
        if self.assignment.is_none() {
            (self.deps.member_since)(assignment.generation);
        }
        let led = self.leads();
        let (owned, standbys) = (assignment.owned.clone(), assignment.standbys.clone());
        let leader_changed = self.assignment.as_ref().is_none_or(|before| before.leader_url != assignment.leader_url);
        self.assignment = Some(assignment);
        self.coming = None;
        self.rejoins.rebalanced(Instant::now());
        self.take_assignment(&owned);
        self.take_standbys(&standbys);
        if leader_changed {
            self.entries.values_mut().for_each(|entry| entry.hand_over.at_once());
            let names = self.entries.iter().filter(|(_, entry)| entry.hand_over.made.is_some());
            self.touched.extend(names.map(|(name, _)| name.clone()));
        }
        if !self.leads() {
            self.writes.claim = super::writes::Claim::No;
            self.writes.claim_due = None;
            self.key_due = None;
        } else if !led || self.writes.claim != super::writes::Claim::Held {
            self.claim();
        }
        self.rejoin_if_outdated();
        self.commands_again();
    }

    /// Marks what is assigned here.
    fn take_assignment(&mut self, owned: &Assignment) {
        for name in owned.connectors.iter().chain(owned.tasks.iter().map(|id| &id.connector)) {
            self.entries.entry(name.clone()).or_insert_with(|| Entry::new(name));
        }
        let mut tasks = owned.tasks.iter().peekable();
        for (name, entry) in &mut self.entries {
            let assigned = owned.connectors.contains(name);
            let mut mine = BTreeSet::new();
            while let Some(id) = tasks.next_if(|id| id.connector <= *name) {
                if id.connector == *name {
                    mine.insert(id.task);
                }
            }
            if assigned != entry.assigned || mine != entry.assigned_tasks {
                entry.stop_recorded &= assigned;
                entry.assigned = assigned;
                mine.iter().for_each(|id| _ = entry.tasks.entry(*id).or_insert_with(LocalTask::default));
                entry.tasks.retain(|id, task| task.instance.started || mine.contains(id));
                entry.assigned_tasks = mine;
                self.touched.insert(name.clone());
            }
        }
    }

    /// Marks what is followed here.
    fn take_standbys(&mut self, standbys: &BTreeSet<TaskId>) {
        let mut by_connector: BTreeMap<&String, BTreeSet<u32>> = BTreeMap::new();
        standbys.iter().for_each(|id| _ = by_connector.entry(&id.connector).or_default().insert(id.task));
        for name in by_connector.keys() {
            self.entries.entry((*name).clone()).or_insert_with(|| Entry::new(name));
        }
        for (name, entry) in &mut self.entries {
            let tasks = by_connector.remove(name).unwrap_or_default();
            if entry.standby_tasks != tasks {
                entry.standby_tasks = tasks;
                self.touched.insert(name.clone());
            }
        }
    }

    fn revoked(&mut self, revoked: Assignment, done: SyncSender<()>) {
        for name in &revoked.connectors {
            if let Some(entry) = self.entries.get_mut(name) {
                (entry.assigned, entry.stop_recorded) = (false, false);
                self.touched.insert(name.clone());
            }
        }
        for id in &revoked.tasks {
            if let Some(entry) = self.entries.get_mut(&id.connector) {
                entry.assigned_tasks.remove(&id.task);
                self.touched.insert(id.connector.clone());
            }
        }
        self.revocations.push((revoked, done));
    }

    /// Tells the group when what it revoked has stopped.
    pub fn answer_revocations(&mut self) {
        let entries = &self.entries;
        let runs = |revoked: &Assignment| {
            let connector = |name: &String| entries.get(name).is_some_and(|entry| entry.connector.started);
            let task =
                |id: &TaskId| entries.get(&id.connector).is_some_and(|entry| entry.runs(false, [id.task].into_iter()));
            revoked.connectors.iter().any(connector) || revoked.tasks.iter().any(task)
        };
        self.revocations.retain(|(revoked, done)| {
            let runs = runs(revoked);
            if !runs {
                // The group may have stopped waiting.
                let _ = done.try_send(());
            }
            runs
        });
    }

    /// Fences everything, at once; stopping follows.
    fn lost(&mut self, reason: &str, done: &SyncSender<()>) {
        tracing::warn!("this worker is not in the group any more, and stops everything: {reason}");
        let (mut tasks, mut connectors): (Vec<TaskId>, Vec<String>) = Default::default();
        for (name, entry) in &mut self.entries {
            for (id, task) in entry.tasks.iter_mut().filter(|(_, task)| task.instance.started) {
                // Whatever is assigned next, this instance has to go.
                (task.fenced, task.instance.stale) = (true, true);
                tasks.push((name.as_str(), *id).into());
            }
            if entry.connector.started {
                (entry.connector_fenced, entry.connector.stale) = (true, true);
                connectors.push(name.clone());
            }
            entry.instances().for_each(|(_, instance)| instance.restarts.due = None);
        }
        self.deps.runner.fence(&tasks, &connectors);
        (self.deps.member_since)(-1);
        self.assignment = None;
        self.coming = None;
        self.writes.claim = super::writes::Claim::No;
        (self.writes.claim_due, self.key_due) = (None, None);
        self.rejoins.no_wish();
        // What it follows it goes on following: nothing is written to Kafka for that.
        self.take_assignment(&Assignment::default());
        let _ = done.try_send(());
        for (_, waits) in self.revocations.drain(..) {
            let _ = waits.try_send(());
        }
    }

    /// Begins the restarts of a connector that are due.
    pub fn restart_due(&mut self, name: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let mut restarted = Vec::new();
        for (task, instance) in entry.instances().filter(|(_, it)| it.restarts.due.is_some_and(|due| due <= now)) {
            instance.restart(false);
            restarted.push(task);
            tracing::info!(connector = name, task, attempt = instance.restarts.attempts, "restarting after a failure");
        }
        for task in restarted {
            match task {
                Some(id) => self.record_task(name, id),
                None => self.record_connector(name),
            }
        }
    }

    /// The worker has stopped everything: nothing of it is assigned any more.
    pub fn record_end(&mut self) {
        let names: Vec<String> = self.entries.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            let mut ended = Vec::new();
            for (task, instance) in entry.instances().filter(|(_, instance)| instance.started) {
                (instance.state, instance.trace, instance.started) = (State::Unassigned, None, false);
                ended.push(task);
            }
            for task in ended {
                match task {
                    Some(id) => self.record_task(&name, id),
                    None => self.record_connector(&name),
                }
            }
        }
    }

    pub fn record_connector(&self, name: &str) {
        let Some(entry) = self.entries.get(name) else { return };
        if self.reports(entry) && !entry.connector_fenced {
            self.deps.statuses.put_connector(name, &self.status(entry, &entry.connector));
        }
    }

    pub fn record_task(&self, name: &str, id: u32) {
        let Some(entry) = self.entries.get(name) else { return };
        let Some(task) = entry.tasks.get(&id) else { return };
        if self.reports(entry) && !task.fenced {
            self.deps.statuses.put_task(&(name, id).into(), &self.status(entry, &task.instance));
        }
    }

    /// Nothing is reported of what is gone, and nothing by a worker that is no member, or may not be one any more.
    fn reports(&self, entry: &Entry) -> bool {
        entry.wanted.is_some() && self.assignment.is_some() && self.deps.group.lease().holds()
    }

    fn status(&self, entry: &Entry, instance: &Instance) -> StatusRecord {
        StatusRecord {
            state: instance.state,
            trace: instance.trace.as_deref().map(str::to_owned),
            worker_id: self.settings.worker_id.clone(),
            generation: self.generation(),
            version: entry.version.clone(),
        }
    }
}
