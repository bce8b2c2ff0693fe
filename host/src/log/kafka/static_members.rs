//! Takes static members out of a consumer group, which librdkafka cannot.
//!
//! A sink task carries a `group.instance.id`, so that after a crash it has its partitions back at once instead of after the
//! dead member's session. The price: its client never says good-bye, and a task that is gone for good would hold its
//! partitions until the session ends. This says it: one LeaveGroup request to the group's coordinator.
//!
//! Only over plain connections; where the cluster wants TLS or SASL, sink tasks are ordinary members instead.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, GroupId, LeaveGroupRequest, LeaveGroupResponse,
    RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, encode_request_header_into_buffer};

use super::super::{ClientSettings, LogError};

/// The oldest versions that every supported broker knows and that carry what is needed.
const FIND_COORDINATOR_VERSION: i16 = 1;
const LEAVE_GROUP_VERSION: i16 = 3;
const UNKNOWN_MEMBER_ID: i16 = 25;
/// Larger answers are not ours.
const MAX_ANSWER: usize = 1 << 20;

/// Whether members can be taken out of groups with these client settings.
pub(super) fn possible(settings: &ClientSettings) -> bool {
    settings.get("security.protocol").is_none_or(|protocol| protocol.trim().eq_ignore_ascii_case("PLAINTEXT"))
}

/// Takes members out; fine where they are not in.
pub(super) fn remove(
    settings: &ClientSettings,
    group: &str,
    members: &[String],
    timeout: Duration,
) -> Result<(), LogError> {
    let away = |what: &str, error: &dyn std::fmt::Display| {
        LogError::retriable(format!(
            "taking members out of group {group}: {what}: {error}; they leave when their session ends"
        ))
    };
    let (host, port) =
        coordinator(settings, group, timeout).map_err(|error| away("finding the coordinator", &error))?;
    let mut broker =
        Connection::open(&format!("{host}:{port}"), timeout).map_err(|error| away("connecting", &error))?;
    let member =
        |id: &String| MemberIdentity::default().with_group_instance_id(Some(StrBytes::from_string(id.clone())));
    let request = LeaveGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_members(members.iter().map(member).collect());
    let answer: LeaveGroupResponse = broker
        .call(ApiKey::LeaveGroup, LEAVE_GROUP_VERSION, &request)
        .map_err(|error| away("asking the coordinator", &error))?;
    let refused = answer.members.iter().map(|member| member.error_code).chain([answer.error_code]);
    match refused.into_iter().find(|&code| code != 0 && code != UNKNOWN_MEMBER_ID) {
        Some(code) => Err(away("the coordinator refused", &format!("error code {code}"))),
        None => Ok(()),
    }
}

/// The group's coordinator, asked of the first bootstrap server that answers.
fn coordinator(settings: &ClientSettings, group: &str, timeout: Duration) -> std::io::Result<(String, i32)> {
    let servers = settings.get("bootstrap.servers").map_or("", String::as_str);
    let mut failed = std::io::Error::other("bootstrap.servers is empty");
    for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
        let asked = Connection::open(server, timeout)
            .and_then(|mut broker| broker.call(ApiKey::FindCoordinator, FIND_COORDINATOR_VERSION, &request));
        match asked {
            Ok(FindCoordinatorResponse { error_code: 0, host, port, .. }) => return Ok((host.to_string(), port)),
            Ok(answer) => {
                failed = std::io::Error::other(format!("{server} answered with error code {}", answer.error_code))
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A plain connection that carries one request at a time.
struct Connection(TcpStream);

impl Connection {
    fn open(server: &str, timeout: Duration) -> std::io::Result<Self> {
        let mut failed = std::io::Error::other(format!("{server} has no address"));
        for address in server.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(timeout))?;
                    stream.set_write_timeout(Some(timeout))?;
                    return Ok(Self(stream));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn call<Request: Encodable, Response: Decodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Request,
    ) -> std::io::Result<Response> {
        let malformed = |error: &dyn std::fmt::Display| std::io::Error::other(format!("malformed message: {error}"));
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(1)
            .with_client_id(Some(StrBytes::from_static_str("tributary")));
        let mut body = BytesMut::new();
        encode_request_header_into_buffer(&mut body, &header).map_err(|error| malformed(&error))?;
        request.encode(&mut body, version).map_err(|error| malformed(&error))?;
        self.0.write_all(&u32::try_from(body.len()).map_err(|error| malformed(&error))?.to_be_bytes())?;
        self.0.write_all(&body)?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_ANSWER {
            return Err(malformed(&format!("{length} bytes; is this a plain Kafka listener?")));
        }
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, key.response_header_version(version)).map_err(|error| malformed(&error))?;
        Response::decode(&mut answer, version).map_err(|error| malformed(&error))
    }
}
