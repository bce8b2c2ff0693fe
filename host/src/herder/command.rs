//! What the REST API asks of the herder.

use tokio::sync::oneshot;
use tributary_sdk::Config;

use super::HerderError;
use super::view::ConnectorView;
use crate::worker::State;

/// Where the answer to a command goes. Whoever waited may have gone away.
pub(super) type Reply<T> = oneshot::Sender<Result<T, HerderError>>;

/// A connector after it was created or changed.
#[derive(Debug)]
pub struct Created {
    /// Whether it is new.
    pub created: bool,
    /// As it is now.
    pub connector: ConnectorView,
}

/// What to restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestartRequest {
    /// The tasks, too.
    pub include_tasks: bool,
    /// Only what failed.
    pub only_failed: bool,
}

/// A config to store; it has been validated.
#[derive(Debug)]
pub(super) struct PutConnector {
    pub name: String,
    pub config: Config,
    /// The state to create it in, or to bring it into.
    pub initial_state: Option<State>,
    /// Whether an existing connector may be changed.
    pub replace: bool,
    /// The config that this one was made from: refused with [`HerderError::Conflict`] if it is no longer the present one.
    pub based_on: Option<Config>,
}

/// Work on a stopped connector, such as changing its offsets. It may block.
pub(super) type WhileStopped = Box<dyn FnOnce(&ConnectorView) + Send>;

/// Who has to carry out a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The leader.
    Leader,
    /// The worker that runs the connector.
    Connector(String),
    /// The worker that runs the task.
    Task(String, u32),
}

/// Where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// This worker.
    Here,
    /// The worker with this REST address, or one that knows more.
    At(String),
}

/// One of the things a user can ask for.
pub(super) enum Command {
    Put(PutConnector, Reply<Created>),
    Delete(String, Reply<()>),
    /// Running or Paused: answered as soon as it is stored. Stopped: when everything has stopped.
    SetTarget(String, State, Reply<()>),
    Restart(String, RestartRequest, Reply<ConnectorView>),
    RestartTask(String, u32, Reply<()>),
    ResetTopics(String, Reply<()>),
    /// Runs on a thread of its own while the connector is and stays stopped; answered when it has run.
    WhileStopped(String, WhileStopped, Reply<()>),
    /// Task configs of a connector, from its owner to the leader.
    PutTasks(String, Vec<Config>, Reply<()>),
    /// Former tasks of an exactly-once source are to write nothing more, before its new ones start.
    FenceTasks(String, Reply<()>),
    /// A log level of all workers of the cluster.
    ClusterLevel(String, String, Reply<()>),
    /// Where a request has to go.
    Locate(Place, Reply<Location>),
    /// Ends the herder once the worker has stopped everything.
    Shutdown(oneshot::Sender<()>),
}

impl Command {
    /// Answers that it cannot be.
    pub fn refuse(self, error: HerderError) {
        fn no<T>(reply: Reply<T>, error: HerderError) {
            let _ = reply.send(Err(error));
        }
        match self {
            Self::Put(_, reply) => no(reply, error),
            Self::Delete(_, reply) | Self::SetTarget(_, _, reply) => no(reply, error),
            Self::Restart(_, _, reply) => no(reply, error),
            Self::RestartTask(_, _, reply) | Self::ResetTopics(_, reply) => no(reply, error),
            Self::WhileStopped(_, _, reply) => no(reply, error),
            Self::PutTasks(_, _, reply) | Self::ClusterLevel(_, _, reply) => no(reply, error),
            Self::FenceTasks(_, reply) => no(reply, error),
            Self::Locate(_, reply) => no(reply, error),
            Self::Shutdown(_) => {}
        }
    }
}
