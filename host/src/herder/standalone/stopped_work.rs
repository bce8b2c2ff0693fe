//! Work on a stopped connector: one piece at a time, and nothing of the connector starts before it has ended.

use super::Actor;
use crate::herder::HerderError;
use crate::herder::command::{Reply, WhileStopped};
use crate::herder::entry::{Clock, Entry};
use crate::herder::message::Message;

impl Actor {
    pub(super) fn while_stopped(&mut self, name: &str, work: WhileStopped, reply: Reply<()>) {
        match self.entries.get_mut(name).filter(|entry| !entry.removed) {
            None => drop(reply.send(Err(HerderError::NotFound(format!("Connector {name} not found"))))),
            Some(entry) if !entry.at_rest() => drop(reply.send(Err(not_stopped(name)))),
            Some(entry) => {
                entry.stopped_work.push_back((work, reply));
                self.next_work(name);
            }
        }
    }

    /// The work has ended, well or not: what it came to, it has told itself.
    pub(super) fn worked(&mut self, name: &str, reply: Reply<()>) {
        let _ = reply.send(Ok(()));
        if let Some(entry) = self.entries.get_mut(name) {
            entry.busy = false;
        }
        self.next_work(name);
        self.reconcile(name);
    }

    fn next_work(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| !entry.busy) else { return };
        if !entry.at_rest() {
            return refuse(entry);
        }
        let Some((work, reply)) = entry.stopped_work.pop_front() else { return };
        entry.busy = true;
        let (view, messages, connector) = (entry.view(Clock::now()), self.messages.clone(), name.to_owned());
        let run = move || {
            // What panics has told nothing, and that is how the waiting side learns of it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&view)));
            let _ = messages.send(Message::Worked { connector, reply });
        };
        if let Err(error) = std::thread::Builder::new().name("herder-work".to_owned()).spawn(run) {
            // The closure is gone, and with it the reply: whoever waits is told that the worker is ending.
            tracing::error!(connector = name, "cannot start a thread: {error}");
            entry.busy = false;
        }
    }
}

/// Whoever still waits comes too late.
fn refuse(entry: &mut Entry) {
    for (_, reply) in entry.stopped_work.drain(..) {
        let _ = reply.send(Err(not_stopped(&entry.name)));
    }
}

fn not_stopped(name: &str) -> HerderError {
    HerderError::BadRequest(format!(
        "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the specified \
         connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
    ))
}
