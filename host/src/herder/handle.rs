//! The herder as others hold it.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::oneshot;
use tributary_sdk::Config;

use super::command::{Command, Created, Location, Place, PutConnector, Reply, RestartRequest};
use super::message::Message;
use super::view::{ConnectorView, View};
use super::{EventSink, HerderError};
use crate::worker::State;

/// The herder as others hold it: commands, and the [`View`]. Cheap to clone.
#[derive(Clone)]
pub struct Herder {
    messages: Sender<Message>,
    view: Arc<View>,
}

impl Herder {
    pub(super) fn new(messages: Sender<Message>, view: Arc<View>) -> Self {
        Self { messages, view }
    }

    /// What there is, without waiting for anything.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Where the worker reports.
    pub fn event_sink(&self) -> EventSink {
        let messages = self.messages.clone();
        // After the end of the herder nobody is interested.
        Arc::new(move |event| drop(messages.send(Message::Event(event))))
    }

    /// Creates a connector with a validated config; refused if there is one of the name.
    pub async fn create(
        &self,
        name: &str,
        config: Config,
        initial_state: Option<State>,
    ) -> Result<Created, HerderError> {
        let put = PutConnector { name: name.to_owned(), config, initial_state, replace: false, based_on: None };
        self.ask(|reply| Command::Put(put, reply)).await
    }

    /// Creates a connector or replaces its config, with a validated config. `based_on` is the config that this one was
    /// made from: if it has changed since, the command is refused with [`HerderError::Conflict`].
    pub async fn put(&self, name: &str, config: Config, based_on: Option<Config>) -> Result<Created, HerderError> {
        let put = PutConnector { name: name.to_owned(), config, initial_state: None, replace: true, based_on };
        self.ask(|reply| Command::Put(put, reply)).await
    }

    /// As a connector file on the command line: creates or replaces, and sets the state if the file has one.
    pub async fn put_file(
        &self,
        name: &str,
        config: Config,
        initial_state: Option<State>,
    ) -> Result<Created, HerderError> {
        let put = PutConnector { name: name.to_owned(), config, initial_state, replace: true, based_on: None };
        self.ask(|reply| Command::Put(put, reply)).await
    }

    /// Stops a connector and forgets it; answers when it has stopped.
    pub async fn delete(&self, name: &str) -> Result<(), HerderError> {
        self.ask(|reply| Command::Delete(name.to_owned(), reply)).await
    }

    /// Pauses; answers when that is stored.
    pub async fn pause(&self, name: &str) -> Result<(), HerderError> {
        self.ask(|reply| Command::SetTarget(name.to_owned(), State::Paused, reply)).await
    }

    /// Resumes what is paused or stopped; answers when that is stored.
    pub async fn resume(&self, name: &str) -> Result<(), HerderError> {
        self.ask(|reply| Command::SetTarget(name.to_owned(), State::Running, reply)).await
    }

    /// Stops the connector and its tasks, and keeps its config; answers when they have stopped.
    pub async fn stop(&self, name: &str) -> Result<(), HerderError> {
        self.ask(|reply| Command::SetTarget(name.to_owned(), State::Stopped, reply)).await
    }

    /// Restarts the connector, and tasks as asked; answers with the states at the beginning of that.
    pub async fn restart(&self, name: &str, request: RestartRequest) -> Result<ConnectorView, HerderError> {
        self.ask(|reply| Command::Restart(name.to_owned(), request, reply)).await
    }

    /// Restarts one task; answers at the beginning of that.
    pub async fn restart_task(&self, name: &str, task: u32) -> Result<(), HerderError> {
        self.ask(|reply| Command::RestartTask(name.to_owned(), task, reply)).await
    }

    /// Forgets the topics that the connector used.
    pub async fn reset_topics(&self, name: &str) -> Result<(), HerderError> {
        self.ask(|reply| Command::ResetTopics(name.to_owned(), reply)).await
    }

    /// Runs `work`, which may block, on a thread of its own while the connector is stopped: it starts nothing before
    /// that has ended. Refused, in Connect's words, unless the connector and its tasks have stopped.
    pub async fn while_stopped<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&ConnectorView) -> T + Send + 'static,
    ) -> Result<T, HerderError> {
        let (result, outcome) = oneshot::channel();
        // Whoever asked may have gone away; the work is done all the same.
        let work = Box::new(move |connector: &ConnectorView| drop(result.send(work(connector))));
        self.ask(|reply| Command::WhileStopped(name.to_owned(), work, reply)).await?;
        outcome.await.map_err(|_| {
            HerderError::Internal(format!("the work on connector {name} panicked; this is a bug of the worker"))
        })
    }

    /// Where a request has to go. Waits while the group has no leader, for as long as a request waits for that.
    pub async fn locate(&self, place: Place) -> Result<Location, HerderError> {
        self.ask(|reply| Command::Locate(place, reply)).await
    }

    /// Takes a connector's task configs from the worker that runs it; this worker has to lead.
    pub async fn put_tasks(&self, name: &str, tasks: Vec<Config>) -> Result<(), HerderError> {
        self.ask(|reply| Command::PutTasks(name.to_owned(), tasks, reply)).await
    }

    /// Makes sure that former tasks of an exactly-once source write nothing more; this worker has to lead.
    pub async fn fence_tasks(&self, name: &str) -> Result<(), HerderError> {
        self.ask(|reply| Command::FenceTasks(name.to_owned(), reply)).await
    }

    /// Sets a log level in all workers of the cluster.
    pub async fn set_cluster_level(&self, logger: &str, level: &str) -> Result<(), HerderError> {
        self.ask(|reply| Command::ClusterLevel(logger.to_owned(), level.to_owned(), reply)).await
    }

    /// Stops everything gracefully and ends the herder; states stay recorded.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.messages.send(Message::Command(Command::Shutdown(reply))).is_ok() {
            // An error means that the herder has ended, which is what was wanted.
            let _ = done.await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, HerderError> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Command(command(reply))).map_err(|_| HerderError::ShuttingDown)?;
        answer.await.unwrap_or(Err(HerderError::Ended))
    }
}
