//! Work that the leader does on a stopped connector, such as changing its offsets: nothing else is done about the connector
//! before it has ended, so that it is not resumed meanwhile.

use std::time::{Duration, Instant};

use super::actor::Actor;
use crate::herder::HerderError;
use crate::herder::command::{Reply, WhileStopped};
use crate::herder::message::Message;
use crate::worker::State;

/// How long the workers have for stopping what was told to stop, before the work is refused.
const REST_WITHIN: Duration = Duration::from_secs(10);

/// Work that waits until its connector has stopped everywhere.
pub(super) struct Resting {
    until: Instant,
    name: String,
    work: WhileStopped,
    reply: Reply<()>,
}

impl Actor {
    /// Called in turn.
    pub fn while_stopped(&mut self, name: &str, work: WhileStopped, reply: Reply<()>) {
        match self.config.connectors.get(name) {
            None => drop(reply.send(Err(HerderError::NotFound(format!("Connector {name} not found"))))),
            Some(connector) if connector.target != State::Stopped => drop(reply.send(Err(not_stopped(name)))),
            Some(_) => {
                let until = Instant::now() + REST_WITHIN;
                self.resting.push(Resting { until, name: name.to_owned(), work, reply });
                self.work_at_rest(Instant::now());
            }
        }
    }

    /// Begins what has waited for its connector, and refuses what has waited too long.
    pub fn work_at_rest(&mut self, now: Instant) {
        for resting in std::mem::take(&mut self.resting) {
            let name = resting.name.clone();
            if !self.at_rest(&name) {
                if resting.until <= now {
                    let _ = resting.reply.send(Err(not_stopped(&name)));
                } else {
                    self.resting.push(resting);
                }
                continue;
            }
            self.in_turn(&name, Box::new(move |actor| actor.work(resting)));
        }
    }

    /// The worker ends before these could begin.
    pub fn refuse_resting(&mut self) {
        for resting in std::mem::take(&mut self.resting) {
            let _ = resting.reply.send(Err(HerderError::ShuttingDown));
        }
    }

    fn work(&mut self, resting: Resting) {
        let Resting { name, work, reply, .. } = resting;
        let stopped = self.config.connectors.get(&name).is_some_and(|connector| connector.target == State::Stopped);
        let view = self.view.connector(&name).filter(|_| stopped);
        let Some(view) = view else { return drop(reply.send(Err(not_stopped(&name)))) };
        self.hold_turn(&name);
        let messages = self.messages.clone();
        let connector = name.clone();
        let run = move || {
            // What panics has told nothing, and that is how the waiting side learns of it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&view)));
            let _ = messages.send(Message::Worked { connector, reply });
        };
        if !self.deps.jobs.run("herder-work", Box::new(run)) {
            self.end_turn(&name);
        }
    }

    /// The work has ended, well or not: what it came to, it has told itself.
    pub fn worked(&mut self, name: &str, reply: Reply<()>) {
        let _ = reply.send(Ok(()));
        self.end_turn(name);
    }

    /// Whether nothing of a stopped connector runs anywhere. Workers report what they have stopped; one that is not in the
    /// group any more runs nothing.
    fn at_rest(&self, name: &str) -> bool {
        let workers = self.deps.group.state().workers;
        let lives = |worker: &str| workers.is_empty() || workers.iter().any(|url| url.ends_with(worker));
        let statuses = self.deps.statuses.tasks(name).unwrap_or_default();
        let runs = |state| matches!(state, State::Running | State::Paused | State::Restarting);
        let elsewhere = statuses.iter().any(|(_, status)| runs(status.state) && lives(&status.worker_id));
        let here = self.entries.get(name).is_some_and(|entry| {
            entry.busy || entry.connector.started || entry.tasks.values().any(|task| task.instance.started)
        });
        !elsewhere && !here
    }
}

fn not_stopped(name: &str) -> HerderError {
    HerderError::BadRequest(format!(
        "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the specified \
         connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
    ))
}
