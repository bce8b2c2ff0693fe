//! What a member asks the coordinator of its group, as Kafka's messages.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;

use super::MemberSettings;
use super::assignor::{Assigned, Subscriber};
use super::protocol::{self, PROTOCOL, PROTOCOL_TYPE};
use super::shared::Identity;
use crate::group::wire::{Cluster, Connection, CoordinatorKind, WireError, WireErrorKind, WireSettings};

/// How long finding and reaching the coordinator may take at a time.
const REACH: Duration = Duration::from_secs(10);
/// How long an answer may take that the coordinator does not hold back.
const ANSWER: Duration = Duration::from_secs(10);

/// The broker's word for a group in which everybody has what it was given.
const STABLE: &str = "Stable";

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The coordinator's word.
    Code(ResponseError),
    /// It could not be asked, or did not answer.
    Away(String),
    /// Settings have to be mended.
    Hopeless(String),
}

/// What joining gives.
pub(super) struct Joined {
    pub(super) identity: Identity,
    /// Whether this member leads.
    pub(super) leads: bool,
    /// What the group has is to stay as it is, although this member leads: it has come back in a former one's place.
    pub(super) keeps: bool,
    /// The same, of a broker that names the former one as the leader (before Kafka 3.2): nobody leads until the group rebalances.
    pub(super) led: bool,
    /// The leader is told who there is.
    pub(super) members: Vec<Subscriber>,
}

/// One group's coordinator, looked for when it is needed.
pub(super) struct Coordinator {
    settings: MemberSettings,
    connection: Option<Connection>,
}

impl Coordinator {
    /// Nothing is connected yet.
    pub(super) fn new(settings: MemberSettings) -> Self {
        Self { settings, connection: None }
    }

    /// Joins, which waits for all other members. The second of an error is the member id to join with next.
    pub(super) async fn join(
        &mut self,
        member: &str,
        topics: &BTreeMap<String, i32>,
    ) -> Result<Joined, (Refusal, Option<String>)> {
        let none = |refusal| (refusal, None);
        let metadata = protocol::subscription(topics.keys()).map_err(|error| none(Refusal::Hopeless(error)))?;
        let offered =
            JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str(PROTOCOL)).with_metadata(metadata);
        let MemberSettings { group, instance, session, rebalance, .. } = &self.settings;
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(group.clone().into()))
            .with_session_timeout_ms(millis(*session))
            .with_rebalance_timeout_ms(millis(*rebalance))
            .with_member_id(member.to_owned().into())
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(vec![offered]);
        let instance = instance.clone().map(StrBytes::from);
        // Brokers before Kafka 2.3 have no static members.
        let request = |version| if version >= 5 { request.with_group_instance_id(instance) } else { request };
        let patience = *rebalance + ANSWER;
        let connection = self.connect().await.map_err(none)?;
        let answer = connection.call(patience, request).await;
        let answer = self.answered(answer).map_err(none)?;
        let id = answer.member_id.to_string();
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let refusal = self.refused(code);
            return Err((refusal, (code == ResponseError::MemberIdRequired).then_some(id)));
        }
        let leads = !answer.members.is_empty() && *answer.leader == *id;
        let keeps = answer.skip_assignment;
        let named = self.settings.instance.as_deref();
        let led = !leads && member.is_empty() && named.is_some_and(|instance| is_of(instance, &answer.leader));
        let subscriber = |member: kafka_protocol::messages::join_group_response::JoinGroupResponseMember| {
            let topics = protocol::subscribed(member.metadata).map_err(|error| {
                Refusal::Hopeless(format!("what member {} wants: {error}", member.member_id.as_str()))
            })?;
            let instance = member.group_instance_id.map(|instance| instance.to_string());
            Ok(Subscriber { id: member.member_id.to_string(), instance, topics })
        };
        let members = answer.members.into_iter().map(subscriber).collect::<Result<_, _>>().map_err(none)?;
        let identity = Identity { member: id, generation: answer.generation_id };
        Ok(Joined { identity, leads, keeps, led, members })
    }

    /// Hands over who is given what, if this member leads; waits for its own part.
    pub(super) async fn sync(
        &mut self,
        identity: &Identity,
        assignments: Vec<(String, Bytes)>,
    ) -> Result<Bytes, Refusal> {
        let given = assignments.into_iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default().with_member_id(member.into()).with_assignment(assignment)
        });
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(self.settings.group.clone().into()))
            .with_generation_id(identity.generation)
            .with_member_id(identity.member.clone().into())
            .with_assignments(given.collect());
        let instance = self.settings.instance.clone().map(StrBytes::from);
        let request = |version| {
            let request = if version >= 3 { request.with_group_instance_id(instance) } else { request };
            if version < 5 {
                return request;
            }
            request
                .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
                .with_protocol_name(Some(StrBytes::from_static_str(PROTOCOL)))
        };
        let patience = self.settings.rebalance + ANSWER;
        let answer = self.connect().await?.call(patience, request).await;
        let answer = self.answered(answer)?;
        self.checked(answer.error_code)?;
        Ok(answer.assignment)
    }

    /// What each member has, while the group is at rest; `None` while it is not.
    pub(super) async fn shares(&mut self) -> Result<Option<BTreeMap<String, Assigned>>, Refusal> {
        let group = GroupId(self.settings.group.clone().into());
        let request = DescribeGroupsRequest::default().with_groups(vec![group]);
        let answer = self.connect().await?.call(ANSWER, |_| request).await;
        let answer = self.answered(answer)?;
        let Some(group) = answer.groups.into_iter().next() else { return Ok(None) };
        self.checked(group.error_code)?;
        if &*group.group_state != STABLE {
            return Ok(None);
        }
        let share = |member: DescribedGroupMember| {
            let assigned = protocol::assigned(member.member_assignment).map_err(Refusal::Hopeless)?;
            Ok((member.member_id.to_string(), assigned))
        };
        group.members.into_iter().map(share).collect::<Result<_, _>>().map(Some)
    }

    /// Says that the member is alive.
    pub(super) async fn beat(&mut self, identity: &Identity) -> Result<(), Refusal> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(self.settings.group.clone().into()))
            .with_generation_id(identity.generation)
            .with_member_id(identity.member.clone().into());
        let instance = self.settings.instance.clone().map(StrBytes::from);
        let request = |version| if version >= 3 { request.with_group_instance_id(instance) } else { request };
        let patience = ANSWER.min(self.settings.session / 3);
        let answer = self.connect().await?.call(patience, request).await;
        let answer = self.answered(answer)?;
        self.checked(answer.error_code)
    }

    /// Leaves, so that others need not wait for the session's end. Whoever has the `group.instance.id` by now stays in.
    pub(super) async fn leave(&self, member: &str, timeout: Duration) -> Result<(), WireError> {
        let cluster = Cluster::new(WireSettings::new(&self.settings.client)?);
        let group = &self.settings.group;
        match &self.settings.instance {
            Some(instance) => cluster.remove_static_member(group, member, instance, timeout).await,
            None => cluster.remove_member(group, member, timeout).await,
        }
    }

    /// What was asked last will not be waited for.
    pub(super) fn drop_connection(&mut self) {
        self.connection = None;
    }

    async fn connect(&mut self) -> Result<&mut Connection, Refusal> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // Read anew, as certificates may have been replaced.
                let settings = WireSettings::new(&self.settings.client).map_err(|error| refusal(&error))?;
                let reached =
                    Cluster::new(settings).to_coordinator(CoordinatorKind::Group, &self.settings.group, REACH).await;
                reached.map_err(|error| refusal(&error))?
            }
        };
        Ok(self.connection.insert(connection))
    }

    fn answered<T>(&mut self, answer: Result<T, WireError>) -> Result<T, Refusal> {
        answer.map_err(|error| {
            self.connection = None;
            refusal(&error)
        })
    }

    fn checked(&mut self, code: i16) -> Result<(), Refusal> {
        ResponseError::try_from_code(code).map_or(Ok(()), |code| Err(self.refused(code)))
    }

    fn refused(&mut self, code: ResponseError) -> Refusal {
        if code.is_retriable() {
            // Another broker may coordinate the group by now.
            self.connection = None;
        }
        Refusal::Code(code)
    }
}

/// Whether the broker has made up this member id for an instance: it appends a UUID.
fn is_of(instance: &str, member: &str) -> bool {
    const UUID: usize = 36;
    member.strip_prefix(instance).and_then(|rest| rest.strip_prefix('-')).is_some_and(|rest| rest.len() == UUID)
}

fn refusal(error: &WireError) -> Refusal {
    match error.kind {
        WireErrorKind::Code(code) => Refusal::Code(code),
        _ if error.retriable() => Refusal::Away(error.message.clone()),
        _ => Refusal::Hopeless(error.message.clone()),
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
