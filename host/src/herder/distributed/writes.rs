//! The leader's writes to the config topic: those of one connector in order, those of all in batches, on a thread that may wait.
//!
//! A worker that becomes the leader first claims the topic, so that the one before it cannot write any more, and reads it to
//! its end; only then commands are judged by what it says.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::gathering::Gathering;
use super::input::Input;
use crate::herder::HerderError;
use crate::herder::message::Message;
use crate::storage::{ConfigWrite, StorageErrorKind};

/// How long reading the config topic to its end may take after it was claimed.
const REFRESH_WITHIN: Duration = Duration::from_secs(30);
/// When claiming is tried again.
const CLAIM_AGAIN: Duration = Duration::from_millis(500);

/// What follows on a write.
pub(super) type Done = Box<dyn FnOnce(&mut Actor, Result<(), HerderError>) + Send>;
/// What waits for the write before it.
type Turn = Box<dyn FnOnce(&mut Actor) + Send>;

/// Those who wait for what is done about a connector.
#[derive(Default)]
struct Turns {
    /// How much is under way.
    held: usize,
    waiting: VecDeque<Turn>,
}

/// Whether this worker may write.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It does not lead.
    #[default]
    No,
    /// The topic is being claimed.
    UnderWay,
    /// It may.
    Held,
}

struct Write {
    name: String,
    writes: Vec<ConfigWrite>,
    done: Done,
}

/// Whether no user waits for the answer.
fn is_patient(write: &Write) -> bool {
    write.writes.iter().all(|write| matches!(write, ConfigWrite::Tasks(..)))
}

/// Whether it is a user's.
fn is_request(write: &Write) -> bool {
    let asked = |write: &ConfigWrite| {
        matches!(
            write,
            ConfigWrite::Connector { .. } | ConfigWrite::Remove(_) | ConfigWrite::Target(..) | ConfigWrite::Restart(..)
        )
    };
    write.writes.iter().any(asked)
}

/// See the module.
#[derive(Default)]
pub(super) struct Writes {
    pub claim: Claim,
    pub claim_due: Option<Instant>,
    /// When what waits for others is written without them.
    pub write_due: Option<Instant>,
    gathering: Gathering,
    /// Connectors with a write under way, and what waits for it.
    turns: HashMap<String, Turns>,
    /// For the next batch.
    next: Vec<Write>,
    /// The batch under way.
    under_way: Option<Vec<Write>>,
}

impl Writes {
    /// Whether anything is being written, or about to be.
    pub fn busy(&self) -> bool {
        self.under_way.is_some() || !self.next.is_empty()
    }
}

impl Actor {
    /// Does something about a connector when no write about it is under way.
    pub fn in_turn(&mut self, name: &str, turn: Turn) {
        match self.writes.turns.get_mut(name) {
            Some(turns) => {
                turns.waiting.push_back(turn);
                // What is put off for others is not put off any more.
                if self.writes.write_due.is_some() && self.writes.next.iter().any(|write| write.name == name) {
                    self.write_all();
                }
            }
            None => turn(self),
        }
    }

    /// Writes to the config topic; `done` is called when that can be read back, or has failed. Called in turn.
    pub fn write(&mut self, name: &str, writes: Vec<ConfigWrite>, done: Done) {
        self.hold_turn(name);
        let write = Write { name: name.to_owned(), writes, done };
        if is_request(&write) {
            self.writes.gathering.requested(Instant::now());
        }
        self.writes.next.push(write);
        self.write_next();
    }

    fn write_next(&mut self) {
        if self.writes.next.is_empty() {
            return;
        }
        if self.writes.next.iter().all(is_patient) {
            let due = self.writes.gathering.due(Instant::now());
            self.writes.write_due.get_or_insert(due);
        } else {
            self.write_all();
        }
    }

    /// Writes all that waits for it, unless something is being written.
    pub fn write_all(&mut self) {
        self.writes.write_due = None;
        if self.writes.under_way.is_some() || self.writes.next.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.writes.next);
        let writes: Vec<ConfigWrite> = batch.iter().flat_map(|write| write.writes.iter().cloned()).collect();
        self.writes.under_way = Some(batch);
        let (configs, lease, messages) = (self.deps.configs.clone(), self.deps.group.lease(), self.messages.clone());
        self.deps.jobs.queue(Box::new(move || {
            let result = if lease.holds() {
                configs.write(&writes)
            } else {
                Err(crate::storage::StorageError::other("this worker's membership in the group has run out"))
            };
            let _ = messages.send(Message::Distributed(Input::Written(result)));
        }));
    }

    pub fn written(&mut self, result: Result<(), crate::storage::StorageError>) {
        self.take_config();
        if let Err(error) = &result {
            tracing::error!("the config topic was not written: {error}");
            if error.kind == StorageErrorKind::Fenced {
                // Another worker leads, and this one has not heard of it: what comes waits until it has.
                self.writes.claim = Claim::No;
                self.deps.group.request_rejoin("another worker writes to the config topic");
            }
        }
        for write in self.writes.under_way.take().unwrap_or_default() {
            (write.done)(self, result.clone().map_err(HerderError::from));
            self.end_turn(&write.name);
        }
        self.write_next();
    }

    /// What waits about this connector goes on waiting, until [`Self::end_turn`].
    pub fn hold_turn(&mut self, name: &str) {
        self.writes.turns.entry(name.to_owned()).or_default().held += 1;
    }

    /// The others that wait have their turn, until one of them holds it.
    pub fn end_turn(&mut self, name: &str) {
        while let Some(turns) = self.writes.turns.get_mut(name) {
            turns.held = turns.held.saturating_sub(1);
            if turns.held > 0 {
                return;
            }
            let Some(turn) = turns.waiting.pop_front() else {
                self.writes.turns.remove(name);
                return;
            };
            // While it is at it, nobody else is.
            turns.held = 1;
            turn(self);
        }
    }

    /// Makes this worker the only one that writes, and reads what was written before.
    pub fn claim(&mut self) {
        if self.writes.claim == Claim::UnderWay {
            return;
        }
        (self.writes.claim, self.writes.claim_due) = (Claim::UnderWay, None);
        let (configs, group, messages) = (self.deps.configs.clone(), self.deps.group.clone(), self.messages.clone());
        self.deps.jobs.queue(Box::new(move || {
            // A claim that comes too late would take the topic from the next leader.
            let result = if group.state().leader && group.lease().holds() {
                configs.claim().and_then(|()| configs.refresh(REFRESH_WITHIN))
            } else {
                Err(crate::storage::StorageError::other("this worker does not lead the group any more"))
            };
            let _ = messages.send(Message::Distributed(Input::Claimed(result)));
        }));
    }

    pub fn claimed(&mut self, result: Result<(), crate::storage::StorageError>) {
        self.take_config();
        self.writes.claim = Claim::No;
        if !self.leads() {
            return;
        }
        match result {
            Ok(()) => {
                self.writes.claim = Claim::Held;
                self.see_to_the_key();
                self.commands_again();
            }
            Err(error) => {
                tracing::warn!("this worker leads and cannot claim the config topic yet: {error}");
                self.writes.claim_due = Some(Instant::now() + CLAIM_AGAIN);
            }
        }
    }
}

#[cfg(test)]
impl Writes {
    /// For messages of tests.
    pub fn describe(&self) -> String {
        let under_way = self.under_way.as_ref().map(Vec::len);
        let turns: Vec<_> = self.turns.iter().map(|(name, turns)| (name, turns.held, turns.waiting.len())).collect();
        format!(
            "{:?} {:?}, next {}, under way {under_way:?}, turns {turns:?}",
            self.claim,
            self.claim_due,
            self.next.len()
        )
    }
}
