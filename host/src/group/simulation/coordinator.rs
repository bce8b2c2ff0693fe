//! Kafka's group coordinator as far as members of our kind can see it: one group, dynamic members.
//!
//! What a real one writes to its topic is kept in `stored`, and is all that its successor knows.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::super::membership::{Input, JoinAnswer, Refusal};

/// Who waits for an answer: a node's run, and the number of its request.
pub(super) type Caller = (usize, u64);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Joined(Result<JoinAnswer, (ResponseError, String)>),
    Synced(Result<Bytes, ResponseError>),
    Heartbeat(Result<(), ResponseError>),
}

impl Answer {
    /// As the member is told.
    pub(super) fn input(self, call: u64) -> Input {
        let code = Refusal::Code;
        match self {
            Self::Joined(answer) => Input::Joined { call, answer: answer.map_err(|(error, id)| (code(error), id)) },
            Self::Synced(answer) => Input::Synced { call, answer: answer.map_err(code) },
            Self::Heartbeat(answer) => Input::Heartbeat { call, answer: answer.map_err(code) },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Empty,
    Preparing,
    Completing,
    Stable,
}

#[derive(Debug, Clone, Default)]
struct Member {
    metadata: Bytes,
    assignment: Bytes,
    deadline: u64,
    joining: Option<Caller>,
    syncing: Option<Caller>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    state: State,
    generation: i32,
    leader: String,
    members: BTreeMap<String, Member>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Coordinator {
    session: u64,
    rebalance: u64,
    group: Group,
    stored: Group,
    pending: BTreeMap<String, u64>,
    join_by: u64,
    sync_by: u64,
    ids: u64,
    /// Who leads where a new leader is needed; a real one takes whichever it finds first.
    pub(super) candidate: Option<String>,
    pub(super) answers: Vec<(Caller, Answer)>,
}

impl Coordinator {
    pub(super) fn new(session: u64, rebalance: u64) -> Self {
        Self { session, rebalance, ..Self::default() }
    }

    pub(super) fn state(&self) -> State {
        self.group.state
    }

    pub(super) fn members(&self) -> BTreeSet<String> {
        self.group.members.keys().cloned().collect()
    }

    /// Another broker takes over with what was stored.
    pub(super) fn fail_over(&mut self, now: u64) {
        self.group = self.stored.clone();
        for member in self.group.members.values_mut() {
            (member.joining, member.syncing) = (None, None);
            member.deadline = now + self.session;
        }
        self.pending.clear();
        self.answers.clear();
    }

    pub(super) fn join(&mut self, now: u64, caller: Caller, id: &str, metadata: Bytes) {
        if id.is_empty() {
            self.ids += 1;
            let id = format!("member-{}", self.ids);
            self.pending.insert(id.clone(), now + self.session);
            return self.answer(caller, Answer::Joined(Err((ResponseError::MemberIdRequired, id))));
        }
        if self.pending.remove(id).is_some() {
            let deadline = now + self.session;
            let member = Member { metadata, joining: Some(caller), deadline, ..Member::default() };
            self.group.members.insert(id.to_owned(), member);
            return self.prepare(now);
        }
        let Some(member) = self.group.members.get_mut(id) else {
            return self.answer(caller, Answer::Joined(Err((ResponseError::UnknownMemberId, id.to_owned()))));
        };
        let same = member.metadata == metadata;
        let leads = self.group.leader == id;
        match self.group.state {
            State::Completing if same => {
                let answer = self.joined(id);
                self.answer(caller, answer);
            }
            State::Stable if same && !leads => {
                let answer = self.joined(id);
                self.answer(caller, answer);
            }
            _ => {
                member.metadata = metadata;
                member.joining = Some(caller);
                self.prepare(now);
            }
        }
    }

    fn joined(&self, id: &str) -> Answer {
        let group = &self.group;
        let members = if group.leader == id {
            group.members.iter().map(|(id, member)| (id.clone(), member.metadata.clone())).collect()
        } else {
            Vec::new()
        };
        Answer::Joined(Ok(JoinAnswer {
            generation: group.generation,
            member_id: id.to_owned(),
            leader: group.leader.clone(),
            protocol: "sessioned".to_owned(),
            members,
        }))
    }

    fn prepare(&mut self, now: u64) {
        if self.group.state == State::Completing {
            let waiting: Vec<Caller> =
                self.group.members.values_mut().filter_map(|member| member.syncing.take()).collect();
            for caller in waiting {
                self.answer(caller, Answer::Synced(Err(ResponseError::RebalanceInProgress)));
            }
            for member in self.group.members.values_mut() {
                member.assignment = Bytes::new();
            }
        }
        if self.group.state == State::Empty {
            // The first rebalance of a group waits for `group.initial.rebalance.delay.ms`, which is 0 here, and for nobody.
            return self.complete(now);
        }
        if self.group.state != State::Preparing {
            self.group.state = State::Preparing;
            // The longest time-out of the members; without any, ids that were asked for are not waited for.
            self.join_by = now + if self.group.members.is_empty() { 0 } else { self.rebalance };
        }
        self.maybe_complete(now);
    }

    fn maybe_complete(&mut self, now: u64) {
        let all = self.group.members.values().all(|member| member.joining.is_some()) && self.pending.is_empty();
        if self.group.state == State::Preparing && (all || now >= self.join_by) {
            self.complete(now);
        }
    }

    fn complete(&mut self, now: u64) {
        self.group.members.retain(|_, member| member.joining.is_some());
        self.group.generation += 1;
        if self.group.members.is_empty() {
            self.group.state = State::Empty;
            self.group.leader.clear();
            self.stored = self.group.clone();
            return;
        }
        if !self.group.members.contains_key(&self.group.leader) {
            let candidate = self.candidate.take().filter(|id| self.group.members.contains_key(id));
            self.group.leader = candidate.or_else(|| self.group.members.keys().next().cloned()).unwrap_or_default();
        }
        self.group.state = State::Completing;
        self.sync_by = now + self.rebalance;
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            let Some(member) = self.group.members.get_mut(&id) else { continue };
            member.deadline = now + self.session;
            if let Some(caller) = member.joining.take() {
                self.answer(caller, answer);
            }
        }
    }

    pub(super) fn sync(
        &mut self,
        now: u64,
        caller: Caller,
        id: &str,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
    ) {
        let refuse = |error| Answer::Synced(Err(error));
        let Some(member) = self.group.members.get_mut(id) else {
            return self.answer(caller, refuse(ResponseError::UnknownMemberId));
        };
        if generation != self.group.generation {
            return self.answer(caller, refuse(ResponseError::IllegalGeneration));
        }
        member.deadline = now + self.session;
        match self.group.state {
            State::Stable => {
                let assignment = member.assignment.clone();
                self.answer(caller, Answer::Synced(Ok(assignment)));
            }
            State::Completing => {
                member.syncing = Some(caller);
                if self.group.leader == id {
                    for (id, assignment) in assignments {
                        if let Some(member) = self.group.members.get_mut(&id) {
                            member.assignment = assignment;
                        }
                    }
                    self.group.state = State::Stable;
                    let ready: Vec<(Caller, Bytes)> = self
                        .group
                        .members
                        .values_mut()
                        .filter_map(|member| Some((member.syncing.take()?, member.assignment.clone())))
                        .collect();
                    for (caller, assignment) in ready {
                        self.answer(caller, Answer::Synced(Ok(assignment)));
                    }
                    for member in self.group.members.values_mut() {
                        member.deadline = now + self.session;
                    }
                    self.stored = self.group.clone();
                }
            }
            State::Preparing => self.answer(caller, refuse(ResponseError::RebalanceInProgress)),
            State::Empty => self.answer(caller, refuse(ResponseError::UnknownMemberId)),
        }
    }

    pub(super) fn heartbeat(&mut self, now: u64, caller: Caller, id: &str, generation: i32) {
        let answer = match self.group.members.get_mut(id) {
            None => Err(ResponseError::UnknownMemberId),
            Some(_) if generation != self.group.generation => Err(ResponseError::IllegalGeneration),
            Some(member) => {
                member.deadline = now + self.session;
                match self.group.state {
                    State::Preparing => Err(ResponseError::RebalanceInProgress),
                    _ => Ok(()),
                }
            }
        };
        self.answer(caller, Answer::Heartbeat(answer));
    }

    pub(super) fn leave(&mut self, now: u64, id: &str) {
        // Who has asked for an id and leaves before it has joined makes a rebalance, too.
        if self.pending.remove(id).is_some() || self.group.members.contains_key(id) {
            self.remove(now, &[id.to_owned()]);
        }
    }

    fn remove(&mut self, now: u64, ids: &[String]) {
        for id in ids {
            self.group.members.remove(id);
        }
        match self.group.state {
            State::Stable | State::Completing => self.prepare(now),
            State::Preparing => self.maybe_complete(now),
            State::Empty => {}
        }
    }

    /// Sessions, and the times for joining and syncing.
    pub(super) fn tick(&mut self, now: u64) {
        self.pending.retain(|_, deadline| now < *deadline);
        let expired = |member: &Member| now >= member.deadline && member.joining.is_none() && member.syncing.is_none();
        let mut late: Vec<String> =
            self.group.members.iter().filter(|(_, member)| expired(member)).map(|(id, _)| id.clone()).collect();
        if self.group.state == State::Completing && now >= self.sync_by {
            let silent = self.group.members.iter().filter(|(_, member)| member.syncing.is_none());
            late.extend(silent.map(|(id, _)| id.clone()));
        }
        if late.is_empty() {
            self.maybe_complete(now);
        } else {
            self.remove(now, &late);
        }
    }

    fn answer(&mut self, caller: Caller, answer: Answer) {
        self.answers.push((caller, answer));
    }
}
