//! A cluster in memory: one config topic, one group, workers that run nothing and say what they would run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tributary_sdk::Config;

use crate::group::{Group, GroupState, Lease};
use crate::herder::TaskRunner;
use crate::herder::command::Command;
use crate::herder::distributed::{Jobs, Peers};
use crate::herder::message::Message;
use crate::storage::{
    ClusterConfig, ClusterConnector, ConfigLog, ConfigWrite, SessionKey, StatusRecord, StatusStore, StorageError,
    StorageErrorKind, TopicStatus,
};
use crate::worker::{ConnectorSpec, FollowSpec, State, TaskId, TaskProgress, TaskSpec, WorkerEvent};

/// What all workers share.
#[derive(Default)]
pub struct World {
    pub topic: Vec<ConfigWrite>,
    /// Who may write.
    pub writer: Option<usize>,
    /// What each worker runs: connectors (no task) and tasks, and the configs of tasks.
    pub running: BTreeMap<(usize, String, Option<u32>), (Config, Config)>,
    /// Workers whose lease has ended: what runs there writes nothing.
    pub powerless: BTreeSet<usize>,
    pub statuses: BTreeMap<(String, Option<u32>), StatusRecord>,
    /// Whose state each worker follows.
    pub following: BTreeMap<(usize, String), FollowSpec>,
}

pub type Shared = Arc<Mutex<World>>;

/// The config topic as one worker has read it.
pub struct Log {
    pub world: Shared,
    pub worker: usize,
    read: Mutex<(usize, Arc<ClusterConfig>)>,
}

impl Log {
    pub fn new(world: Shared, worker: usize) -> Self {
        Self { world, worker, read: Mutex::new((0, Arc::default())) }
    }

    /// Reads on, at most to this offset.
    pub fn read_to(&self, to: usize) {
        let world = self.world.lock().unwrap();
        let mut read = self.read.lock().unwrap();
        let mut config = ClusterConfig::clone(&read.1);
        for write in &world.topic[read.0..to.min(world.topic.len()).max(read.0)] {
            apply(&mut config, write);
            config.offset = config.offset.max(0) + 1;
        }
        *read = (config.offset.max(0) as usize, Arc::new(config));
    }

    pub fn behind(&self) -> usize {
        self.world.lock().unwrap().topic.len() - self.read.lock().unwrap().0
    }

    pub fn position(&self) -> usize {
        self.read.lock().unwrap().0
    }
}

fn apply(config: &mut ClusterConfig, write: &ConfigWrite) {
    match write.clone() {
        ConfigWrite::Connector { name, config: new, initial } => {
            let connector = config.connectors.entry(name).or_insert_with(|| ClusterConnector {
                config: Arc::default(),
                target: State::Running,
                tasks: Vec::new(),
                applied: None,
            });
            connector.config = Arc::new(new);
            connector.target = initial.unwrap_or(connector.target);
        }
        ConfigWrite::Remove(name) => drop(config.connectors.remove(&name)),
        ConfigWrite::Target(name, target) => {
            if let Some(connector) = config.connectors.get_mut(&name) {
                connector.target = target;
            }
        }
        ConfigWrite::Tasks(name, tasks) => {
            if let Some(connector) = config.connectors.get_mut(&name) {
                connector.tasks = tasks.into_iter().map(Arc::new).collect();
                connector.applied = Some(connector.config.clone());
            }
        }
        ConfigWrite::SessionKey(key) => config.session_key = Some(key),
        ConfigWrite::TaskCount(..) | ConfigWrite::Restart(..) | ConfigWrite::LoggerLevel(..) => {}
    }
}

impl ConfigLog for Log {
    fn snapshot(&self) -> Arc<ClusterConfig> {
        self.read.lock().unwrap().1.clone()
    }

    fn refresh(&self, _: Duration) -> Result<(), StorageError> {
        self.read_to(usize::MAX);
        Ok(())
    }

    fn claim(&self) -> Result<(), StorageError> {
        self.world.lock().unwrap().writer = Some(self.worker);
        Ok(())
    }

    fn write(&self, writes: &[ConfigWrite]) -> Result<(), StorageError> {
        let mut world = self.world.lock().unwrap();
        if world.writer != Some(self.worker) {
            return Err(StorageError::new(StorageErrorKind::Fenced, "another worker is the leader"));
        }
        world.topic.extend(writes.iter().cloned());
        drop(world);
        self.read_to(usize::MAX);
        Ok(())
    }
}

/// The group as one worker asks it.
pub struct Member {
    pub lease: Lease,
    pub rejoins: Mutex<bool>,
    pub left: Mutex<bool>,
    pub leads: AtomicBool,
}

impl Group for Member {
    fn request_rejoin(&self, _: &str) {
        *self.rejoins.lock().unwrap() = true;
    }

    fn leave(&self, _: Duration) {
        *self.left.lock().unwrap() = true;
    }

    fn lease(&self) -> Lease {
        self.lease.clone()
    }

    fn state(&self) -> GroupState {
        GroupState { leader: self.leads.load(Ordering::Relaxed), ..GroupState::default() }
    }

    fn owner_url(&self, _: &str, _: Option<u32>) -> Option<String> {
        None
    }
}

/// Reports what it would run. Task configs of a connector: `tasks` copies of its `version`.
pub struct Runner {
    pub world: Shared,
    pub worker: usize,
    pub messages: Sender<Message>,
}

impl Runner {
    fn event(&self, event: WorkerEvent) {
        let _ = self.messages.send(Message::Event(event));
    }

    fn offer(&self, name: &str, config: &Config) {
        let count: usize = config.parsed("tasks", 1).unwrap();
        let task = |id: usize| {
            let version = config.get("version").unwrap_or("0").to_owned();
            [("version", version.as_str()), ("id", id.to_string().as_str())].into_iter().collect()
        };
        let configs = (0..count).map(task).collect();
        self.event(WorkerEvent::TaskConfigs { name: name.to_owned(), configs });
    }
}

impl TaskRunner for Runner {
    fn start_connector(&self, spec: ConnectorSpec) {
        let key = (self.worker, spec.name.clone(), None);
        self.world.lock().unwrap().running.insert(key, (spec.config.clone(), Config::default()));
        self.event(WorkerEvent::Connector { name: spec.name.clone(), state: spec.target, trace: None });
        if spec.target == State::Running {
            self.offer(&spec.name, &spec.config);
        }
    }

    fn stop_connector(&self, name: &str) {
        self.world.lock().unwrap().running.remove(&(self.worker, name.to_owned(), None));
    }

    fn request_task_configs(&self, name: &str, _: usize) {
        let key = (self.worker, name.to_owned(), None);
        let config = self.world.lock().unwrap().running.get(&key).map(|(config, _)| config.clone());
        if let Some(config) = config {
            self.offer(name, &config);
        }
    }

    fn start_task(&self, spec: TaskSpec) {
        let key = (self.worker, spec.id.connector.clone(), Some(spec.id.task));
        self.world.lock().unwrap().running.insert(key, (spec.connector_config, spec.task_config));
        self.event(WorkerEvent::Task { id: spec.id, state: spec.target, trace: None });
    }

    fn stop_tasks(&self, ids: &[TaskId]) {
        let mut world = self.world.lock().unwrap();
        for id in ids {
            world.running.remove(&(self.worker, id.connector.clone(), Some(id.task)));
        }
    }

    fn fence(&self, tasks: &[TaskId], connectors: &[String]) {
        // What is fenced writes nothing, which is all that counts here.
        self.stop_tasks(tasks);
        connectors.iter().for_each(|name| self.stop_connector(name));
    }

    fn leave_group(&self, _: &str, _: &[TaskId]) {}

    fn set_target_state(&self, connector: &str, target: State) {
        let world = self.world.lock().unwrap();
        for (worker, name, task) in world.running.keys() {
            if *worker == self.worker && name == connector {
                let (name, state, trace) = (name.clone(), target, None);
                self.event(match task {
                    None => WorkerEvent::Connector { name, state, trace },
                    Some(task) => WorkerEvent::Task { id: (name.as_str(), *task).into(), state, trace },
                });
            }
        }
    }

    fn follow(&self, connector: &str, spec: Option<FollowSpec>) {
        let (key, mut world) = ((self.worker, connector.to_owned()), self.world.lock().unwrap());
        match spec {
            Some(spec) => _ = world.following.insert(key, spec),
            None => assert!(world.following.remove(&key).is_some(), "{connector} is not followed"),
        }
    }

    fn progress(&self, _: &TaskId) -> Option<TaskProgress> {
        None
    }

    fn validate_connector(&self, _: &Config) -> Result<Vec<(String, String)>, String> {
        Ok(Vec::new())
    }

    fn shutdown(&self) {
        let worker = self.worker;
        self.world.lock().unwrap().running.retain(|(at, ..), _| *at != worker);
    }
}

/// Work that is done when the schedule says so.
#[derive(Default)]
pub struct Later {
    pub any_order: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    pub in_order: Mutex<VecDeque<Box<dyn FnOnce() + Send>>>,
}

impl Jobs for Later {
    fn run(&self, _: &str, work: Box<dyn FnOnce() + Send>) -> bool {
        self.any_order.lock().unwrap().push(work);
        true
    }

    fn queue(&self, work: Box<dyn FnOnce() + Send>) {
        self.in_order.lock().unwrap().push_back(work);
    }
}

/// Hands task configs to whoever leads, if that one lives; the answer is always too late, so that the owner asks again until
/// it reads what it asked for.
#[derive(Clone, Default)]
pub struct Wires(pub Arc<Mutex<BTreeMap<usize, Sender<Message>>>>);

impl Peers for Wires {
    fn put_tasks(&self, leader: &str, name: &str, tasks: &[Config], _: &SessionKey) -> Result<(), String> {
        let leader: usize = leader.parse().map_err(|_| "no such worker")?;
        let (reply, _) = tokio::sync::oneshot::channel();
        if let Some(leader) = self.0.lock().unwrap().get(&leader) {
            let _ = leader.send(Message::Command(Command::PutTasks(name.to_owned(), tasks.to_vec(), reply)));
        }
        Err("no answer".to_owned())
    }

    fn fence_tasks(&self, _: &str, _: &str, _: &SessionKey) -> Result<(), String> {
        Err("no answer".to_owned())
    }
}

/// The status topic, of which nobody is late.
pub struct Statuses(pub Shared);

impl StatusStore for Statuses {
    fn put_connector(&self, connector: &str, status: &StatusRecord) {
        self.0.lock().unwrap().statuses.insert((connector.to_owned(), None), status.clone());
    }

    fn put_task(&self, task: &TaskId, status: &StatusRecord) {
        let key = (task.connector.clone(), Some(task.task));
        let mut world = self.0.lock().unwrap();
        // As the status topic does: a worker that has lost a task may not write over the next one's report.
        let newer = world.statuses.get(&key).is_some_and(|known| known.generation > status.generation);
        if !newer {
            world.statuses.insert(key, status.clone());
        }
    }

    fn remove_task(&self, task: &TaskId) {
        self.0.lock().unwrap().statuses.remove(&(task.connector.clone(), Some(task.task)));
    }

    fn remove_connector(&self, connector: &str) {
        self.0.lock().unwrap().statuses.retain(|(name, _), _| name != connector);
    }

    fn put_topic(&self, _: &str, _: &TopicStatus) {}

    fn remove_topics(&self, _: &str) {}

    fn connector(&self, connector: &str) -> Result<Option<StatusRecord>, StorageError> {
        Ok(self.0.lock().unwrap().statuses.get(&(connector.to_owned(), None)).cloned())
    }

    fn tasks(&self, _: &str) -> Result<Vec<(u32, StatusRecord)>, StorageError> {
        Ok(Vec::new())
    }

    fn topics(&self, _: &str) -> Result<Vec<TopicStatus>, StorageError> {
        Ok(Vec::new())
    }
}
