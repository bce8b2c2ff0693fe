//! Before tasks of an exactly-once source start, those of the generation before are fenced, wherever they may still run.
//!
//! Whoever has such tasks to start asks the leader; it fences the former tasks' producers, as many as the last task-count record
//! says, and writes how many there may be now. The config topic tells everybody that it is done.

use std::time::{Duration, Instant};

use super::actor::Actor;
use super::input::Input;
use super::writes::Done;
use crate::herder::command::Reply;
use crate::herder::message::Message;
use crate::herder::{HerderError, PluginKind};
use crate::storage::ConfigWrite;

/// The first and the longest pause between tries.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// When the leader is asked again, if the config topic does not show what it said it did.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// The wish to have former tasks fenced.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// On its way.
    pub under_way: bool,
    /// Not before this time.
    pub not_before: Option<Instant>,
    pause: Duration,
}

impl Wish {
    /// Whether to ask now.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.under_way && self.not_before.is_none_or(|due| due <= now)
    }

    fn answered(&mut self, done: bool, now: Instant) {
        self.under_way = false;
        self.pause = if done { Duration::ZERO } else { (self.pause * 2).clamp(AGAIN.0, AGAIN.1) };
        self.not_before = Some(now + if done { SHOWN_WITHIN } else { self.pause });
    }
}

/// What came of a round of fencing.
pub struct Fenced {
    name: String,
    generation: u32,
    count: u32,
    result: Result<(), String>,
    done: Done,
}

impl Actor {
    /// Asks the leader, or does it as the leader.
    pub fn ask_to_fence(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.fence.under_way = true;
        let (messages, connector) = (self.messages.clone(), name.to_owned());
        let Some(assignment) = &self.assignment else {
            return self.fence_answered(name, Err("this worker is in no group".to_owned()));
        };
        if assignment.leader {
            let answer = move |result: Result<(), HerderError>| {
                let result = result.map_err(|error| error.to_string());
                let _ = messages.send(Message::Distributed(Input::FenceAnswered { connector, result }));
            };
            let asked = name.to_owned();
            return self
                .in_turn(name, Box::new(move |actor| actor.fence(&asked, Box::new(move |_, result| answer(result)))));
        }
        let (leader, peers, key) =
            (assignment.leader_url.clone(), self.deps.peers.clone(), self.config.session_key.clone());
        let work = move || {
            let result = match key {
                Some(key) => peers.fence_tasks(&leader, &connector, &key),
                None => Err("the leader has not made a session key yet".to_owned()),
            };
            let _ = messages.send(Message::Distributed(Input::FenceAnswered { connector, result }));
        };
        if !self.deps.jobs.run("herder-fence", Box::new(work)) {
            self.fence_answered(name, Err("no thread could be started".to_owned()));
        }
    }

    pub fn fence_answered(&mut self, name: &str, result: Result<(), String>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.fence.answered(result.is_ok(), Instant::now());
        if let Err(message) = result {
            tracing::warn!(
                connector = name,
                "former tasks are not fenced yet, and the new ones wait for it: {message}"
            );
        }
        self.touched.insert(name.to_owned());
    }

    /// Another worker asks. Called in turn.
    pub fn fence_for_other(&mut self, name: &str, reply: Reply<()>) {
        self.fence(name, Box::new(move |_, result| drop(reply.send(result))));
    }

    /// As the leader, in turn: nothing else is written about the connector meanwhile.
    fn fence(&mut self, name: &str, done: Done) {
        let Some(connector) = self.config.connectors.get(name) else {
            return done(self, Err(HerderError::NotFound(format!("Connector {name} not found"))));
        };
        if self.entries.get(name).is_some_and(|entry| entry.kind == Some(PluginKind::Sink)) {
            return done(self, Err(HerderError::BadRequest(format!("Connector {name} is not a source connector"))));
        }
        let fencing = self.config.fencing.get(name).copied().unwrap_or_default();
        if !fencing.pending {
            return done(self, Ok(()));
        }
        let (former, count) = (fencing.task_count.unwrap_or_default(), connector.tasks.len() as u32);
        let generation = fencing.generation;
        // A single one is fenced by its single successor, which has the same id.
        let nothing_to_do = former == 0 || (former == 1 && count == 1);
        let (fence, messages, connector) = (self.deps.fence_tasks.clone(), self.messages.clone(), name.to_owned());
        self.hold_turn(name);
        let work = move || {
            let result = if nothing_to_do { Ok(()) } else { fence(&connector, former) };
            let fenced = Fenced { name: connector, generation, count, result, done };
            let _ = messages.send(Message::Distributed(Input::Fenced(fenced)));
        };
        if !self.deps.jobs.run("herder-fence", Box::new(work)) {
            if let Some(entry) = self.entries.get_mut(name) {
                entry.fence.answered(false, Instant::now());
            }
            self.end_turn(name);
        }
    }

    /// The producers are fenced, or not: the task-count record follows.
    pub fn fenced(&mut self, fenced: Fenced) {
        let Fenced { name, generation, count, result, done } = fenced;
        let now = self.config.fencing.get(&name).copied().unwrap_or_default();
        match result {
            Err(message) => {
                let message = format!("Failed to perform zombie fencing: {message}");
                done(self, Err(HerderError::Internal(message)));
            }
            Ok(()) if now.generation != generation => {
                let message = "Fencing failed because new task configurations were generated for the connector";
                done(self, Err(HerderError::Rebalancing(message.to_owned())));
            }
            Ok(()) => {
                tracing::info!(connector = name, tasks = count, "former tasks are fenced");
                self.write(&name, vec![ConfigWrite::TaskCount(name.clone(), count)], done);
            }
        }
        self.end_turn(&name);
    }
}
