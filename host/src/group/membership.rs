//! The membership as a state machine without I/O: what happened and when goes in, what is to be done comes out.
//!
//! ```text
//!  Idle ─→ Asking ─→ Joining ─→ (Leading) ─→ Syncing ─→ Stable ─→ Asking …      one rebalance
//!   ↑        the herder's snapshot                        └─→ Revoking ─→ Asking …  what moves is stopped first
//!   └── the coordinator is away, or has removed this member
//! ```
//!
//! Rules that everything hangs on:
//! - What a member owns is what it told when it joined, without what that round revokes, with what it gives. A round that
//!   is broken off changes nothing, and the member joins again with what it had.
//! - Heartbeats go on while the member joins; each answer that confirms the membership extends the lease from the moment
//!   the request was sent. When the lease has ended, or the coordinator says that it does not know the member, all is lost:
//!   the member stops everything and joins owning nothing.
//! - An answer to a request that was given up means nothing: requests carry a number.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::assignor::{Assignor, Decision};
use super::protocol::{CONFIG_MISMATCH, MemberAssignment, MemberMetadata, PROTOCOLS};
use super::{Assignment, ClusterSnapshot, GroupAssignment, GroupState};

/// For so long after a rebalance heartbeats are quick: a round that revokes is followed by another one.
const QUICK_TIME: u64 = 1_500 * MILLISECOND;
const QUICK_HEARTBEAT: Duration = Duration::from_millis(50);
/// Until a config mismatch is tried again, and what is still being loaded asked again.
const SHORT_PAUSE: u64 = 100 * MILLISECOND;
/// Until a refusal that a person has to mend is tried again.
const LONG_PAUSE: u64 = 3_000 * MILLISECOND;
/// How long a leaving member waits for the round in which it tells so.
const FAREWELL: u64 = 1_000 * MILLISECOND;
const MILLISECOND: u64 = 1_000_000;

/// Who this member is, and its times.
#[derive(Debug, Clone)]
pub(super) struct MemberSettings {
    pub(super) group: String,
    pub(super) url: String,
    pub(super) labels: Vec<String>,
    pub(super) session: Duration,
    pub(super) heartbeat: Duration,
    /// `scheduled.rebalance.max.delay.ms`, if set.
    pub(super) delay: Option<Duration>,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// The coordinator said so.
    Code(ResponseError),
    /// No answer: connection lost, or timed out.
    Away(String),
}

/// The answer to a join.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct JoinAnswer {
    pub(super) generation: i32,
    pub(super) member_id: String,
    pub(super) leader: String,
    pub(super) protocol: String,
    /// For the leader only: member ids and metadata.
    pub(super) members: Vec<(String, Bytes)>,
}

/// What happened.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// There is a connection to the coordinator.
    CoordinatorFound,
    /// It broke.
    CoordinatorLost(String),
    /// `Action::Join` was answered; with the member id where the coordinator gave one along with a refusal.
    Joined { call: u64, answer: Result<JoinAnswer, (Refusal, String)> },
    /// `Action::Sync` was answered.
    Synced { call: u64, answer: Result<Bytes, Refusal> },
    /// `Action::Heartbeat` was answered.
    Heartbeat { call: u64, answer: Result<(), Refusal> },
    /// `Action::Ask` was answered.
    Snapshot(ClusterSnapshot),
    /// `Action::Revoke` is done.
    Revoked,
    /// The herder wants a rebalance.
    Rejoin(String),
    /// The worker ends.
    Leave,
    /// Time has passed.
    Tick,
}

/// What is to be done. `Join` and `Sync` replace a request of either that is under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    FindCoordinator,
    Join {
        call: u64,
        member_id: String,
        metadata: MemberMetadata,
        reason: String,
    },
    Sync {
        call: u64,
        generation: i32,
        member_id: String,
        protocol: String,
        assignments: Vec<(String, Bytes)>,
    },
    Heartbeat {
        call: u64,
        generation: i32,
        member_id: String,
    },
    /// Leave the group; nothing follows.
    Leave {
        member_id: String,
    },
    /// Ask the herder for its snapshot, after reading the config topic to this offset.
    Ask {
        refresh: Option<i64>,
    },
    Assigned(Box<GroupAssignment>),
    Revoke(Assignment),
    Lost(String),
    /// Extend the lease by a session from this moment on.
    Extend {
        sent: u64,
    },
    EndLease,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Idle { until: u64 },
    Asking,
    Joining { sent: u64 },
    Leading { members: BTreeMap<String, MemberMetadata> },
    Syncing { sent: u64 },
    Stable,
    Revoking,
    Leaving,
}

/// One member.
#[derive(Debug)]
pub(super) struct Membership {
    settings: MemberSettings,
    phase: Phase,
    coordinator: bool,
    member_id: String,
    generation: i32,
    protocol: String,
    owned: Assignment,
    /// The generation of the last assignment that was followed under this member id.
    followed: i32,
    /// Whether the herder has an assignment that was not taken back.
    active: bool,
    lease_until: u64,
    call: u64,
    /// Heartbeats so far, to number them.
    beats: u64,
    /// The one under way, and when it was sent.
    heartbeat_call: Option<(u64, u64)>,
    heartbeat_due: u64,
    quick_until: u64,
    rejoin: Option<String>,
    refresh: Option<i64>,
    snapshot_offset: i64,
    leader: bool,
    leader_url: Option<String>,
    assignor: Assignor,
    led: Option<Led>,
    leaving: bool,
    leave_by: u64,
    problem: Option<String>,
    warned: bool,
    out: Vec<Action>,
}

/// What the leader knows of the group.
#[derive(Debug, Default)]
struct Led {
    decision: Decision,
    urls: BTreeMap<String, String>,
    /// When the group has to be assigned anew, because a lost worker was waited for long enough.
    again_at: Option<u64>,
}

impl Membership {
    pub(super) fn new(settings: MemberSettings) -> Self {
        Self {
            assignor: Assignor::new(settings.delay),
            settings,
            phase: Phase::Idle { until: 0 },
            coordinator: false,
            member_id: String::new(),
            generation: -1,
            protocol: String::new(),
            owned: Assignment::default(),
            followed: -1,
            active: false,
            lease_until: 0,
            call: 0,
            beats: 0,
            heartbeat_call: None,
            heartbeat_due: 0,
            quick_until: 0,
            rejoin: None,
            refresh: None,
            snapshot_offset: -1,
            leader: false,
            leader_url: None,
            led: None,
            leaving: false,
            leave_by: u64::MAX,
            problem: None,
            warned: false,
            out: vec![Action::FindCoordinator],
        }
    }

    /// What follows from `input` at `now`, in nanoseconds of a clock that never goes back.
    pub(super) fn handle(&mut self, now: u64, input: Input) -> Vec<Action> {
        // Before anything else: an answer that comes too late saves nothing.
        if self.active && now >= self.lease_until && !self.leaving {
            self.lose(now, "the group's coordinator has not answered for the session time-out");
        }
        match input {
            Input::CoordinatorFound => {
                self.coordinator = true;
                self.heartbeat_due = now;
            }
            Input::CoordinatorLost(reason) => self.coordinator_lost(now, &reason),
            Input::Joined { call, answer } if call == self.call => self.joined(now, answer),
            Input::Synced { call, answer } if call == self.call => self.synced(now, answer),
            Input::Heartbeat { call, answer } => self.heartbeat_answered(now, call, answer),
            Input::Snapshot(snapshot) => self.snapshot(now, snapshot),
            Input::Revoked if self.phase == Phase::Revoking => {
                self.phase = Phase::Stable;
                self.rejoin = Some("what was revoked is stopped".to_owned());
            }
            Input::Rejoin(reason) => self.rejoin = Some(reason),
            Input::Leave => self.leave(now),
            Input::Joined { .. } | Input::Synced { .. } | Input::Revoked | Input::Tick => {}
        }
        self.advance(now);
        std::mem::take(&mut self.out)
    }

    /// When the machine wants an [`Input::Tick`] at the latest.
    pub(super) fn wake_at(&self) -> u64 {
        let mut at = u64::MAX;
        if self.active && !self.leaving {
            at = at.min(self.lease_until);
        }
        match self.phase {
            Phase::Idle { until } if self.coordinator => at = at.min(until),
            Phase::Joining { sent } | Phase::Syncing { sent } => at = at.min(sent + nanos(self.settings.session)),
            _ => {}
        }
        if self.heartbeats() && self.heartbeat_call.is_none() {
            at = at.min(self.heartbeat_due);
        }
        if let Some(again) = self.led.as_ref().and_then(|led| led.again_at) {
            at = at.min(again);
        }
        if self.leaving && self.phase != Phase::Leaving {
            at = at.min(self.leave_by);
        }
        at
    }

    /// For REST and `/health`.
    pub(super) fn state(&self) -> GroupState {
        GroupState {
            member_id: Some(self.member_id.clone()).filter(|id| !id.is_empty() && self.active),
            generation: if self.active { self.generation } else { -1 },
            rebalancing: !matches!(self.phase, Phase::Stable | Phase::Leaving) || self.rejoin.is_some(),
            leader_url: self.leader_url.clone(),
            leader: self.leader && self.active,
            coordinator: None,
            problem: self.problem.clone(),
            workers: self.led.as_ref().map(|led| led.urls.values().cloned().collect()).unwrap_or_default(),
        }
    }

    /// On the leader: URLs by what they own.
    pub(super) fn owners(&self) -> BTreeMap<(String, Option<u32>), String> {
        let Some(led) = &self.led else { return BTreeMap::new() };
        let url = |id: &String| led.urls.get(id).cloned().unwrap_or_default();
        led.decision.owners.iter().map(|(resource, id)| (resource.clone(), url(id))).collect()
    }

    fn heartbeats(&self) -> bool {
        self.coordinator && self.generation >= 0 && !self.member_id.is_empty() && self.phase != Phase::Leaving
    }

    fn next_call(&mut self) -> u64 {
        self.call += 1;
        self.call
    }

    /// What is due.
    fn advance(&mut self, now: u64) {
        if self.phase == Phase::Leaving {
            return;
        }
        if self.leaving && (now >= self.leave_by || !self.coordinator) {
            return self.farewell();
        }
        if let Phase::Joining { sent } | Phase::Syncing { sent } = self.phase
            && now >= sent + nanos(self.settings.session)
        {
            // The answer may have gone to an older request of this member that arrived late. Asking again disturbs nobody:
            // what is said is the same.
            self.call += 1;
            self.phase = Phase::Idle { until: now };
        }
        if self.heartbeats() && self.heartbeat_call.is_none() && now >= self.heartbeat_due {
            let call = self.next_heartbeat(now);
            self.out.push(Action::Heartbeat { call, generation: self.generation, member_id: self.member_id.clone() });
        }
        if let Some(led) = &mut self.led
            && led.again_at.is_some_and(|at| now >= at)
        {
            led.again_at = None;
            self.rejoin = Some("a lost worker did not come back".to_owned());
        }
        let wants = match self.phase {
            Phase::Idle { until } => self.coordinator && now >= until,
            Phase::Stable => self.coordinator && self.rejoin.is_some(),
            _ => false,
        };
        if wants {
            self.phase = Phase::Asking;
            self.out.push(Action::Ask { refresh: self.refresh.take() });
        }
    }

    fn next_heartbeat(&mut self, now: u64) -> u64 {
        let quick = now < self.quick_until;
        let interval = if quick { self.settings.heartbeat.min(QUICK_HEARTBEAT) } else { self.settings.heartbeat };
        self.heartbeat_due = now + nanos(interval);
        self.beats += 1;
        self.heartbeat_call = Some((self.beats, now));
        self.beats
    }

    fn snapshot(&mut self, now: u64, snapshot: ClusterSnapshot) {
        self.snapshot_offset = snapshot.config_offset;
        match std::mem::replace(&mut self.phase, Phase::Idle { until: now }) {
            Phase::Asking if self.coordinator => {
                let reason = self.rejoin.take().unwrap_or_else(|| "joining".to_owned());
                let metadata = MemberMetadata {
                    url: self.settings.url.clone(),
                    config_offset: snapshot.config_offset,
                    owned: self.owned.clone(),
                    followed: self.followed,
                    labels: self.settings.labels.clone(),
                    leaving: self.leaving,
                    ours: true,
                };
                let call = self.next_call();
                self.phase = Phase::Joining { sent: now };
                self.out.push(Action::Join { call, member_id: self.member_id.clone(), metadata, reason });
            }
            Phase::Asking => {}
            Phase::Leading { members } => self.lead(now, members, &snapshot),
            other => self.phase = other,
        }
    }

    fn joined(&mut self, now: u64, answer: Result<JoinAnswer, (Refusal, String)>) {
        if !matches!(self.phase, Phase::Joining { .. }) {
            return;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err((Refusal::Code(ResponseError::MemberIdRequired), member_id)) if !member_id.is_empty() => {
                self.member_id = member_id;
                self.phase = Phase::Idle { until: now };
                return;
            }
            Err((refusal, _)) => return self.refused(now, refusal, "joining the group"),
        };
        self.member_id = answer.member_id;
        self.generation = answer.generation;
        self.protocol = answer.protocol;
        self.leader = answer.leader == self.member_id;
        if !self.leader {
            self.assignor.forget();
            self.led = None;
            return self.sync(now, Vec::new());
        }
        let mut members = BTreeMap::new();
        for (id, metadata) in answer.members {
            match MemberMetadata::decode(&metadata) {
                Ok(metadata) => {
                    members.insert(id, metadata);
                }
                Err(error) => {
                    // Left out, so that it gets nothing; the others go on.
                    tracing::error!(group = self.settings.group, member = id, "{error}");
                    self.problem = Some(format!("member {id}: {error}"));
                }
            }
        }
        if let Some((id, member)) = members.iter().find(|(_, member)| !member.ours)
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!(
                group = self.settings.group,
                member = id,
                url = member.url,
                "a member of the group is a worker of another program; give these workers a group.id of their own"
            );
        }
        let latest = members.values().map(|member| member.config_offset).max().unwrap_or(-1);
        let refresh = (latest > self.snapshot_offset).then_some(latest);
        self.phase = Phase::Leading { members };
        self.out.push(Action::Ask { refresh });
    }

    fn lead(&mut self, now: u64, members: BTreeMap<String, MemberMetadata>, snapshot: &ClusterSnapshot) {
        let version = PROTOCOLS.iter().find(|(name, _)| *name == self.protocol).map_or(1, |(_, version)| *version);
        let latest = members.values().map(|member| member.config_offset).max().unwrap_or(-1);
        let mut common = MemberAssignment {
            leader: self.member_id.clone(),
            leader_url: self.settings.url.clone(),
            config_offset: latest.max(snapshot.config_offset),
            ..MemberAssignment::default()
        };
        let mut decision = if snapshot.config_offset < latest {
            common.error = CONFIG_MISMATCH;
            Decision::default()
        } else {
            self.assignor.assign(now, self.generation, &members, snapshot)
        };
        let delay = decision.held_until.map_or(0, |until| until.saturating_sub(now));
        common.delay_ms = i32::try_from(delay.div_ceil(MILLISECOND)).unwrap_or(i32::MAX);
        let mut assignments = Vec::new();
        for id in members.keys() {
            let part = decision.members.remove(id).unwrap_or_default();
            let assignment = MemberAssignment { assigned: part.assigned, revoked: part.revoked, ..common.clone() };
            assignments.push((id.clone(), assignment.encode(version)));
        }
        let urls = members.into_iter().map(|(id, member)| (id, member.url)).collect();
        let again_at = if decision.unsettled { Some(now) } else { decision.held_until };
        self.led = Some(Led { decision, urls, again_at });
        self.sync(now, assignments);
    }

    fn sync(&mut self, now: u64, assignments: Vec<(String, Bytes)>) {
        let call = self.next_call();
        self.phase = Phase::Syncing { sent: now };
        self.out.push(Action::Sync {
            call,
            generation: self.generation,
            member_id: self.member_id.clone(),
            protocol: self.protocol.clone(),
            assignments,
        });
    }

    fn synced(&mut self, now: u64, answer: Result<Bytes, Refusal>) {
        let Phase::Syncing { sent } = self.phase else { return };
        let answer = match answer {
            Ok(bytes) => MemberAssignment::decode(&bytes),
            Err(refusal) => return self.refused(now, refusal, "getting the assignment"),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(group = self.settings.group, "{error}");
                self.problem = Some(error.to_string());
                self.phase = Phase::Idle { until: now + LONG_PAUSE };
                return;
            }
        };
        self.extend(sent);
        self.quick_until = now + QUICK_TIME;
        self.heartbeat_due = now + nanos(self.settings.heartbeat.min(QUICK_HEARTBEAT));
        if self.leaving {
            return self.farewell();
        }
        if answer.error == CONFIG_MISMATCH {
            self.refresh = Some(answer.config_offset);
            self.phase = Phase::Idle { until: now + SHORT_PAUSE };
            return;
        }
        self.problem = None;
        self.leader_url = Some(answer.leader_url.clone());
        let mut revoking = answer.revoked;
        revoking.connectors.retain(|connector| self.owned.connectors.contains(connector));
        revoking.tasks.retain(|task| self.owned.tasks.contains(task));
        let mut added = answer.assigned;
        added.remove(&self.owned);
        self.owned.remove(&revoking);
        self.owned.add(&added);
        self.followed = self.generation;
        self.active = true;
        self.phase = if revoking.is_empty() { Phase::Stable } else { Phase::Revoking };
        self.out.push(Action::Assigned(Box::new(GroupAssignment {
            generation: self.generation,
            member_id: self.member_id.clone(),
            leader: self.leader,
            leader_id: answer.leader,
            leader_url: answer.leader_url,
            config_offset: answer.config_offset,
            owned: self.owned.clone(),
            added,
            revoking: revoking.clone(),
            delay: Duration::from_millis(u64::try_from(answer.delay_ms).unwrap_or(0)),
            unplaced: self.led.as_ref().map(|led| led.decision.unplaced.clone()).unwrap_or_default(),
        })));
        if !revoking.is_empty() {
            self.out.push(Action::Revoke(revoking));
        }
    }

    fn heartbeat_answered(&mut self, now: u64, call: u64, answer: Result<(), Refusal>) {
        let Some((_, sent)) = self.heartbeat_call.take_if(|(current, _)| *current == call) else { return };
        match answer {
            Ok(()) => self.extend(sent),
            Err(Refusal::Code(ResponseError::RebalanceInProgress)) => {
                self.extend(sent);
                if self.phase == Phase::Stable && self.rejoin.is_none() {
                    self.rejoin = Some("the group rebalances".to_owned());
                }
            }
            // A join that is answered while the heartbeat was under way makes a new generation.
            Err(Refusal::Code(ResponseError::IllegalGeneration)) => {
                if self.phase == Phase::Stable && self.rejoin.is_none() {
                    self.rejoin = Some("the group is in a newer generation".to_owned());
                }
            }
            Err(Refusal::Code(ResponseError::CoordinatorLoadInProgress)) => {}
            Err(refusal) => self.refused(now, refusal, "telling that this worker lives"),
        }
    }

    /// The membership was confirmed by the answer to a request that was sent then.
    fn extend(&mut self, sent: u64) {
        self.lease_until = self.lease_until.max(sent + nanos(self.settings.session));
        self.out.push(Action::Extend { sent });
    }

    fn refused(&mut self, now: u64, refusal: Refusal, doing: &str) {
        let code = match refusal {
            Refusal::Away(reason) => return self.coordinator_lost(now, &reason),
            Refusal::Code(code) => code,
        };
        let joining = matches!(self.phase, Phase::Joining { .. } | Phase::Syncing { .. });
        let pause = |machine: &mut Self, until: u64| {
            if joining {
                machine.phase = Phase::Idle { until };
            }
        };
        match code {
            ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable => {
                self.coordinator_lost(now, &format!("{code:?}"));
            }
            ResponseError::CoordinatorLoadInProgress => pause(self, now + SHORT_PAUSE),
            ResponseError::RebalanceInProgress | ResponseError::IllegalGeneration => pause(self, now),
            ResponseError::UnknownMemberId | ResponseError::FencedInstanceId => {
                self.member_id = String::new();
                self.followed = -1;
                let reason = format!("the group's coordinator has removed this worker ({code:?} when {doing})");
                if self.active {
                    self.lose(now, &reason);
                } else {
                    self.generation = -1;
                    self.phase = Phase::Idle { until: now };
                }
            }
            code => {
                let advice = advice(code);
                let problem = format!("group {}: {doing} was refused: {code}{advice}", self.settings.group);
                if self.problem.as_ref() != Some(&problem) {
                    tracing::error!("{problem}");
                }
                self.problem = Some(problem);
                pause(self, now + LONG_PAUSE);
            }
        }
    }

    fn coordinator_lost(&mut self, now: u64, reason: &str) {
        if !std::mem::replace(&mut self.coordinator, false) {
            return;
        }
        tracing::info!(group = self.settings.group, "the group's coordinator is away: {reason}; looking for it");
        self.heartbeat_call = None;
        if matches!(self.phase, Phase::Joining { .. } | Phase::Leading { .. } | Phase::Syncing { .. }) {
            self.call += 1;
            self.phase = Phase::Idle { until: now };
        }
        self.out.push(Action::FindCoordinator);
    }

    /// This worker is not in the group any more.
    fn lose(&mut self, now: u64, reason: &str) {
        self.owned = Assignment::default();
        self.active = false;
        self.generation = -1;
        self.leader = false;
        self.led = None;
        self.leader_url = None;
        self.assignor.forget();
        self.lease_until = 0;
        self.call += 1;
        self.phase = Phase::Idle { until: now };
        self.problem = Some(reason.to_owned());
        self.out.push(Action::EndLease);
        self.out.push(Action::Lost(reason.to_owned()));
    }

    fn leave(&mut self, now: u64) {
        if self.leaving || self.phase == Phase::Leaving {
            return;
        }
        self.leaving = true;
        self.owned = Assignment::default();
        self.leave_by = now + FAREWELL;
        // Who leaves the leadership leaves its memory too, and who was to be waited for with it.
        if self.phase != Phase::Stable || self.leader || !self.coordinator {
            return self.farewell();
        }
        self.rejoin = Some("leaving".to_owned());
    }

    fn farewell(&mut self) {
        if self.phase != Phase::Leaving {
            self.call += 1;
            self.phase = Phase::Leaving;
            self.out.push(Action::Leave { member_id: self.member_id.clone() });
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// What a person can do about a refusal.
fn advice(code: ResponseError) -> &'static str {
    match code {
        ResponseError::GroupAuthorizationFailed => "; allow the worker's principal READ on the group of group.id",
        ResponseError::InvalidSessionTimeout => {
            "; session.timeout.ms has to lie between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms"
        }
        ResponseError::InconsistentGroupProtocol => {
            "; the group of group.id belongs to another kind of program: choose another group.id"
        }
        ResponseError::GroupMaxSizeReached => "; the brokers' group.max.size is reached",
        ResponseError::InvalidGroupId => "; choose another group.id",
        _ => "",
    }
}
