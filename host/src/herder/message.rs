//! What comes to a herder's thread.

use super::command::{Command, Reply};
use super::distributed::Input;
use crate::worker::WorkerEvent;

/// What comes in.
pub(super) enum Message {
    Command(Command),
    Event(WorkerEvent),
    /// Of a worker in a group.
    Distributed(Input),
    /// A [`super::entry::Step::Stop`] has ended.
    Stopped {
        connector: String,
        tasks: Vec<u32>,
        connector_too: bool,
    },
    /// A [`Command::WhileStopped`] has run.
    Worked {
        connector: String,
        reply: Reply<()>,
    },
    /// The worker has stopped everything.
    ShutDown(tokio::sync::oneshot::Sender<()>),
}
