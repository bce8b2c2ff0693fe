//! One connector as the herder has it: what is wanted, what runs, and the next step from one to the other.
//!
//! [`Entry::next_step`] is a pure function of the entry, taken again after each change. Nothing else decides what happens, so
//! that commands and events may come in any order, also while a step is under way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tributary_sdk::Config;

use super::command::{Created, Reply, WhileStopped};
use super::plugins_port::PluginKind;
use super::restart_policy::{RestartPolicy, Restarts};
use super::view::{ConnectorView, InstanceView, RestartView, TaskView};
use crate::worker::State;

/// A connector or task as the herder has it.
#[derive(Debug)]
pub(super) struct Instance {
    /// The worker was told to start it, and has not since been told to stop it.
    pub started: bool,
    /// It has to be stopped, and started anew if it is still wanted then.
    pub stale: bool,
    /// As last reported.
    pub state: State,
    /// Of a failure.
    pub trace: Option<Arc<str>>,
    /// Restarts by the policy.
    pub restarts: Restarts,
}

impl Instance {
    pub fn new(state: State) -> Self {
        Self { started: false, stale: false, state, trace: None, restarts: Restarts::default() }
    }

    /// It has stopped.
    pub fn stopped(&mut self) {
        (self.started, self.stale) = (false, false);
        if self.state != State::Restarting {
            (self.state, self.trace) = (State::Unassigned, None);
        }
    }

    /// It is to be started anew; `by_hand`: the policy counts from the beginning.
    pub fn restart(&mut self, by_hand: bool) {
        self.stale = self.started;
        (self.state, self.trace) = (State::Restarting, None);
        if by_hand {
            self.restarts = Restarts::default();
        } else {
            self.restarts.begin();
        }
    }

    pub fn view(&self, clock: Clock) -> InstanceView {
        let restart = (self.restarts.attempts > 0 || self.restarts.due.is_some()).then(|| RestartView {
            attempts: self.restarts.attempts,
            next_ms: self.restarts.due.map(|due| clock.millis(due)),
        });
        InstanceView { state: self.state, trace: self.trace.clone(), restart, here: true, worker_id: None }
    }
}

/// Relates the clock that timers use to the one that users read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub now: Instant,
    pub now_ms: i64,
}

impl Clock {
    pub fn now() -> Self {
        Self { now: Instant::now(), now_ms: chrono::Utc::now().timestamp_millis() }
    }

    fn millis(self, instant: Instant) -> i64 {
        self.now_ms + instant.saturating_duration_since(self.now).as_millis() as i64
    }
}

/// A task as the herder has it.
#[derive(Debug)]
pub(super) struct Task {
    pub config: Arc<Config>,
    pub instance: Instance,
    /// When progress was last looked at, and the records then.
    pub sample: Option<(Instant, u64)>,
    pub records_per_second: Option<f64>,
}

impl Task {
    pub fn new(config: Config) -> Self {
        let instance = Instance::new(State::Unassigned);
        Self { config: Arc::new(config), instance, sample: None, records_per_second: None }
    }
}

/// Somebody who waits until a connector gets somewhere.
pub(super) enum Waiter {
    /// Until its tasks are known, but only so long: the answer to its creation shows them, as Connect's standalone worker does.
    Configured { created: bool, until: Instant, reply: Reply<Created> },
    /// Until it and its tasks have stopped.
    Stopped(Reply<()>),
    /// Until it is gone.
    Removed(Reply<()>),
}

/// One connector.
pub(super) struct Entry {
    pub name: String,
    // What is wanted.
    pub config: Arc<Config>,
    pub target: State,
    pub removed: bool,
    /// Task configs that the connector asked for and that are not in place yet.
    pub offered: Option<Vec<Config>>,
    // What is known of its class.
    pub kind: Option<PluginKind>,
    pub version: Option<String>,
    // What is.
    pub connector: Instance,
    pub tasks: Vec<Task>,
    /// Tasks beyond those wanted, which still run.
    pub retired: BTreeSet<u32>,
    /// The config that the tasks were made from.
    pub applied: Option<Arc<Config>>,
    /// Whether the connector has given task configs since its last start.
    pub configured: bool,
    /// A step that takes time is under way.
    pub busy: bool,
    /// Work that needs the connector to be stopped and waits for its turn; while one runs, the connector is [`Self::busy`].
    pub stopped_work: VecDeque<(WhileStopped, Reply<()>)>,
    pub topics: Arc<BTreeSet<String>>,
    pub waiters: Vec<Waiter>,
}

/// What to do next with a connector.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until something changes.
    Nothing,
    /// Stop these, on a thread of their own.
    Stop {
        tasks: Vec<u32>,
        connector: bool,
    },
    /// Everything of it has stopped: forget it.
    Remove,
    /// It is stopped: forget its tasks.
    ForgetTasks,
    StartConnector,
    /// Put the offered task configs in place.
    PlaceOffer,
    StartTasks(Vec<u32>),
}

impl Entry {
    pub fn new(name: &str, config: Config, target: State) -> Self {
        Self {
            name: name.to_owned(),
            config: Arc::new(config),
            target,
            removed: false,
            offered: None,
            kind: None,
            version: None,
            connector: Instance::new(if target == State::Stopped { State::Stopped } else { State::Unassigned }),
            tasks: Vec::new(),
            retired: BTreeSet::new(),
            applied: None,
            configured: false,
            busy: false,
            stopped_work: VecDeque::new(),
            topics: Arc::default(),
            waiters: Vec::new(),
        }
    }

    /// See the module.
    pub fn next_step(&self) -> Step {
        if self.busy {
            return Step::Nothing;
        }
        if self.removed || self.target == State::Stopped {
            let tasks: Vec<u32> = self.tasks_where(|task| task.started).chain(self.retired.iter().copied()).collect();
            return if !tasks.is_empty() || self.connector.started {
                Step::Stop { tasks, connector: self.connector.started }
            } else if self.removed {
                Step::Remove
            } else if !self.tasks.is_empty() {
                Step::ForgetTasks
            } else {
                Step::Nothing
            };
        }
        let tasks: Vec<u32> =
            self.tasks_where(|task| task.started && task.stale).chain(self.retired.iter().copied()).collect();
        let connector = self.connector.started && self.connector.stale;
        if !tasks.is_empty() || connector {
            return Step::Stop { tasks, connector };
        }
        if !self.connector.started {
            return Step::StartConnector;
        }
        // As in Connect, a paused connector's tasks keep the configs they have.
        if self.offered.is_some() && self.target == State::Running {
            return Step::PlaceOffer;
        }
        // Tasks made from an older config wait until the connector has been asked with the present one.
        if self.applied.as_ref() == Some(&self.config) {
            let idle: Vec<u32> = self.tasks_where(|task| !task.started).collect();
            if !idle.is_empty() {
                return Step::StartTasks(idle);
            }
        }
        Step::Nothing
    }

    /// Whether it is stopped altogether: no task is left, and nothing is about to change that.
    pub fn at_rest(&self) -> bool {
        let idle = !self.connector.started && self.tasks.is_empty() && self.retired.is_empty();
        self.target == State::Stopped && !self.removed && idle
    }

    fn tasks_where(&self, wanted: impl Fn(&Instance) -> bool) -> impl Iterator<Item = u32> {
        let found = self.tasks.iter().enumerate().filter(move |(_, task)| wanted(&task.instance));
        found.map(|(id, _)| id as u32)
    }

    /// Replaces the task configs; those that changed become stale, all of them if the connector's config has changed.
    pub fn place(&mut self, configs: Vec<Config>) {
        let all = self.applied.as_ref() != Some(&self.config);
        let wanted = configs.len();
        for (id, config) in configs.into_iter().enumerate() {
            match self.tasks.get_mut(id) {
                None => self.tasks.push(Task::new(config)),
                Some(task) => {
                    if all || *task.config != config {
                        task.instance.stale = task.instance.started;
                        task.config = Arc::new(config);
                    }
                }
            }
        }
        for (id, task) in self.tasks.drain(wanted.min(self.tasks.len())..).enumerate() {
            if task.instance.started {
                self.retired.insert((wanted + id) as u32);
            }
        }
        self.applied = Some(self.config.clone());
        self.configured = true;
    }

    pub fn policy(&self) -> RestartPolicy {
        RestartPolicy::of(&self.config)
    }

    /// `tasks.max`.
    pub fn max_tasks(&self) -> usize {
        super::task_configs::max_tasks(&self.config)
    }

    /// When something has to happen by itself.
    pub fn next_due(&self) -> Option<Instant> {
        let waiting = self.waiters.iter().filter_map(|waiter| match waiter {
            Waiter::Configured { until, .. } => Some(*until),
            _ => None,
        });
        let restarts = self.tasks.iter().map(|task| &task.instance).chain([&self.connector]);
        restarts.filter_map(|instance| instance.restarts.due).chain(waiting).min()
    }

    pub fn view(&self, clock: Clock) -> ConnectorView {
        let task = |(id, task): (usize, &Task)| TaskView {
            id: id as u32,
            config: task.config.clone(),
            instance: task.instance.view(clock),
            records_per_second: task.records_per_second,
        };
        ConnectorView {
            name: self.name.clone(),
            config: self.config.clone(),
            kind: self.kind,
            version: self.version.clone(),
            target: self.target,
            instance: self.connector.view(clock),
            tasks: self.tasks.iter().enumerate().map(task).collect(),
            topics: self.topics.clone(),
        }
    }

    /// Answers those who waited for what has come about.
    pub fn answer_waiters(&mut self, clock: Clock) {
        let settled =
            self.configured || !matches!(self.connector.state, State::Unassigned | State::Running | State::Restarting);
        let stopped = self.target == State::Stopped && self.next_step() == Step::Nothing && !self.busy;
        // Asking for a stop and then for something else answers the first, too: it will never come about.
        let stop_given_up = self.target != State::Stopped && !self.removed;
        let done = |waiter: &mut Waiter| match waiter {
            Waiter::Configured { until, .. } => settled || *until <= clock.now,
            Waiter::Stopped(_) => stopped || stop_given_up,
            Waiter::Removed(_) => false,
        };
        let ready: Vec<Waiter> = self.waiters.extract_if(.., done).collect();
        for waiter in ready {
            match waiter {
                Waiter::Configured { created, reply, .. } => {
                    drop(reply.send(Ok(Created { created, connector: self.view(clock) })));
                }
                Waiter::Stopped(reply) | Waiter::Removed(reply) => drop(reply.send(Ok(()))),
            }
        }
    }
}
