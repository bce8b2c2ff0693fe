//! The thread of one connector: everything that a connector instance is asked goes through it, one call at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tributary_sdk::Config;

use super::environment::Environment;
use super::latch::Latch;
use super::{ConnectorSpec, State, WorkerEvent};
use crate::plugin::ConnectorHandle;
use crate::task::control::TaskControl;
use crate::task::errors::TaskError;
use crate::task::services::InstanceServices;

/// What a connector is asked.
enum Command {
    TaskConfigs(usize),
    Target(State),
}

/// A running connector, as the worker keeps it.
pub struct ConnectorThread {
    commands: Sender<Command>,
    control: Arc<TaskControl>,
    ended: Arc<Latch>,
}

impl ConnectorThread {
    /// Starts the thread; the outcome comes as events.
    pub fn start(environment: Arc<Environment>, spec: ConnectorSpec) -> Self {
        let (commands, received) = channel();
        let control = Arc::new(TaskControl::default());
        let ended = Arc::new(Latch::default());
        let thread = Running {
            name: spec.name.clone(),
            target: spec.target,
            environment,
            control: control.clone(),
            commands: commands.clone(),
            started: false,
        };
        thread.environment.starts.connectors.begun();
        let opens = ended.clone();
        let name = spec.name.clone();
        let spawned = std::thread::Builder::new().name(format!("connector-{name}")).spawn(move || {
            let _span = tracing::info_span!("connector", connector = %thread.name).entered();
            thread.run(spec, &received);
            opens.open();
        });
        if let Err(error) = spawned {
            tracing::error!("cannot start a thread for connector {name}: {error}");
            ended.open();
        }
        Self { commands, control, ended }
    }

    /// Asks for task configs; they come as an event.
    pub fn request_task_configs(&self, max_tasks: usize) {
        _ = self.commands.send(Command::TaskConfigs(max_tasks));
    }

    /// Sets the target state.
    pub fn set_target(&self, target: State) {
        _ = self.commands.send(Command::Target(target));
    }

    /// Orders it to stop; [`Self::ended`] opens when it has.
    pub fn stop(&self) {
        self.control.stop();
        // Wakes the thread if it waits for a command.
        _ = self.commands.send(Command::TaskConfigs(0));
    }

    /// From now on its events are dropped.
    pub fn fence(&self) {
        self.control.fence();
    }

    /// Opens when the thread has ended.
    pub fn ended(&self) -> &Latch {
        &self.ended
    }
}

struct Running {
    name: String,
    target: State,
    environment: Arc<Environment>,
    control: Arc<TaskControl>,
    commands: Sender<Command>,
    /// Whether it has been running.
    started: bool,
}

impl Running {
    fn run(mut self, spec: ConnectorSpec, commands: &Receiver<Command>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve(&spec, commands)));
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => TaskError::new("the worker panicked on the connector's thread; this is a bug of the worker"),
        };
        let error = error.without(self.control.secrets());
        tracing::error!("connector {} failed: {}", self.name, error.message);
        if !self.started {
            self.environment.starts.connectors.failed();
        }
        self.report(State::Failed, Some(error.to_trace()));
        // A failed connector answers nothing until it is stopped.
        while !self.control.stopping() && commands.recv().is_ok() {}
    }

    fn serve(&mut self, spec: &ConnectorSpec, commands: &Receiver<Command>) -> Result<(), TaskError> {
        let environment = self.environment.clone();
        let [config] = environment.resolve([&spec.config], &self.control)?;
        let mut services = InstanceServices::new(
            &self.name,
            None,
            self.control.clone(),
            environment.offsets.clone(),
            environment.state.clone(),
        );
        let ask = self.commands.clone();
        let tasks_max = environment.tasks_max(&config)?;
        services.reconfigure = Some(Box::new(move || _ = ask.send(Command::TaskConfigs(tasks_max))));
        let mut handle = environment.create_connector(&config, Arc::new(services), &self.control)?;
        self.control.set_canceller(handle.canceller());
        // A paused connector is started when it is resumed, as in Kafka Connect; so it divides no work before.
        let mut started = false;
        if self.target == State::Paused {
            self.report(State::Paused, None);
        }
        loop {
            if self.control.stopping() {
                break;
            }
            if self.target == State::Running && !started {
                call("start", handle.start(&config))?;
                started = true;
                if !std::mem::replace(&mut self.started, true) {
                    self.environment.starts.connectors.worked();
                }
                self.report(State::Running, None);
                self.task_configs(&mut *handle, tasks_max, &spec.config)?;
            }
            let Ok(command) = commands.recv() else { break };
            match command {
                Command::TaskConfigs(max_tasks) if started && max_tasks > 0 => {
                    self.task_configs(&mut *handle, max_tasks, &spec.config)?
                }
                Command::TaskConfigs(_) => {}
                Command::Target(target) if target != self.target => {
                    self.target = target;
                    if target == State::Paused {
                        if started {
                            call("stop", handle.stop())?;
                            started = false;
                        }
                        self.report(State::Paused, None);
                    }
                }
                Command::Target(_) => {}
            }
        }
        if started { call("stop", handle.stop()) } else { Ok(()) }
    }

    fn task_configs(
        &self,
        handle: &mut dyn ConnectorHandle,
        max_tasks: usize,
        written: &Config,
    ) -> Result<(), TaskError> {
        let configs = call("task_configs", handle.task_configs(max_tasks))?;
        if configs.len() > max_tasks {
            return Err(TaskError::new(format!(
                "the connector {} has generated {} tasks, which is greater than {max_tasks}, the maximum number of tasks it is allowed to create",
                self.name,
                configs.len()
            )));
        }
        let configs = configs.into_iter().map(|config| self.unresolved(config, written)).collect();
        self.send(WorkerEvent::TaskConfigs { name: self.name.clone(), configs });
        Ok(())
    }

    /// A task config as it may be stored: what the connector passes on of its own config is as it was written there, and
    /// secrets elsewhere are references again. The task resolves them.
    fn unresolved(&self, config: Config, written: &Config) -> Config {
        let secrets = self.control.secrets();
        let reference = |key: &str| written.get(key).filter(|text| secrets.resolves_to_other(text));
        let text = |(key, value): (String, String)| match reference(&key) {
            Some(reference) => (key, reference.to_owned()),
            None => {
                let value = secrets.unresolve(&value);
                (key, value)
            }
        };
        config.0.into_iter().map(text).collect()
    }

    fn report(&self, state: State, trace: Option<String>) {
        self.send(WorkerEvent::Connector { name: self.name.clone(), state, trace });
    }

    fn send(&self, event: WorkerEvent) {
        if !self.control.fenced() {
            self.environment.send(event);
        }
    }
}

fn call<T>(name: &str, answer: tributary_sdk::Result<T>) -> Result<T, TaskError> {
    answer.map_err(|error| TaskError::of_call(name, error))
}
