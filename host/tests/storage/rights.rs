//! A cluster that checks rights: what the worker does without those that it can do without, and what it says otherwise.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{ApiKey, CreateAclsRequest, CreateAclsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, encode_request_header_into_buffer};
use tributary::log::{Log, kafka::KafkaLog};
use tributary::storage::kafka::{KafkaStorage, Listeners};
use tributary::storage::sqlite::SqliteStore;
use tributary::storage::{ConfigLog, ConfigWrite, StorageErrorKind};
use tributary::worker::State;
use tributary_harness::{BrokerOptions, KafkaBroker};

use crate::support::{Group, PATIENCE, config, eventually, refused};

const JAAS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required";
const CLOSE: Duration = Duration::from_secs(5);
// Kafka's numbers.
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const TRANSACTIONAL_ID: i8 = 5;
const READ: i8 = 3;
const WRITE: i8 = 4;
const DESCRIBE: i8 = 8;

/// A broker on which `ANONYMOUS` may do everything, and alice, at the address, what she is granted.
fn broker() -> (KafkaBroker, String) {
    let options = BrokerOptions::default()
        .secured()
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("super.users", "User:ANONYMOUS");
    let broker = KafkaBroker::start_with(options).unwrap();
    let address = broker.secured().bootstrap("SASLPLAIN");
    (broker, address)
}

/// The stores of a worker that is alice.
fn open(group: &Group, address: &str, directory: &std::path::Path) -> KafkaStorage {
    let jaas = format!("{JAAS} username=\"alice\" password=\"alice-secret\";");
    let settings: BTreeMap<String, String> =
        [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN"), ("sasl.jaas.config", &jaas)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    let log: Arc<dyn Log> = Arc::new(KafkaLog::new(address, &settings));
    KafkaStorage::open(log, &group.settings(), &SqliteStore::open(directory).unwrap(), Listeners::default()).unwrap()
}

/// Grants alice operations on a resource, by name.
fn grant(broker: &KafkaBroker, kind: i8, name: &str, operations: &[i8]) {
    const VERSION: i16 = 3;
    let acl = |operation: &i8| {
        AclCreation::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_resource_pattern_type(3)
            .with_principal(StrBytes::from_static_str("User:alice"))
            .with_host(StrBytes::from_static_str("*"))
            .with_operation(*operation)
            .with_permission_type(3)
    };
    let request = CreateAclsRequest::default().with_creations(operations.iter().map(acl).collect());
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::CreateAcls as i16)
        .with_request_api_version(VERSION)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    let mut body = BytesMut::new();
    encode_request_header_into_buffer(&mut body, &header).unwrap();
    request.encode(&mut body, VERSION).unwrap();
    let mut broker = TcpStream::connect(broker.bootstrap()).unwrap();
    broker.set_read_timeout(Some(PATIENCE)).unwrap();
    broker.write_all(&(body.len() as u32).to_be_bytes()).unwrap();
    broker.write_all(&body).unwrap();
    let mut length = [0; 4];
    broker.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    broker.read_exact(&mut answer).unwrap();
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, ApiKey::CreateAcls.response_header_version(VERSION)).unwrap();
    let answer = CreateAclsResponse::decode(&mut answer, VERSION).unwrap();
    assert!(answer.results.iter().all(|result| result.error_code == 0), "{answer:?}");
}

#[test]
fn rights_that_are_not_needed_are_not_asked_for_and_those_that_are_get_named() {
    let (broker, address) = broker();
    let group = Group::new(&broker);
    // Made by an administrator: the worker may neither create topics nor look at their settings.
    for (role, partitions) in [("config", 1), ("offset", 4), ("status", 2)] {
        broker.create_topic(&group.topic(role), partitions, &[("cleanup.policy", "compact")]).unwrap();
    }
    let storage = open(&group, &address, tempfile::tempdir().unwrap().path());
    let error = refused(storage.configs.wait_current(PATIENCE));
    assert_eq!(error.kind, StorageErrorKind::Misconfigured, "{error}");
    assert!(error.message.contains(&group.topic("config")), "{error}");
    assert!(error.message.contains("config.storage.topic"), "{error}");
    storage.close(CLOSE);

    for role in ["config", "offset", "status"] {
        grant(&broker, TOPIC, &group.topic(role), &[DESCRIBE, READ, WRITE]);
    }
    grant(&broker, GROUP, &group.name, &[READ]);
    let directory = tempfile::tempdir().unwrap();
    let storage = open(&group, &address, directory.path());
    storage.wait_current(PATIENCE).unwrap();
    // Without the right on the transactional id the leader says what to grant.
    let error = refused(storage.configs.claim());
    assert_eq!(error.kind, StorageErrorKind::Misconfigured, "{error}");
    let id = format!("connect-cluster-{}", group.name);
    assert!(error.message.contains(&id) && error.message.contains("grant"), "{error}");
    grant(&broker, TRANSACTIONAL_ID, &id, &[WRITE, DESCRIBE]);
    eventually("the right being known", || storage.configs.claim().ok());
    let write =
        ConfigWrite::Connector { name: "a".into(), config: config(&[("a", "b")]), initial: Some(State::Paused) };
    storage.configs.write(&[write]).unwrap();
    assert_eq!(storage.configs.snapshot().connectors["a"].target, State::Paused);
    storage.close(CLOSE);
}
