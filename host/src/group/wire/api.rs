//! The requests that are used, each with its answer and the versions that this client can speak.

use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, DescribeGroupsRequest, DescribeGroupsResponse, FetchRequest,
    FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable};

/// A request.
pub trait Api: Encodable + Send + Sync {
    /// Which.
    const KEY: ApiKey;
    /// Oldest and newest version that is spoken here.
    const VERSIONS: (i16, i16);
    /// Its answer.
    type Answer: Decodable + Send;
}

macro_rules! apis {
    ($($request:ident $answer:ident $key:ident $oldest:literal ..= $newest:literal;)*) => {$(
        impl Api for $request {
            const KEY: ApiKey = ApiKey::$key;
            const VERSIONS: (i16, i16) = ($oldest, $newest);
            type Answer = $answer;
        }
    )*};
}

// Oldest: what Kafka 2.1 speaks, where nothing newer is needed.
apis! {
    ApiVersionsRequest ApiVersionsResponse ApiVersions 0..=3;
    SaslHandshakeRequest SaslHandshakeResponse SaslHandshake 1..=1;
    SaslAuthenticateRequest SaslAuthenticateResponse SaslAuthenticate 0..=2;
    MetadataRequest MetadataResponse Metadata 2..=9;
    FindCoordinatorRequest FindCoordinatorResponse FindCoordinator 1..=3;
    JoinGroupRequest JoinGroupResponse JoinGroup 3..=9;
    SyncGroupRequest SyncGroupResponse SyncGroup 1..=5;
    HeartbeatRequest HeartbeatResponse Heartbeat 1..=4;
    LeaveGroupRequest LeaveGroupResponse LeaveGroup 1..=5;
    DescribeGroupsRequest DescribeGroupsResponse DescribeGroups 1..=5;
    InitProducerIdRequest InitProducerIdResponse InitProducerId 0..=4;
    FetchRequest FetchResponse Fetch 4..=12;
    OffsetCommitRequest OffsetCommitResponse OffsetCommit 7..=8;
}
