//! The thread of one task: builds it, runs it, reports how it ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::assembly::Assembly;
use super::environment::Environment;
use super::latch::Latch;
use super::{State, TaskId, TaskProgress, TaskSpec, WorkerEvent};
use crate::task::control::TaskControl;
use crate::task::errors::TaskError;

/// A running task, as the worker keeps it.
pub struct TaskThread {
    control: Arc<TaskControl>,
    ended: Arc<Latch>,
    transactional_id: Option<String>,
}

impl TaskThread {
    /// Starts the thread; the outcome comes as events.
    pub fn start(environment: Arc<Environment>, spec: TaskSpec) -> Self {
        let control = Arc::new(TaskControl::new(spec.target == State::Paused).with_lease(environment.lease.clone()));
        let ended = Arc::new(Latch::default());
        let (opens, running) = (ended.clone(), control.clone());
        let id = spec.id.clone();
        let transactional_id = environment.transactional_id(&id, &spec.connector_config);
        let spawned = std::thread::Builder::new().name(format!("task-{id}")).spawn(move || {
            let _span = tracing::info_span!("task", connector = %spec.id.connector, task = spec.id.task).entered();
            run(&environment, &running, spec);
            opens.open();
        });
        if let Err(error) = spawned {
            tracing::error!("cannot start a thread for task {id}: {error}");
            ended.open();
        }
        Self { control, ended, transactional_id }
    }

    /// Orders it to stop; [`Self::ended`] opens when it has.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// From now on it may write nothing more, and its events are dropped.
    pub fn fence(&self) {
        self.control.fence();
    }

    /// What the log knows its producer by, if it writes in transactions.
    pub fn transactional_id(&self) -> Option<&str> {
        self.transactional_id.as_deref()
    }

    /// Pauses or resumes.
    pub fn set_paused(&self, paused: bool) {
        self.control.set_paused(paused);
    }

    /// What it has done.
    pub fn progress(&self) -> TaskProgress {
        self.control.counters.progress()
    }

    /// Opens when the thread has ended.
    pub fn ended(&self) -> &Latch {
        &self.ended
    }
}

fn run(environment: &Arc<Environment>, control: &Arc<TaskControl>, spec: TaskSpec) {
    let id = spec.id.clone();
    environment.starts.tasks.begun();
    let assembly = Assembly { environment, control, spec: &spec };
    let outcome = catch_unwind(AssertUnwindSafe(|| assembly.run())).unwrap_or_else(|_| {
        Err(TaskError::new("the worker panicked on the task's thread; this is a bug of the worker"))
    });
    match outcome {
        Ok(()) => tracing::info!("task {id} stopped"),
        Err(error) => {
            let error = error.without(control.secrets());
            tracing::error!("task {id} failed: {}", error.message);
            if !control.counters.meters.started() {
                environment.starts.tasks.failed();
            }
            if !control.fenced() {
                failed(environment, id, &error);
            }
        }
    }
}

fn failed(environment: &Environment, id: TaskId, error: &TaskError) {
    environment.send(WorkerEvent::Task { id, state: State::Failed, trace: Some(error.to_trace()) });
}
