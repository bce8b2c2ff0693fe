//! What the coordinator refuses, a coordinator that goes away, and a membership that is lost.

use kafka_protocol::ResponseError;

use super::{Action, LONG_PAUSE, Membership, Phase, Refusal, SHORT_PAUSE};
use crate::group::Assignment;

impl Membership {
    pub(super) fn refused(&mut self, now: u64, refusal: Refusal, doing: &str) {
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

    pub(super) fn coordinator_lost(&mut self, now: u64, reason: &str) {
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
    pub(super) fn lose(&mut self, now: u64, reason: &str) {
        self.owned = Assignment::default();
        self.active = false;
        self.generation = -1;
        self.leader = false;
        self.led = None;
        self.leader_url = None;
        self.absences.clear();
        self.assignor.forget();
        self.lease_until = 0;
        self.call += 1;
        self.phase = Phase::Idle { until: now };
        self.problem = Some(reason.to_owned());
        self.out.push(Action::EndLease);
        self.out.push(Action::Lost(reason.to_owned()));
    }
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
