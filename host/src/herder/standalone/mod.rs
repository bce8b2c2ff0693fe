//! The standalone herder: one worker, its own configs.

mod commands;
mod events;
mod steps;
mod stopped_work;

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::entry::{Clock, Entry, Task};
use super::message::Message;
use super::{Herder, HerderError, PluginCatalog, TaskRunner, View};
use crate::storage::{ConfigStore, StatusStore};

/// How long the answer to a new config waits for the connector's task configs.
const CONFIGURED_WITHIN: Duration = Duration::from_millis(500);

/// How often progress is looked at for rates.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// What the herder works with.
pub struct HerderDeps {
    /// What users asked for.
    pub configs: Arc<dyn ConfigStore>,
    /// What is observed.
    pub statuses: Arc<dyn StatusStore>,
    /// Runs it all.
    pub runner: Arc<dyn TaskRunner>,
    /// The classes there are.
    pub plugins: Arc<dyn PluginCatalog>,
}

/// Settings of the herder.
pub struct HerderSettings {
    /// `host:port` of this worker in statuses.
    pub worker_id: String,
    /// Whether topics in use are recorded.
    pub topic_tracking: bool,
}

/// A herder that is not started yet: its [`Herder`] can already be given to those who report to it.
pub struct Standalone {
    inbox: Receiver<Message>,
    messages: Sender<Message>,
    view: Arc<View>,
}

/// The herder's thread.
struct Actor {
    deps: HerderDeps,
    settings: HerderSettings,
    inbox: Receiver<Message>,
    messages: Sender<Message>,
    view: Arc<View>,
    entries: BTreeMap<String, Entry>,
    /// When to look at which connector again. May hold more than there is to do, never less.
    timers: BinaryHeap<std::cmp::Reverse<(Instant, String)>>,
    next_sample: Instant,
    shutting_down: bool,
}

impl Standalone {
    /// The herder, and what starts it.
    pub fn new() -> (Herder, Self) {
        let (messages, inbox) = std::sync::mpsc::channel();
        let view = Arc::new(View::default());
        (Herder::new(messages.clone(), view.clone()), Self { inbox, messages, view })
    }

    /// Loads what is stored and starts it, each connector in its target state. The thread ends with [`Herder::shutdown`].
    pub fn start(self, deps: HerderDeps, settings: HerderSettings) -> Result<JoinHandle<()>, HerderError> {
        let mut actor = Actor {
            inbox: self.inbox,
            messages: self.messages,
            view: self.view,
            entries: BTreeMap::new(),
            timers: BinaryHeap::new(),
            next_sample: Instant::now() + SAMPLE_EVERY,
            shutting_down: false,
            deps,
            settings,
        };
        actor.load()?;
        std::thread::Builder::new()
            .name("herder".to_owned())
            .spawn(move || actor.run())
            .map_err(|error| HerderError::Internal(format!("cannot start the herder's thread: {error}")))
    }
}

impl Actor {
    fn load(&mut self) -> Result<(), HerderError> {
        for stored in self.deps.configs.connectors()? {
            let mut entry = Entry::new(&stored.name, stored.config, stored.target);
            entry.tasks = stored.tasks.into_iter().map(Task::new).collect();
            entry.applied = match stored.applied {
                Some(applied) if applied == *entry.config => Some(entry.config.clone()),
                other => other.map(Arc::new),
            };
            let topics = self.deps.statuses.topics(&stored.name)?;
            entry.topics = Arc::new(topics.into_iter().map(|topic| topic.topic).collect());
            self.identify(&mut entry);
            self.view.put(entry.view(Clock::now()));
            self.entries.insert(stored.name, entry);
        }
        Ok(())
    }

    /// Looks up the connector's class.
    fn identify(&self, entry: &mut Entry) {
        let plugin = self.deps.plugins.connector_of(&entry.config);
        entry.kind = plugin.map(|plugin| plugin.kind);
        entry.version = plugin.map(|plugin| plugin.version.clone());
    }

    fn run(mut self) {
        let names: Vec<String> = self.entries.keys().cloned().collect();
        for name in names {
            self.reconcile(&name);
        }
        loop {
            let due = self.timers.peek().map_or(self.next_sample, |timer| timer.0.0.min(self.next_sample));
            // An idle worker sleeps; rates are only looked at while there is something to look at.
            let message = if self.entries.is_empty() && self.timers.is_empty() {
                self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.inbox.recv_timeout(due.saturating_duration_since(Instant::now()))
            };
            match message {
                Ok(Message::Command(command)) => self.command(command),
                Ok(Message::Event(event)) => self.event(event),
                // There is no group here.
                Ok(Message::Distributed(_)) => {}
                Ok(Message::Stopped { connector, tasks, connector_too }) => {
                    self.stopped(&connector, &tasks, connector_too);
                }
                Ok(Message::Worked { connector, reply }) => self.worked(&connector, reply),
                Ok(Message::ShutDown(reply)) => {
                    self.record_end();
                    let _ = reply.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.timers_due(),
                // Cannot happen: the herder holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn timers_due(&mut self) {
        let now = Instant::now();
        while self.timers.peek().is_some_and(|timer| timer.0.0 <= now) {
            let Some(std::cmp::Reverse((_, name))) = self.timers.pop() else { break };
            self.restart_due(&name, now);
            self.reconcile(&name);
        }
        if self.next_sample <= now {
            self.next_sample = now + SAMPLE_EVERY;
            self.sample(now);
        }
    }

    /// Publishes a connector, answers who waits for it, and sets its timer.
    fn publish(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let clock = Clock::now();
        self.view.put(entry.view(clock));
        entry.answer_waiters(clock);
        if let Some(due) = entry.next_due() {
            self.timers.push(std::cmp::Reverse((due, name.to_owned())));
        }
    }

    /// Looks at what the tasks have done since the last time.
    fn sample(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            let mut changed = false;
            for (id, task) in entry.tasks.iter_mut().enumerate() {
                let id = crate::worker::TaskId { connector: entry.name.clone(), task: id as u32 };
                let progress = if task.instance.started { self.deps.runner.progress(&id) } else { None };
                let records = progress.map(|progress| progress.records_in);
                let rate = match (task.sample, records) {
                    (Some((then, before)), Some(records)) => {
                        let seconds = now.saturating_duration_since(then).as_secs_f64();
                        (seconds > 0.0).then(|| records.saturating_sub(before) as f64 / seconds)
                    }
                    _ => None,
                };
                changed |= rate != task.records_per_second;
                task.records_per_second = rate;
                task.sample = records.map(|records| (now, records));
            }
            if changed {
                self.view.put(entry.view(Clock::now()));
            }
        }
    }
}
