//! A worker that runs nothing, reports everything, and does as it is told: fail, hang, make tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tributary::herder::{ConnectorView, EventSink, TaskRunner};
use tributary::worker::{
    ConnectorOffsets, ConnectorSpec, OffsetChange, OffsetsError, PartitionOffset, State, TaskId, TaskProgress,
    TaskSpec, WorkerEvent,
};
use tributary_sdk::Config;

pub struct FakeRunner {
    events: EventSink,
    state: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    connectors: BTreeMap<String, ConnectorSpec>,
    tasks: BTreeMap<TaskId, TaskSpec>,
    calls: Vec<String>,
    progress: HashMap<TaskId, TaskProgress>,
}

impl FakeRunner {
    pub fn new(events: EventSink) -> Self {
        Self { events, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.state.lock().unwrap()
    }

    fn call(&self, call: String) {
        self.lock().calls.push(call);
    }

    /// What was called since the last time.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }

    pub fn running_tasks(&self) -> Vec<String> {
        self.lock().tasks.keys().map(TaskId::to_string).collect()
    }

    pub fn task_config(&self, id: &TaskId) -> Option<Config> {
        self.lock().tasks.get(id).map(|spec| spec.task_config.clone())
    }

    pub fn set_progress(&self, id: &TaskId, progress: TaskProgress) {
        self.lock().progress.insert(id.clone(), progress);
    }

    pub fn fail_task(&self, id: &TaskId, trace: &str) {
        (self.events)(WorkerEvent::Task { id: id.clone(), state: State::Failed, trace: Some(trace.to_owned()) });
    }

    pub fn use_topic(&self, id: &TaskId, topic: &str) {
        let (connector, topic) = (id.connector.clone(), topic.to_owned());
        (self.events)(WorkerEvent::TopicUsed { connector, task: id.task, topic });
    }

    fn offer(&self, config: &Config, name: &str) {
        // `fake.tasks` task configs, each with its number and the connector's config.
        let count = config.parsed("fake.tasks", 1).unwrap();
        let task = |number: usize| {
            let mut task = config.clone();
            task.set("task", number.to_string());
            // As a real connector would, it got the resolved value.
            if task.get("password").is_some() {
                task.set("password", "the secret");
            }
            task
        };
        (self.events)(WorkerEvent::TaskConfigs { name: name.to_owned(), configs: (0..count).map(task).collect() });
    }
}

/// `fake.stop.ms` of a config: how long stopping takes.
fn stop_time(config: &Config) -> Duration {
    Duration::from_millis(config.parsed("fake.stop.ms", 0).unwrap())
}

impl TaskRunner for FakeRunner {
    fn start_connector(&self, spec: ConnectorSpec) {
        self.call(format!("start {}", spec.name));
        let (name, config, target) = (spec.name.clone(), spec.config.clone(), spec.target);
        self.lock().connectors.insert(name.clone(), spec);
        if let Some(message) = config.get("fake.fail") {
            let trace = Some(message.to_owned());
            return (self.events)(WorkerEvent::Connector { name, state: State::Failed, trace });
        }
        if config.get("fake.hang").is_some() {
            return;
        }
        (self.events)(WorkerEvent::Connector { name: name.clone(), state: target, trace: None });
        self.offer(&config, &name);
    }

    fn stop_connector(&self, name: &str) {
        self.call(format!("stop {name}"));
        let spec = self.lock().connectors.remove(name);
        if let Some(spec) = spec {
            std::thread::sleep(stop_time(&spec.config));
        }
    }

    fn request_task_configs(&self, name: &str, max_tasks: usize) {
        self.call(format!("task configs of {name}, at most {max_tasks}"));
        let config = self.lock().connectors.get(name).map(|spec| spec.config.clone());
        if let Some(config) = config {
            self.offer(&config, name);
        }
    }

    fn start_task(&self, spec: TaskSpec) {
        self.call(format!("start {}", spec.id));
        let (id, target) = (spec.id.clone(), spec.target);
        self.lock().tasks.insert(id.clone(), spec);
        (self.events)(WorkerEvent::Task { id, state: target, trace: None });
    }

    fn stop_tasks(&self, ids: &[TaskId]) {
        let mut time = Duration::ZERO;
        for id in ids {
            self.call(format!("stop {id}"));
            if let Some(spec) = self.lock().tasks.remove(id) {
                time = time.max(stop_time(&spec.connector_config));
            }
        }
        std::thread::sleep(time);
    }

    fn fence(&self, tasks: &[TaskId], connectors: &[String]) {
        self.call(format!("fence {} tasks, {} connectors", tasks.len(), connectors.len()));
    }

    fn leave_group(&self, group: &str, ids: &[TaskId]) {
        self.call(format!("{} leave {group}", ids.len()));
    }

    fn set_target_state(&self, connector: &str, target: State) {
        self.call(format!("{target:?} {connector}"));
        let tasks: Vec<TaskId> = self.lock().tasks.keys().filter(|id| id.connector == connector).cloned().collect();
        (self.events)(WorkerEvent::Connector { name: connector.to_owned(), state: target, trace: None });
        for id in tasks {
            (self.events)(WorkerEvent::Task { id, state: target, trace: None });
        }
    }

    fn progress(&self, id: &TaskId) -> Option<TaskProgress> {
        let state = self.lock();
        state.tasks.contains_key(id).then(|| state.progress.get(id).cloned().unwrap_or_default())
    }

    fn validate_connector(&self, config: &Config) -> Result<Vec<(String, String)>, String> {
        Ok(config.get("fake.invalid").map(|message| ("file".to_owned(), message.to_owned())).into_iter().collect())
    }

    fn shutdown(&self) {
        self.call("shutdown".to_owned());
    }
}

/// Changes take a while; a reset is what the connector does not care about.
impl ConnectorOffsets for FakeRunner {
    fn purge_state(&self, _: &ConnectorView) -> Result<(), OffsetsError> {
        Ok(())
    }

    fn list(&self, _: &ConnectorView) -> Result<Vec<PartitionOffset>, OffsetsError> {
        let offset = |partition| PartitionOffset { partition, offset: serde_json::json!({"position": 1}) };
        Ok(vec![offset(serde_json::json!({"file": "f"}))])
    }

    fn change(&self, connector: &ConnectorView, change: OffsetChange) -> Result<bool, OffsetsError> {
        self.call(format!("begin {change:?} of {}", connector.name));
        std::thread::sleep(Duration::from_millis(300));
        self.call("end".to_owned());
        match change {
            OffsetChange::Reset => Ok(false),
            OffsetChange::Alter(offsets) if offsets[0].offset.is_null() => Err(OffsetsError::Refused("no".to_owned())),
            OffsetChange::Alter(_) => Ok(true),
        }
    }
}
