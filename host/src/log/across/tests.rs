//! Members of a group in one broker that read another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::BinaryArray;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{ApiKey, CreateAclsRequest, CreateAclsResponse};
use tributary_harness::{BrokerOptions, KafkaBroker};

use super::super::kafka::KafkaLog;
use super::super::{
    ClientSettings, ConsumerEvent, Log, LogConsumer, LogRecords, NewTopic, NextStep, StandIns, Subscription,
    TopicPartition,
};
use super::{Across, consumer_across};
use crate::group::wire::{Api, Cluster, WireSettings};

/// How long something may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Two {
    source: Arc<dyn Log>,
    target: Arc<dyn Log>,
    /// How they are reached.
    addresses: [ClientSettings; 2],
    // The brokers end after their clients.
    _brokers: [KafkaBroker; 2],
}

impl Two {
    fn start(topic: &str, partitions: i32) -> Self {
        Self::start_with(topic, partitions, &BrokerOptions::default(), at_the_plain_listener)
    }

    fn start_with(
        topic: &str,
        partitions: i32,
        options: &BrokerOptions,
        reached: fn(&KafkaBroker) -> ClientSettings,
    ) -> Self {
        let brokers = [(); 2].map(|()| KafkaBroker::start_with(options.clone()).unwrap());
        brokers[0].create_topic(topic, partitions, &[]).unwrap();
        brokers[1].create_topic("out", 1, &[]).unwrap();
        let addresses = [reached(&brokers[0]), reached(&brokers[1])];
        let log = |settings: &ClientSettings| -> Arc<dyn Log> {
            Arc::new(KafkaLog::new(&settings["bootstrap.servers"], settings))
        };
        Self { source: log(&addresses[0]), target: log(&addresses[1]), addresses, _brokers: brokers }
    }

    /// What stands for a topic of the source as it is now.
    fn stand_in(&self, topic: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // One that was just made may not be known everywhere yet.
            if let Some(identity) = self.source.admin().topic_identity(topic, PATIENCE).unwrap() {
                return StandIns::new("g").name(topic, Some(&identity.id.unwrap()));
            }
            assert!(Instant::now() < deadline, "{topic}");
        }
    }

    fn member(&self, topic: &str, instance: &str) -> Box<dyn LogConsumer> {
        self.member_of(&[topic], instance, "1000")
    }

    /// That looks for topics so often (milliseconds).
    fn member_of(&self, topics: &[&str], instance: &str, refresh: &str) -> Box<dyn LogConsumer> {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let [mut reader, mut member] = self.addresses.clone();
        member.extend([
            setting("group.id", "g"),
            setting("group.instance.id", instance),
            setting("session.timeout.ms", "6000"),
            setting("heartbeat.interval.ms", "500"),
            setting("metadata.max.age.ms", refresh),
        ]);
        reader.extend([setting("group.id", "shown")]);
        consumer_across(Across {
            target: self.target.clone(),
            member,
            source: self.source.clone(),
            reader,
            subscription: Subscription::Topics(topics.iter().map(|topic| (*topic).to_owned()).collect()),
            own: Vec::new(),
        })
        .unwrap()
    }
}

fn at_the_plain_listener(broker: &KafkaBroker) -> ClientSettings {
    [("bootstrap.servers".to_owned(), broker.bootstrap())].into()
}

fn as_alice(broker: &KafkaBroker) -> ClientSettings {
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"alice\" password=\"alice-secret\";";
    let settings = [
        ("bootstrap.servers", broker.secured().bootstrap("SASLPLAIN")),
        ("security.protocol", "SASL_PLAINTEXT".to_owned()),
        ("sasl.mechanism", "PLAIN".to_owned()),
        ("sasl.jaas.config", jaas.to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Only tests grant.
impl Api for CreateAclsRequest {
    const KEY: ApiKey = ApiKey::CreateAcls;
    const VERSIONS: (i16, i16) = (2, 3);
    type Answer = CreateAclsResponse;
}

/// Kafka's numbers of types of resources, of patterns, and of operations.
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const TRANSACTIONAL_ID: i8 = 5;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const ALTER: i8 = 7;
const DESCRIBE: i8 = 8;

/// Allows alice what is listed: type, name, pattern, operations.
fn grant(broker: &KafkaBroker, granted: &[(i8, &str, i8, &[i8])]) {
    const ALLOW: i8 = 3;
    let creation = |(kind, name, pattern, operation): (i8, &str, i8, i8)| {
        AclCreation::default()
            .with_resource_type(kind)
            .with_resource_name(name.to_owned().into())
            .with_resource_pattern_type(pattern)
            .with_principal("User:alice".to_owned().into())
            .with_host("*".to_owned().into())
            .with_operation(operation)
            .with_permission_type(ALLOW)
    };
    let each = granted.iter().flat_map(|(kind, name, pattern, operations)| {
        operations.iter().map(|operation| creation((*kind, name, *pattern, *operation)))
    });
    let request = CreateAclsRequest::default().with_creations(each.collect());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let cluster = Cluster::new(WireSettings::new(&at_the_plain_listener(broker)).unwrap());
        cluster.any().await.unwrap().call(PATIENCE, |_| request).await.unwrap()
    });
    assert!(answer.results.iter().all(|result| result.error_code == 0), "{answer:?}");
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

/// Polls a member, which takes what it is given and gives up what it has to, until it has so many partitions.
fn until_it_has(
    member: &mut dyn LogConsumer,
    others: &mut [&mut Box<dyn LogConsumer>],
    count: usize,
) -> Vec<TopicPartition> {
    let deadline = Instant::now() + PATIENCE;
    let mut has = Vec::new();
    loop {
        let wait = Duration::from_millis(100);
        for event in member.poll(100, 1 << 20, wait).unwrap() {
            obey(member, event, &mut has);
        }
        for other in others.iter_mut() {
            for event in other.poll(100, 1 << 20, wait).unwrap() {
                obey(&mut ***other, event, &mut Vec::new());
            }
        }
        if has.len() == count {
            return has;
        }
        assert!(Instant::now() < deadline, "{has:?} where {count} partitions are expected");
    }
}

fn obey(member: &mut dyn LogConsumer, event: ConsumerEvent, has: &mut Vec<TopicPartition>) {
    match event {
        ConsumerEvent::Assigned(partitions) => {
            let committed = member.committed(&partitions, PATIENCE).unwrap();
            member.assign(&committed).unwrap();
            has.extend(partitions);
        }
        ConsumerEvent::Revoked(partitions) | ConsumerEvent::Lost(partitions) => {
            member.unassign(&partitions).unwrap();
            has.retain(|held| !partitions.contains(held));
        }
        ConsumerEvent::Batch(_) | ConsumerEvent::End(..) => {}
    }
}

/// Makes offsets part of a transaction that writes something; then whether it could be committed.
fn commits(two: &Two, id: &str, member: &mut dyn LogConsumer, metadata: &crate::log::GroupMetadata, next: i64) -> bool {
    let mut producer = two.target.transactional_producer(id, &ClientSettings::new()).unwrap();
    while let Err(error) = producer.init(PATIENCE) {
        assert_eq!(error.next, NextStep::Retry, "{error}");
    }
    producer.begin().unwrap();
    let records = LogRecords::from_values(BinaryArray::from_iter_values([id]));
    producer.as_producer().send("out", &records, 0, 1, PATIENCE).unwrap();
    producer.as_producer().finish(1);
    let kept = member.kept_as(&at("in", 0));
    let added = producer.send_offsets(&[(kept, next)], metadata, PATIENCE);
    let done = match added {
        Ok(()) => {
            producer.commit(PATIENCE).unwrap();
            true
        }
        Err(refused) => {
            let code = refused.error.code.unwrap_or_default();
            let known = ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID"];
            assert!(known.contains(&code) && refused.next == NextStep::Abort, "{refused:?}");
            assert!(producer.commit(PATIENCE).is_err(), "it can only be aborted");
            producer.abort(PATIENCE).unwrap();
            false
        }
    };
    producer.close_transactional(PATIENCE).unwrap();
    done
}

/// Who was a member once commits nothing more: neither when others have its place, nor when the group has gone on without it.
#[test]
fn former_members_commit_nothing() {
    let two = Two::start("in", 4);
    let mut first = two.member("in", "c-0");
    assert_eq!(until_it_has(&mut *first, &mut [], 4).len(), 4);
    let alone = first.group_metadata().unwrap();
    assert!(commits(&two, "a", &mut *first, &alone, 5));
    assert_eq!(
        first.committed(&[at("in", 0), at("in", 1)], PATIENCE).unwrap(),
        [(at("in", 0), Some(5)), (at("in", 1), None)]
    );

    // Another member: the generation is over.
    let mut second = two.member("in", "c-1");
    let mut others = [&mut first];
    let has = until_it_has(&mut *second, &mut others, 2);
    assert_eq!(has, [at("in", 2), at("in", 3)], "in the order of their instance ids");
    assert!(!commits(&two, "b", &mut *first, &alone, 6), "the generation is over");
    let mut shared = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while first.group_metadata().is_err() {
        for event in first.poll(100, 1 << 20, Duration::from_millis(100)).unwrap() {
            obey(&mut *first, event, &mut shared);
        }
        assert!(Instant::now() < deadline);
    }
    let of_both = first.group_metadata().unwrap();
    assert!(commits(&two, "c", &mut *first, &of_both, 7));

    // One that comes back with the same instance id, as after a kill, has its partitions without a rebalance; the one before is fenced.
    let mut successor = two.member("in", "c-0");
    assert_eq!(until_it_has(&mut *successor, &mut [], 2), [at("in", 0), at("in", 1)]);
    assert!(!commits(&two, "d", &mut *first, &of_both, 8), "the instance id is another's");
    let fenced = loop {
        match first.poll(100, 1 << 20, Duration::from_millis(100)) {
            Ok(events) => events.into_iter().for_each(|event| obey(&mut *first, event, &mut shared)),
            Err(error) => break error,
        }
        assert!(Instant::now() < deadline + PATIENCE);
    };
    assert!(fenced.code == Some("FENCED_INSTANCE_ID") && !fenced.retriable, "{fenced}");
    assert_eq!(successor.committed(&[at("in", 0)], PATIENCE).unwrap(), [(at("in", 0), Some(7))]);

    // One that leaves in order is not waited for.
    second.close(PATIENCE).unwrap();
    let begun = Instant::now();
    assert_eq!(until_it_has(&mut *successor, &mut [], 4).len(), 4);
    assert!(begun.elapsed() < Duration::from_secs(5), "before its session would have ended");
    assert_eq!(two.target.admin().group_offsets("g", PATIENCE).unwrap(), [(at(&two.stand_in("in"), 0), 7)]);
}

/// A member that is gone may have a transaction open with its offsets in it: whoever has its partitions reads none before it is known
/// whether they are committed.
#[test]
fn what_a_former_member_has_open_is_waited_for() {
    let two = Two::start("in", 1);
    let mut first = two.member("in", "c-0");
    until_it_has(&mut *first, &mut [], 1);
    let mut producer = two.target.transactional_producer("a", &ClientSettings::new()).unwrap();
    producer.init(PATIENCE).unwrap();
    producer.begin().unwrap();
    let metadata = first.group_metadata().unwrap();
    producer.send_offsets(&[(first.kept_as(&at("in", 0)), 5)], &metadata, PATIENCE).unwrap();
    first.close(PATIENCE).unwrap();
    // Under another instance id: nothing tells whose place it takes.
    let mut second = two.member("in", "c-1");
    let deadline = Instant::now() + PATIENCE;
    let given = loop {
        let events = second.poll(100, 1 << 20, Duration::from_millis(100)).unwrap();
        if let Some(ConsumerEvent::Assigned(given)) = events.into_iter().next() {
            break given;
        }
        assert!(Instant::now() < deadline);
    };
    let untold = second.committed(&given, Duration::from_secs(3)).unwrap_err();
    assert!(untold.retriable, "{untold}");
    producer.commit(PATIENCE).unwrap();
    assert_eq!(second.committed(&given, PATIENCE).unwrap(), [(at("in", 0), Some(5))]);
    producer.close_transactional(PATIENCE).unwrap();
    second.close(PATIENCE).unwrap();
}

/// A topic that is deleted and made anew has no offsets, as it would have none in one cluster, whether somebody reads it meanwhile or not.
#[test]
fn a_topic_made_anew_begins_without_offsets() {
    let two = Two::start("in", 1);
    let committed = |member: &mut dyn LogConsumer| member.committed(&[at("in", 0)], PATIENCE).unwrap()[0].1;
    let make_anew = || {
        let before = two.stand_in("in");
        two.source.admin().delete_topic("in", PATIENCE).unwrap();
        let new = NewTopic { name: "in".into(), partitions: Some(1), ..NewTopic::default() };
        let deadline = Instant::now() + PATIENCE;
        while !two.source.admin().create_topic(&new, PATIENCE).unwrap() {
            assert!(Instant::now() < deadline);
        }
        while before == two.stand_in("in") {
            assert!(Instant::now() < deadline);
        }
    };
    let mut member = two.member("in", "c-0");
    until_it_has(&mut *member, &mut [], 1);
    let metadata = member.group_metadata().unwrap();
    assert!(commits(&two, "a", &mut *member, &metadata, 5));
    assert_eq!(committed(&mut *member), Some(5));
    member.close(PATIENCE).unwrap();
    make_anew();
    let mut member = two.member("in", "c-0");
    until_it_has(&mut *member, &mut [], 1);
    assert_eq!(committed(&mut *member), None);

    let metadata = member.group_metadata().unwrap();
    assert!(commits(&two, "a", &mut *member, &metadata, 3));
    assert_eq!(committed(&mut *member), Some(3));
    make_anew();
    let (mut has, deadline) = (vec![at("in", 0)], Instant::now() + PATIENCE);
    while has.is_empty() || committed(&mut *member).is_some() {
        for event in member.poll(100, 1 << 20, Duration::from_millis(100)).unwrap() {
            obey(&mut *member, event, &mut has);
        }
        assert!(Instant::now() < deadline);
    }
    member.close(PATIENCE).unwrap();
}

/// Who deletes a stand-in deletes offsets: it is made again, and a member that had them does not begin from nothing.
#[test]
fn a_stand_in_that_is_deleted_is_made_again() {
    let two = Two::start("in", 1);
    let mut member = two.member("in", "c-0");
    until_it_has(&mut *member, &mut [], 1);
    let metadata = member.group_metadata().unwrap();
    assert!(commits(&two, "a", &mut *member, &metadata, 5));
    member.committed_in_transaction(&[(at("in", 0), 5)]);
    let (stand_in, admin) = (two.stand_in("in"), two.target.admin());
    let is_there = || admin.topics(PATIENCE).unwrap().iter().any(|topic| topic.name == stand_in);
    admin.delete_topic(&stand_in, PATIENCE).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !admin.group_offsets("g", PATIENCE).unwrap().is_empty() || !is_there() {
        member.poll(100, 1 << 20, Duration::from_millis(100)).unwrap();
        assert!(Instant::now() < deadline);
    }
    let gone = member.committed(&[at("in", 0)], PATIENCE).unwrap_err();
    assert!(!gone.retriable && gone.message.contains("which was 5 or more, is gone"), "{gone}");
    // What it commits next is as good as before.
    let metadata = member.group_metadata().unwrap();
    assert!(commits(&two, "a", &mut *member, &metadata, 6));
    assert_eq!(member.committed(&[at("in", 0)], PATIENCE).unwrap(), [(at("in", 0), Some(6))]);
    member.close(PATIENCE).unwrap();
}

/// The broker gives one that comes back what it had. Where that is not what it would be given now, or another's share is not, the group
/// rebalances.
#[test]
fn who_comes_back_does_not_keep_what_is_out_of_date() {
    const SELDOM: &str = "600000";
    let two = Two::start("in", 3);
    let other = NewTopic { name: "other".into(), partitions: Some(2), ..NewTopic::default() };
    two.source.admin().create_topic(&other, PATIENCE).unwrap();
    let both = ["in", "other"];
    let mut first = two.member_of(&both, "c-0", SELDOM);
    until_it_has(&mut *first, &mut [], 5);
    let mut second = two.member_of(&both, "c-1", SELDOM);
    assert_eq!(until_it_has(&mut *second, &mut [&mut first], 2), [at("in", 2), at("other", 1)]);
    // The share of the one that comes back, and leads, stays the same.
    two.source.admin().create_partitions("in", 4, PATIENCE).unwrap();
    let mut successor = two.member_of(&both, "c-0", SELDOM);
    assert_eq!(until_it_has(&mut *second, &mut [&mut successor], 3), [at("in", 2), at("in", 3), at("other", 1)]);

    // Of another config, and no leader.
    let mut changed = two.member_of(&["in"], "c-1", SELDOM);
    let (mut its, mut of_leader, deadline) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
    while (its.len(), of_leader.len()) != (2, 4) {
        for (member, has) in [(&mut changed, &mut its), (&mut successor, &mut of_leader)] {
            for event in member.poll(100, 1 << 20, Duration::from_millis(100)).unwrap() {
                obey(&mut **member, event, has);
            }
        }
        assert!(its.iter().all(|held| &*held.topic == "in"), "{its:?}");
        assert!(Instant::now() < deadline, "{its:?}, {of_leader:?}");
    }
    for member in [first, second, successor, changed] {
        member.close(PATIENCE).unwrap();
    }
}

/// Partitions that are added are given out, and their stand-ins are there before.
#[test]
fn partitions_that_are_added_are_given_out() {
    let two = Two::start("in", 1);
    let mut member = two.member("in", "c-0");
    assert_eq!(until_it_has(&mut *member, &mut [], 1), [at("in", 0)]);
    two.source.admin().create_partitions("in", 3, PATIENCE).unwrap();
    assert_eq!(until_it_has(&mut *member, &mut [], 3).len(), 3);
    let topics: BTreeMap<_, _> =
        two.target.admin().topics(PATIENCE).unwrap().into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    assert_eq!(topics.get(&two.stand_in("in")), Some(&3));
}

/// What has to be granted is what the guide lists, and the group in the source is only for display.
#[test]
fn principals_need_what_the_guide_lists() {
    let options = BrokerOptions::default()
        .secured()
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("super.users", "User:ANONYMOUS");
    let two = Two::start_with("in", 2, &options, as_alice);
    grant(&two._brokers[0], &[(TOPIC, "in", LITERAL, &[READ, DESCRIBE])]);
    let of_target: [(i8, &str, i8, &[i8]); 4] = [
        (GROUP, "g", LITERAL, &[READ]),
        (TOPIC, "g.", PREFIXED, &[CREATE, DESCRIBE, ALTER, READ]),
        (TOPIC, "out", LITERAL, &[WRITE]),
        (TRANSACTIONAL_ID, "a", LITERAL, &[WRITE, DESCRIBE]),
    ];
    // Not yet: it is said what is missing.
    let mut early = two.member("in", "c-0");
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        match early.poll(100, 1 << 20, Duration::from_millis(100)) {
            Ok(events) => assert!(events.is_empty() && Instant::now() < deadline, "{events:?}"),
            Err(refused) => break refused,
        }
    };
    let id = two.source.admin().topic_identity("in", PATIENCE).unwrap().unwrap().id;
    assert!(
        !refused.retriable
            && refused
                .message
                .contains(&format!("the topic {} stands for in", StandIns::new("g").name("in", id.as_deref()))),
        "{refused}"
    );
    early.close(PATIENCE).unwrap();

    grant(&two._brokers[1], &of_target);
    let mut member = two.member("in", "c-0");
    assert_eq!(until_it_has(&mut *member, &mut [], 2).len(), 2);
    let metadata = member.group_metadata().unwrap();
    assert!(commits(&two, "a", &mut *member, &metadata, 0));
    // Partitions are added, and records of the new ones are read.
    let open = KafkaLog::new(&two._brokers[0].bootstrap(), &ClientSettings::new());
    open.admin().create_partitions("in", 3, PATIENCE).unwrap();
    assert_eq!(until_it_has(&mut *member, &mut [], 3).len(), 3);
    let mut producer = open.producer(&ClientSettings::new()).unwrap();
    producer.send("in", &LogRecords::from_values(BinaryArray::from_iter_values(["x"; 20])), 0, 1, PATIENCE).unwrap();
    producer.finish(1);
    producer.flush(PATIENCE).unwrap();
    let (mut read, deadline) = (0, Instant::now() + PATIENCE);
    while read < 20 {
        for event in member.poll(100, 1 << 20, Duration::from_millis(100)).unwrap() {
            read += if let ConsumerEvent::Batch(batch) = event { batch.records.len() } else { 0 };
        }
        assert!(Instant::now() < deadline, "{read} records");
    }
    assert_eq!(member.committed(&[at("in", 0)], PATIENCE).unwrap(), [(at("in", 0), Some(0))]);
    member.close(PATIENCE).unwrap();
}
