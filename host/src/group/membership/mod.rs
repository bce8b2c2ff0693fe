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

mod leading;
mod leaving;
mod messages;
mod refusals;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use self::leading::Led;
pub(super) use self::leaving::RestartTime;
pub(super) use self::messages::{Action, Input, JoinAnswer, MemberSettings, Refusal};
use super::assignor::Assignor;
use super::protocol::{Absence, CONFIG_MISMATCH, MemberAssignment, MemberMetadata};
use super::{Assignment, ClusterSnapshot, GroupAssignment, GroupState, Rebalances};
use crate::worker::TaskId;

/// For so long after a rebalance heartbeats are quick: a round that revokes is followed by another one.
const QUICK_TIME: u64 = 1_500 * MILLISECOND;
const QUICK_HEARTBEAT: Duration = Duration::from_millis(50);
/// Until a config mismatch is tried again, and what is still being loaded asked again.
const SHORT_PAUSE: u64 = 100 * MILLISECOND;
/// Until a refusal that a person has to mend is tried again.
const LONG_PAUSE: u64 = 3_000 * MILLISECOND;
const MILLISECOND: u64 = 1_000_000;

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
    /// Who is absent from the group, as the leader told last, and until when their parts are kept.
    absences: Vec<(Absence, u64)>,
    /// Tasks whose state this member follows, as the leader told last. What it has read is of use also after the membership was lost.
    standbys: BTreeSet<TaskId>,
    /// When the first input came.
    born: Option<u64>,
    /// From then until the first assignment.
    joining: Duration,
    leaving: bool,
    /// The leave was told in a join.
    leave_told: bool,
    leave_by: u64,
    rebalances: Rebalances,
    problem: Option<String>,
    warned: bool,
    out: Vec<Action>,
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
            absences: Vec::new(),
            standbys: BTreeSet::new(),
            born: None,
            joining: Duration::ZERO,
            leaving: false,
            leave_told: false,
            leave_by: u64::MAX,
            rebalances: Rebalances::default(),
            problem: None,
            warned: false,
            out: vec![Action::FindCoordinator],
        }
    }

    /// What follows from `input` at `now`, in nanoseconds of a clock that never goes back.
    pub(super) fn handle(&mut self, now: u64, input: Input) -> Vec<Action> {
        self.born.get_or_insert(now);
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
            protocol: self.protocol.clone(),
            rebalances: self.rebalances.clone(),
            coordinator: None,
            problem: self.problem.clone(),
            workers: self.led.as_ref().map(|led| led.urls.values().cloned().collect()).unwrap_or_default(),
        }
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
        if self.has_to_go(now) {
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
            self.rebalances.begin(now);
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
                    back_within: if self.leaving { self.back_within() } else { Duration::ZERO },
                    absences: self.absences(now),
                    standbys: self.standbys.clone(),
                    ours: true,
                    follows: true,
                };
                self.leave_told = self.leaving;
                let call = self.next_call();
                self.phase = Phase::Joining { sent: now };
                self.out.push(Action::Join { call, member_id: self.member_id.clone(), metadata, reason });
            }
            Phase::Asking => {}
            Phase::Leading { members } => self.lead(now, members, &snapshot),
            other => self.phase = other,
        }
    }

    /// Who is absent, as of now.
    fn absences(&self, now: u64) -> Vec<Absence> {
        let left = |until: u64| Duration::from_nanos(until.saturating_sub(now));
        self.absences.iter().map(|(absence, until)| Absence { wait: left(*until), ..absence.clone() }).collect()
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
        self.lead_with(answer.members);
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
        if self.leave_told {
            return self.leave_is_told(now);
        }
        if self.leaving {
            // The round came between: another one follows.
            self.phase = Phase::Idle { until: now };
            return;
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
        self.rebalances.complete(now);
        if self.joining.is_zero() {
            self.joining = Duration::from_nanos(self.born.map_or(0, |born| now.saturating_sub(born)));
        }
        self.active = true;
        let until = |absence: Absence| {
            let until = now.saturating_add(nanos(absence.wait));
            (absence, until)
        };
        self.absences = answer.absences.into_iter().map(until).collect();
        self.standbys = answer.standbys;
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
            standbys: self.standbys.clone(),
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
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}
