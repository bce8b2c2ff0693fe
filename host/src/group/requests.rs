//! What the member asks the coordinator, as Kafka's messages.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{GroupId, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;

use super::membership::{Action, Input, JoinAnswer, Refusal};
use super::protocol::{PROTOCOL_TYPE, PROTOCOLS};
use super::wire::{Connection, WireError, WireErrorKind, leave_request};

/// Of the group, for every request.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    pub(super) group: String,
    pub(super) session: Duration,
    pub(super) rebalance: Duration,
    /// For requests that are answered at once.
    pub(super) timeout: Duration,
}

impl Requests {
    /// Does the request of an action; `None` where the action is none.
    pub(super) async fn run(&self, connection: &mut Connection, action: Action) -> Option<Input> {
        match action {
            Action::Join { call, member_id, metadata, reason } => {
                let protocols = PROTOCOLS.map(|(name, version)| {
                    JoinGroupRequestProtocol::default()
                        .with_name(StrBytes::from_static_str(name))
                        .with_metadata(metadata.encode(version))
                });
                let request = |version| {
                    let request = JoinGroupRequest::default()
                        .with_group_id(self.group())
                        .with_session_timeout_ms(millis(self.session))
                        .with_rebalance_timeout_ms(millis(self.rebalance))
                        .with_member_id(member_id.into())
                        .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
                        .with_protocols(protocols.into());
                    if version >= 8 { request.with_reason(Some(reason.into())) } else { request }
                };
                Some(Input::Joined { call, answer: self.join(connection, request).await })
            }
            Action::Sync { call, generation, member_id, protocol, assignments } => {
                let assignments = assignments.into_iter().map(|(id, assignment)| {
                    SyncGroupRequestAssignment::default().with_member_id(id.into()).with_assignment(assignment)
                });
                let assignments = assignments.collect();
                let request = |version| {
                    let request = SyncGroupRequest::default()
                        .with_group_id(self.group())
                        .with_generation_id(generation)
                        .with_member_id(member_id.into())
                        .with_assignments(assignments);
                    if version < 5 {
                        return request;
                    }
                    request
                        .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
                        .with_protocol_name(Some(protocol.into()))
                };
                let answer = match connection.call(self.rebalance_answer(), request).await {
                    Ok(answer) => code(answer.error_code).map(|()| answer.assignment),
                    Err(error) => Err(refusal(error)),
                };
                Some(Input::Synced { call, answer })
            }
            Action::Heartbeat { call, generation, member_id } => {
                let request = |_| {
                    HeartbeatRequest::default()
                        .with_group_id(self.group())
                        .with_generation_id(generation)
                        .with_member_id(member_id.into())
                };
                let answer = match connection.call(self.timeout.min(self.session / 3), request).await {
                    Ok(answer) => code(answer.error_code),
                    Err(error) => Err(refusal(error)),
                };
                Some(Input::Heartbeat { call, answer })
            }
            _ => None,
        }
    }

    async fn join(
        &self,
        connection: &mut Connection,
        request: impl FnOnce(i16) -> JoinGroupRequest,
    ) -> Result<JoinAnswer, (Refusal, String)> {
        let answer =
            connection.call(self.rebalance_answer(), request).await.map_err(|error| (refusal(error), String::new()))?;
        code(answer.error_code).map_err(|refusal| (refusal, answer.member_id.to_string()))?;
        Ok(JoinAnswer {
            generation: answer.generation_id,
            member_id: answer.member_id.to_string(),
            leader: answer.leader.to_string(),
            protocol: answer.protocol_name.map(|name| name.to_string()).unwrap_or_default(),
            members: answer.members.into_iter().map(|member| (member.member_id.to_string(), member.metadata)).collect(),
        })
    }

    /// Leaves the group.
    pub(super) async fn leave(
        &self,
        connection: &mut Connection,
        member_id: &str,
        reason: &'static str,
    ) -> Result<(), WireError> {
        let request = |version| {
            let member = MemberIdentity::default().with_member_id(member_id.to_owned().into());
            let member =
                if version >= 5 { member.with_reason(Some(StrBytes::from_static_str(reason))) } else { member };
            leave_request(&self.group, vec![member], version)
        };
        connection.call(self.timeout, request).await.map(drop)
    }

    fn group(&self) -> GroupId {
        GroupId(self.group.clone().into())
    }

    /// The coordinator answers when all members have joined, or their time is over.
    fn rebalance_answer(&self) -> Duration {
        self.rebalance + Duration::from_secs(5)
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn code(code: i16) -> Result<(), Refusal> {
    ResponseError::try_from_code(code).map_or(Ok(()), |code| Err(Refusal::Code(code)))
}

fn refusal(error: WireError) -> Refusal {
    match error.kind {
        WireErrorKind::Code(code) => Refusal::Code(code),
        _ => Refusal::Away(error.message),
    }
}
