//! The distributed herder's thread, and what it keeps.

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Input;
use super::entry::Entry;
use super::membership::Membership;
use super::ports::{FenceTasks, Jobs, Peers};
use super::rejoins::Rejoins;
use super::stopped_work::Resting;
use super::writes::Writes;
use crate::group::{Assignment, Group, GroupAssignment};
use crate::herder::command::Command;
use crate::herder::entry::Clock;
use crate::herder::message::Message;
use crate::herder::{Herder, HerderError, PluginCatalog, TaskRunner, View};
use crate::storage::{ClusterConfig, ConfigLog, StatusStore};

/// How often progress is looked at for rates.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked whether somebody has waited long enough, while anybody waits.
const WAIT_CHECK: Duration = Duration::from_millis(200);

/// How long the group may take to hear that this worker leaves.
const LEAVE_WITHIN: Duration = Duration::from_secs(6);

/// How long a worker that ends waits for what it is writing.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// What the herder works with.
pub struct DistributedDeps {
    /// The config topic.
    pub configs: Arc<dyn ConfigLog>,
    /// The status topic.
    pub statuses: Arc<dyn StatusStore>,
    /// The group.
    pub group: Arc<dyn Group>,
    /// Other workers.
    pub peers: Arc<dyn Peers>,
    /// Runs it all.
    pub runner: Arc<dyn TaskRunner>,
    /// The classes there are.
    pub plugins: Arc<dyn PluginCatalog>,
    /// Threads.
    pub jobs: Arc<dyn Jobs>,
    /// Told of the generation in which this worker became a member, and of -1 when it is none any more.
    pub member_since: Arc<dyn Fn(i32) + Send + Sync>,
    /// Fences producers of tasks.
    pub fence_tasks: FenceTasks,
    /// Sets a log level of this worker.
    pub set_level: Arc<dyn Fn(&str, &str) + Send + Sync>,
}

/// Settings of the herder.
#[derive(Debug, Clone)]
pub struct DistributedSettings {
    /// `host:port` of this worker in statuses.
    pub worker_id: String,
    /// Whether sources deliver exactly once.
    pub exactly_once: bool,
    /// Whether topics in use are recorded.
    pub topic_tracking: bool,
    /// How long a request waits for a leader, or for the end of a rebalance.
    pub patience: Duration,
    /// How old a session key gets before the leader makes a new one (`inter.worker.key.ttl.ms`).
    pub key_ttl: Duration,
    /// `inter.worker.key.generation.algorithm`.
    pub key_algorithm: String,
    /// `inter.worker.key.size`, in bits; `None`: what the algorithm has by itself.
    pub key_bits: Option<usize>,
    /// How long changes of the set of connectors and tasks are collected before the group is asked to rebalance.
    pub rejoin_after: Duration,
}

/// A herder that is not started yet: its [`Herder`] and [`Membership`] can already be given to others.
pub struct Distributed {
    inbox: Receiver<Message>,
    messages: Sender<Message>,
    view: Arc<View>,
}

/// The herder's thread.
pub(super) struct Actor {
    pub deps: DistributedDeps,
    pub settings: DistributedSettings,
    pub messages: Sender<Message>,
    pub view: Arc<View>,
    pub config: Arc<ClusterConfig>,
    pub entries: BTreeMap<String, Entry>,
    /// As the group gave it last, once the config topic was read that far.
    pub assignment: Option<GroupAssignment>,
    /// Given by the group; the config topic has to be read further.
    pub coming: Option<GroupAssignment>,
    /// What has to stop, and who waits for it.
    pub revocations: Vec<(Assignment, std::sync::mpsc::SyncSender<()>)>,
    /// Commands that wait for a leader, and until when.
    pub waiting: Vec<(Instant, Command)>,
    /// Work that waits for its connector to stop.
    pub resting: Vec<Resting>,
    pub writes: Writes,
    /// The config topic's offset of the last change of the set of connectors and tasks.
    pub shape_changed: i64,
    pub rejoins: Rejoins,
    /// When to look at which connector again. May hold more than there is to do, never less.
    pub timers: BinaryHeap<std::cmp::Reverse<(Instant, String)>>,
    pub next_sample: Instant,
    pub key_due: Option<Instant>,
    pub shutting_down: bool,
    /// What changed since the last look, so that a burst of events publishes each connector once.
    pub touched: HashSet<String>,
}

impl Distributed {
    /// The herder, and what starts it.
    pub fn new() -> (Herder, Self) {
        let (messages, inbox) = std::sync::mpsc::channel();
        let view = Arc::new(View::default());
        (Herder::new(messages.clone(), view.clone()), Self { inbox, messages, view })
    }

    /// The herder as its group sees it; `patience` is how long a revocation may take.
    pub fn membership(&self, configs: Arc<dyn ConfigLog>, patience: Duration) -> Arc<Membership> {
        Arc::new(Membership::new(configs, self.messages.clone(), patience))
    }

    /// Where the config topic's news go.
    pub fn inputs(&self) -> impl Fn(Input) + Send + Sync + Clone + 'static {
        let messages = self.messages.clone();
        // After the end of the herder nobody is interested.
        move |input| drop(messages.send(Message::Distributed(input)))
    }

    /// Starts it with what the config topic says so far. The thread ends with [`Herder::shutdown`].
    pub fn start(self, deps: DistributedDeps, settings: DistributedSettings) -> Result<JoinHandle<()>, HerderError> {
        let Self { inbox, messages, view } = self;
        let mut actor = Actor::new(deps, settings, messages, view);
        actor.take_config();
        std::thread::Builder::new()
            .name("herder".to_owned())
            .spawn(move || actor.run(&inbox))
            .map_err(|error| HerderError::Internal(format!("cannot start the herder's thread: {error}")))
    }
}

impl Actor {
    pub fn new(
        deps: DistributedDeps,
        settings: DistributedSettings,
        messages: Sender<Message>,
        view: Arc<View>,
    ) -> Self {
        view.show_others(deps.statuses.clone());
        Self {
            deps,
            settings,
            messages,
            view,
            config: Arc::new(ClusterConfig { offset: -1, ..ClusterConfig::default() }),
            entries: BTreeMap::new(),
            assignment: None,
            coming: None,
            revocations: Vec::new(),
            waiting: Vec::new(),
            resting: Vec::new(),
            writes: Writes::default(),
            shape_changed: -1,
            rejoins: Rejoins::default(),
            timers: BinaryHeap::new(),
            next_sample: Instant::now() + SAMPLE_EVERY,
            key_due: None,
            shutting_down: false,
            touched: HashSet::new(),
        }
    }

    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let message = match self.until_due() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => inbox.recv_timeout(wait),
            };
            let mut next = match message {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                // Cannot happen: the herder holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // What has come together is looked at together.
            for _ in 0..256 {
                let Some(message) = next else { break };
                if let Some(ended) = self.message(message) {
                    return self.end(inbox, ended);
                }
                next = inbox.try_recv().ok();
            }
            if let Some(message) = next
                && let Some(ended) = self.message(message)
            {
                return self.end(inbox, ended);
            }
            self.settle(Instant::now());
        }
    }

    /// The worker has stopped everything. What is being written is answered; what has come too late is refused, so that
    /// another worker may do it.
    fn end(mut self, inbox: &Receiver<Message>, ended: tokio::sync::oneshot::Sender<()>) {
        let until = Instant::now() + WRITE_WITHIN;
        while self.writes.busy() {
            // What was to be gathered for a moment has no more time to wait.
            self.write_all();
            let left = until.saturating_duration_since(Instant::now());
            let Ok(message) = inbox.recv_timeout(left) else { break };
            self.message(message);
        }
        self.record_end();
        self.answer_revocations();
        self.deps.group.leave(LEAVE_WITHIN);
        self.refuse_resting();
        while let Ok(message) = inbox.try_recv() {
            if let Message::Command(command) = message {
                command.refuse(HerderError::ShuttingDown);
            }
        }
        let _ = ended.send(());
    }

    /// Takes a message. Answers whom to tell that the herder has ended.
    pub fn message(&mut self, message: Message) -> Option<tokio::sync::oneshot::Sender<()>> {
        match message {
            Message::Command(command) => self.command(command),
            Message::Event(event) => self.event(event),
            Message::Stopped { connector, tasks, connector_too } => self.stopped(&connector, &tasks, connector_too),
            Message::Distributed(input) => self.input(input),
            Message::Worked { connector, reply } => self.worked(&connector, reply),
            Message::ShutDown(reply) => return Some(reply),
        }
        None
    }

    /// After messages: timers, everything that was touched, and those who wait.
    pub fn settle(&mut self, now: Instant) {
        while self.timers.peek().is_some_and(|timer| timer.0.0 <= now) {
            let Some(std::cmp::Reverse((_, name))) = self.timers.pop() else { break };
            self.restart_due(&name, now);
            self.touched.insert(name);
        }
        for name in std::mem::take(&mut self.touched) {
            self.reconcile(&name, now);
        }
        self.answer_revocations();
        if self.rejoins.take_due(now) {
            self.deps.group.request_rejoin("connectors or tasks have been added or removed");
        }
        self.give_up_waiting(now);
        if !self.resting.is_empty() {
            self.work_at_rest(now);
        }
        if self.key_due.is_some_and(|due| due <= now) {
            self.see_to_the_key();
        }
        if self.writes.claim_due.is_some_and(|due| due <= now) {
            self.claim();
        }
        if self.writes.write_due.is_some_and(|due| due <= now) {
            self.write_all();
        }
        if self.next_sample <= now {
            self.next_sample = now + SAMPLE_EVERY;
            self.sample(now);
        }
    }

    /// How long until something has to happen by itself; `None`: nothing has to.
    fn until_due(&self) -> Option<Duration> {
        let now = Instant::now();
        let running = self.entries.values().any(|entry| entry.tasks.values().any(|task| task.instance.started));
        [
            self.timers.peek().map(|timer| timer.0.0),
            self.rejoins.due(),
            self.key_due,
            self.writes.claim_due,
            self.writes.write_due,
            (!self.waiting.is_empty() || !self.resting.is_empty()).then(|| now + WAIT_CHECK),
            // An idle worker sleeps; rates are only looked at while there is something to look at.
            running.then_some(self.next_sample),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|due| due.saturating_duration_since(now))
    }

    /// Publishes a connector and sets its timer.
    pub fn publish(&mut self, name: &str) {
        let view = self.entries.get(name).and_then(|entry| entry.view(Clock::now()));
        match view {
            Some(view) => self.view.put(view),
            None => self.view.remove(name),
        }
        if let Some(due) = self.entries.get(name).and_then(Entry::next_due) {
            self.timers.push(std::cmp::Reverse((due, name.to_owned())));
        }
    }

    /// The generation to report with.
    pub fn generation(&self) -> i32 {
        self.assignment.as_ref().map_or(-1, |assignment| assignment.generation)
    }

    /// Whether this worker leads.
    pub fn leads(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| assignment.leader)
    }

    /// Looks at what the tasks have done since the last time.
    fn sample(&mut self, now: Instant) {
        let mut changed = Vec::new();
        for entry in self.entries.values_mut() {
            let mut any = false;
            for (id, task) in entry.tasks.iter_mut().filter(|(_, task)| task.instance.started) {
                let records = self.deps.runner.progress(&(entry.name.as_str(), *id).into()).map(|all| all.records_in);
                let rate = match (task.sample, records) {
                    (Some((then, before)), Some(records)) => {
                        let seconds = now.saturating_duration_since(then).as_secs_f64();
                        (seconds > 0.0).then(|| records.saturating_sub(before) as f64 / seconds)
                    }
                    _ => None,
                };
                any |= rate != task.records_per_second;
                task.records_per_second = rate;
                task.sample = records.map(|records| (now, records));
            }
            if any {
                changed.extend(entry.view(Clock::now()));
            }
        }
        changed.into_iter().for_each(|view| self.view.put(view));
    }
}
