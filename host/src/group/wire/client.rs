//! The cluster: which broker to talk to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest,
    LeaveGroupRequest, MetadataRequest, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use rand::Rng;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Connection, WireError, WireErrorKind, WireSettings};
use crate::log::{AssignedMember, TopicPartition};

/// What a coordinator is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoordinatorKind {
    /// A group, by `group.id`.
    Group,
    /// A transactional producer, by `transactional.id`.
    Transaction,
}

/// What fencing a transactional id gives: the identity that every earlier producer of it has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ProducerIdentity {
    pub producer_id: i64,
    pub epoch: i16,
}

/// A Kafka cluster. Clones share what is known of it.
#[derive(Debug, Clone)]
pub struct Cluster {
    settings: Arc<WireSettings>,
    /// `host:port` of all brokers, once one has told.
    known: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// The cluster of these settings. Nothing is connected yet.
    pub fn new(settings: WireSettings) -> Self {
        Self { settings: Arc::new(settings), known: Arc::default() }
    }

    /// The settings.
    pub fn settings(&self) -> &WireSettings {
        &self.settings
    }

    /// A connection to this broker.
    pub async fn connect(&self, server: &str) -> Result<Connection, WireError> {
        Connection::open(&self.settings, server).await
    }

    /// A connection to any broker: those that the cluster has told of first, then `bootstrap.servers`.
    pub async fn any(&self) -> Result<Connection, WireError> {
        let mut servers = self.known.lock().await.clone();
        // Not always the same one, so that a broker that accepts and does not answer is passed by at the next try.
        if !servers.is_empty() {
            let first = rand::rng().random_range(0..servers.len());
            servers.rotate_left(first);
        }
        servers.extend(self.settings.bootstrap.iter().cloned());
        let mut failed: Option<WireError> = None;
        for server in &servers {
            match self.connect(server).await {
                Ok(mut connection) => match self.learn(&mut connection).await {
                    Ok(()) => return Ok(connection),
                    Err(error) => failed = Some(error),
                },
                // What a person has to mend says more than that another broker is away.
                Err(error) if failed.as_ref().is_none_or(WireError::retriable) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| WireError::away("bootstrap.servers names no broker")))
    }

    /// Asks for the brokers of the cluster.
    async fn learn(&self, connection: &mut Connection) -> Result<(), WireError> {
        let timeout = self.settings.request_timeout;
        let answer = connection.call(timeout, |_| MetadataRequest::default().with_topics(Some(Vec::new()))).await?;
        let brokers = answer.brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port)).collect();
        *self.known.lock().await = brokers;
        Ok(())
    }

    /// `host:port` of a coordinator.
    pub async fn coordinator(&self, kind: CoordinatorKind, key: &str) -> Result<String, WireError> {
        let mut connection = self.any().await?;
        let request = |_| {
            FindCoordinatorRequest::default()
                .with_key(StrBytes::from_string(key.to_owned()))
                .with_key_type(if kind == CoordinatorKind::Group { 0 } else { 1 })
        };
        let answer = connection.call(self.settings.request_timeout, request).await?;
        check(answer.error_code, || format!("broker {}: the coordinator of {key} is not known", connection.server()))?;
        Ok(format!("{}:{}", answer.host, answer.port))
    }

    /// A connection to a coordinator; tried again until `timeout` while none is there.
    pub async fn to_coordinator(
        &self,
        kind: CoordinatorKind,
        key: &str,
        timeout: Duration,
    ) -> Result<Connection, WireError> {
        let deadline = Instant::now() + timeout;
        let mut pause = self.settings.backoff;
        let mut last = None;
        loop {
            let attempt = async {
                let server = self.coordinator(kind, key).await?;
                self.connect(&server).await
            };
            let error = match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                // Why the last try failed says more than that the time is over.
                Err(_) => last.take().unwrap_or_else(|| {
                    WireError::new(WireErrorKind::TimedOut, format!("no coordinator of {key} was found in time"))
                }),
            };
            if !error.retriable() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            last = Some(error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.settings.backoff_max);
        }
    }

    /// Takes members out of a group: static ones by `group.instance.id`. Fine where they are not in.
    pub async fn remove_static_members(
        &self,
        group: &str,
        instance_ids: &[String],
        timeout: Duration,
    ) -> Result<(), WireError> {
        let member =
            |id: &String| MemberIdentity::default().with_group_instance_id(Some(StrBytes::from_string(id.clone())));
        self.leave(group, instance_ids.iter().map(member).collect(), timeout).await
    }

    /// Takes a static member out of a group as long as it is still this one: `FENCED_INSTANCE_ID` where another has its
    /// `group.instance.id` by now. Fine where it is not in.
    pub async fn remove_static_member(
        &self,
        group: &str,
        member_id: &str,
        instance_id: &str,
        timeout: Duration,
    ) -> Result<(), WireError> {
        let member = MemberIdentity::default()
            .with_member_id(StrBytes::from_string(member_id.to_owned()))
            .with_group_instance_id(Some(StrBytes::from_string(instance_id.to_owned())));
        self.leave(group, vec![member], timeout).await
    }

    /// Takes a member out of a group by its member id. Fine where it is not in.
    pub async fn remove_member(&self, group: &str, member_id: &str, timeout: Duration) -> Result<(), WireError> {
        let member = MemberIdentity::default().with_member_id(StrBytes::from_string(member_id.to_owned()));
        self.leave(group, vec![member], timeout).await
    }

    async fn leave(&self, group: &str, members: Vec<MemberIdentity>, timeout: Duration) -> Result<(), WireError> {
        let members = &members;
        let left = |deadline: Instant| async move {
            let rest = || deadline.saturating_duration_since(Instant::now());
            let mut connection = self.to_coordinator(CoordinatorKind::Group, group, rest()).await?;
            let answer = connection.call(rest(), |version| leave_request(group, members.clone(), version)).await?;
            let codes = answer.members.iter().map(|member| member.error_code).chain([answer.error_code]);
            let mut refused = codes.filter_map(ResponseError::try_from_code);
            match refused.find(|code| *code != ResponseError::UnknownMemberId) {
                Some(code) => Err(refusal(code, format!("taking members out of group {group}"))),
                None => Ok(()),
            }
        };
        self.again(timeout, left).await
    }

    /// Who reads which partitions in a consumer group. `None` while it rebalances, or where its members are not consumers of the classic
    /// protocol.
    pub async fn assigned_members(
        &self,
        group: &str,
        timeout: Duration,
    ) -> Result<Option<Vec<AssignedMember>>, WireError> {
        let described = |deadline: Instant| async move {
            let rest = || deadline.saturating_duration_since(Instant::now());
            let mut connection = self.to_coordinator(CoordinatorKind::Group, group, rest()).await?;
            let id = GroupId(StrBytes::from_string(group.to_owned()));
            let answer = connection.call(rest(), |_| DescribeGroupsRequest::default().with_groups(vec![id])).await?;
            let described = answer.groups.into_iter().next().unwrap_or_default();
            let settled = described.group_state.as_str() == "Stable" && described.protocol_type.as_str() == "consumer";
            match ResponseError::try_from_code(described.error_code) {
                // There is no such group, or it is of the newer protocol.
                Some(ResponseError::GroupIdNotFound) => return Ok(None),
                Some(code) => return Err(refusal(code, format!("describing group {group}"))),
                None if !settled => return Ok(None),
                None => {}
            }
            described.members.into_iter().map(assigned_member).collect::<Result<Vec<_>, _>>().map(Some)
        };
        self.again(timeout, described).await
    }

    /// Tries something until it is done, fails for good, or the time is over: a coordinator that has just been elected
    /// still loads, or does not know of it yet.
    async fn again<T, F: Future<Output = Result<T, WireError>>>(
        &self,
        timeout: Duration,
        attempt: impl Fn(Instant) -> F,
    ) -> Result<T, WireError> {
        let deadline = Instant::now() + timeout;
        let mut pause = self.settings.backoff;
        loop {
            match attempt(deadline).await {
                Err(error) if error.retriable() && Instant::now() + pause < deadline => {}
                outcome => return outcome,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.settings.backoff_max);
        }
    }

    /// Fences a transactional id: its transactions under way are aborted, and every producer that had it is refused from
    /// now on. Tried again until `timeout` while an abort is under way.
    pub async fn fence_producer(
        &self,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<ProducerIdentity, WireError> {
        let fence = |deadline: Instant| async move {
            let rest = || deadline.saturating_duration_since(Instant::now());
            let mut connection = self.to_coordinator(CoordinatorKind::Transaction, transactional_id, rest()).await?;
            let request = |_| {
                InitProducerIdRequest::default()
                    .with_transactional_id(Some(TransactionalId(StrBytes::from_string(transactional_id.to_owned()))))
                    .with_transaction_timeout_ms(60_000)
                    .with_producer_id((-1).into())
                    .with_producer_epoch(-1)
            };
            let answer = connection.call(rest(), request).await?;
            check(answer.error_code, || format!("fencing the transactional id {transactional_id}"))?;
            Ok(ProducerIdentity { producer_id: answer.producer_id.0, epoch: answer.producer_epoch })
        };
        self.again(timeout, fence).await
    }
}

fn assigned_member(member: DescribedGroupMember) -> Result<AssignedMember, WireError> {
    let mut bytes = member.member_assignment;
    let assigned = match bytes.is_empty() {
        true => ConsumerProtocolAssignment::default(),
        false => {
            let unknown =
                |_| WireError::new(WireErrorKind::Protocol, "an assignment of a group's member cannot be read");
            // All versions begin with what the first one has.
            _ = bytes.try_get_i16();
            ConsumerProtocolAssignment::decode(&mut bytes, 0).map_err(unknown)?
        }
    };
    let partitions = assigned.assigned_partitions.into_iter().flat_map(|topic| {
        let name: Arc<str> = topic.topic.0.as_str().into();
        topic.partitions.into_iter().map(move |partition| TopicPartition { topic: name.clone(), partition })
    });
    Ok(AssignedMember {
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        partitions: partitions.collect(),
    })
}

/// Versions before 3 carry one member in a field of its own.
pub(in crate::group) fn leave_request(group: &str, members: Vec<MemberIdentity>, version: i16) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(GroupId(StrBytes::from_string(group.to_owned())));
    if version >= 3 {
        return request.with_members(members);
    }
    let first = members.into_iter().next().unwrap_or_default();
    request.with_member_id(first.member_id)
}

fn check(code: i16, what: impl FnOnce() -> String) -> Result<(), WireError> {
    ResponseError::try_from_code(code).map_or(Ok(()), |code| Err(refusal(code, what())))
}

fn refusal(code: ResponseError, what: String) -> WireError {
    WireError::new(WireErrorKind::Code(code), format!("{what}: {code}"))
}
