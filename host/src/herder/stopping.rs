//! Stopping what runs of a connector: it takes as long as its plugin does, so it is done on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::TaskRunner;
use super::message::Message;
use crate::worker::TaskId;

/// What of a connector is to be stopped.
pub(super) struct Stopping {
    pub connector: String,
    pub tasks: Vec<u32>,
    pub connector_too: bool,
    /// Of the tasks, those that do not come back anywhere.
    pub leaving: Vec<TaskId>,
    /// The consumer group that these leave.
    pub group: String,
}

impl Stopping {
    /// The work; [`Message::Stopped`] follows.
    pub fn work(self, runner: Arc<dyn TaskRunner>, messages: Sender<Message>) -> impl FnOnce() + Send + 'static {
        move || {
            let Self { connector, tasks, connector_too, leaving, group } = self;
            let ids: Vec<TaskId> = tasks.iter().map(|&task| (connector.as_str(), task).into()).collect();
            if !ids.is_empty() {
                runner.stop_tasks(&ids);
            }
            if !leaving.is_empty() {
                runner.leave_group(&group, &leaving);
            }
            if connector_too {
                runner.stop_connector(&connector);
            }
            // The herder ends only after the worker; then nobody is interested.
            let _ = messages.send(Message::Stopped { connector, tasks, connector_too });
        }
    }
}
