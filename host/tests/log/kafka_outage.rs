//! What the Kafka log promises while brokers go and come back, and when members meet or fall silent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tributary::log::kafka::KafkaLog;
use tributary::log::{ClientSettings, ConsumerEvent, Log, LogConsumer, NewTopic, Subscription};
use tributary_harness::KafkaBroker;

use crate::support::{PATIENCE, accept, kafka, partition, read_some, settings, texts, unique, values};

fn topic(log: &KafkaLog, partitions: i32) -> String {
    let name = unique("outage");
    let new = NewTopic { name: name.clone(), partitions: Some(partitions), ..NewTopic::default() };
    log.admin().create_topic(&new, PATIENCE).unwrap();
    name
}

#[test]
fn a_broker_that_is_killed_and_comes_back_costs_nothing() {
    let mut broker = KafkaBroker::start().unwrap();
    let log = KafkaLog::new(&broker.bootstrap(), &BTreeMap::new());
    let topic = topic(&log, 1);
    let group = settings(&[("group.id", "outage"), ("session.timeout.ms", "6000")]);
    let mut consumer = log.consumer(&group, &Subscription::Topics(vec![topic.clone()])).unwrap();
    let mut producer = log.producer(&ClientSettings::new()).unwrap();
    let mut read: Vec<String> = Vec::new();
    let mut next = 0;
    let mut completed = Vec::new();
    let mut write = |producer: &mut dyn tributary::log::LogProducer, completed: &mut Vec<u64>| {
        let lines: Vec<String> = (0..1_000).map(|i| format!("{}", next * 1_000 + i)).collect();
        let records = values(&lines);
        let mut row = 0;
        while row < 1_000 {
            row += producer.send(&topic, &records, row, next, Duration::from_millis(100)).unwrap();
        }
        producer.finish(next);
        next += 1;
        completed.extend(producer.poll(Duration::ZERO).unwrap().into_iter().map(|c| {
            assert!(c.failed.is_empty(), "{c:?}");
            c.token
        }));
    };
    for _ in 0..20 {
        write(&mut *producer, &mut completed);
    }
    producer.flush(PATIENCE).unwrap();
    read.extend(texts(&read_some(&mut *consumer, 5_000)));
    broker.kill().unwrap();
    for _ in 0..20 {
        write(&mut *producer, &mut completed);
    }
    // Nobody answers: what was asked fails in time and may be tried again; the task's own calls go on.
    let start = Instant::now();
    let error = consumer.commit(&[(partition(&topic, 0), 5)]).unwrap_err();
    assert!(error.retriable, "{error}");
    assert!(start.elapsed() < Duration::from_secs(35), "a commit took {:?}", start.elapsed());
    assert!(producer.flush(Duration::from_millis(200)).unwrap_err().retriable);
    assert!(log.cluster_id(Duration::from_secs(2)).is_ok(), "it was learnt before");
    assert!(log.admin().watermarks(&partition(&topic, 0), Duration::from_secs(1)).is_err());
    for _ in 0..10 {
        for event in consumer.poll(10_000, 1 << 20, Duration::from_millis(50)).unwrap() {
            if let ConsumerEvent::Batch(batch) = &event {
                read.extend(texts(&crate::support::rows(batch)));
            }
            accept(&mut *consumer, &event);
        }
    }
    broker.restart().unwrap();
    producer.flush(PATIENCE).unwrap();
    completed.extend(producer.poll(Duration::ZERO).unwrap().into_iter().map(|c| c.token));
    assert_eq!(completed, (0..40).collect::<Vec<_>>());
    while read.last().is_none_or(|line| line != "39999") {
        read.extend(texts(&read_some(&mut *consumer, 1)));
    }
    // The member may have lost its partition in between, and then reads again from the beginning, as committed.
    let expected: Vec<String> = (0..40_000).map(|i| i.to_string()).collect();
    let again = read.len() - read.iter().rposition(|line| line == "0").unwrap();
    assert!(read[read.len() - again..] == expected[..again], "the order is broken");
    let mut seen: Vec<u32> = read.iter().map(|line| line.parse().unwrap()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 40_000);
    producer.close(PATIENCE).unwrap();
    consumer.close(PATIENCE).unwrap();
}

/// A broker that has no groups yet is nobody's coordinator; to be told so must not crash the client.
#[test]
fn a_group_is_asked_for_before_there_is_any() {
    let broker = KafkaBroker::start().unwrap();
    let log = KafkaLog::new(&broker.bootstrap(), &BTreeMap::new());
    let topic = topic(&log, 1);
    assert!(log.admin().group_offsets("nobody", PATIENCE).unwrap().is_empty());
    let at = partition(&topic, 0);
    log.admin().alter_group_offsets("somebody", &[(at.clone(), Some(0))], PATIENCE).unwrap();
    assert_eq!(log.admin().group_offsets("somebody", PATIENCE).unwrap(), [(at, 0)]);
}

#[test]
fn closing_without_a_broker_keeps_to_its_time() {
    let log = KafkaLog::new("127.0.0.1:1", &BTreeMap::new());
    let start = Instant::now();
    let mut producer = log.producer(&ClientSettings::new()).unwrap();
    producer.send("t", &values(&["x"; 100]), 0, 1, Duration::from_millis(100)).unwrap();
    assert!(producer.poll(Duration::from_millis(100)).unwrap().is_empty());
    let subscription = Subscription::Topics(vec!["t".into()]);
    let mut consumer = log.consumer(&settings(&[("group.id", "g")]), &subscription).unwrap();
    assert!(consumer.poll(10, 100, Duration::from_millis(200)).unwrap().is_empty());
    let error = log.cluster_id(Duration::from_millis(300)).unwrap_err();
    assert!(error.retriable && error.message.contains("bootstrap.servers"), "{error}");
    let error = log.admin().topics(Duration::from_millis(300)).unwrap_err();
    assert!(error.retriable, "{error}");
    producer.close(Duration::from_secs(5)).unwrap();
    consumer.close(Duration::from_secs(5)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[test]
fn settings_that_are_wrong_are_named() {
    let log = KafkaLog::new("127.0.0.1:1", &BTreeMap::new());
    let error = log.producer(&settings(&[("linger.ms", "soon")])).err().unwrap();
    assert!(error.message.contains("linger.ms") && !error.retriable, "{error}");
    let error = log.producer(&settings(&[("acks", "1"), ("enable.idempotence", "true")])).err().unwrap();
    assert!(error.message.contains("acks"), "{error}");
    // Java's own, without an equivalent, are left out.
    let java = settings(&[("interceptor.classes", "x.Y"), ("key.serializer", "x.Z"), ("partitioner.class", "a.B")]);
    log.producer(&java).unwrap();
    assert!(log.consumer(&BTreeMap::new(), &Subscription::Topics(vec![])).err().unwrap().message.contains("group.id"));
}

/// Polls until the consumer holds a partition.
fn hold(consumer: &mut dyn LogConsumer) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE);
        for event in consumer.poll(100, 1 << 20, Duration::from_millis(100)).unwrap() {
            accept(consumer, &event);
            if matches!(event, ConsumerEvent::Assigned(_)) {
                return;
            }
        }
    }
}

#[test]
fn a_static_member_takes_over_at_once_and_fences_the_older() {
    let fixture = kafka();
    let topic = fixture.topic("static", 1);
    let group = unique("static");
    let with = settings(&[("group.id", &group), ("group.instance.id", "c-0"), ("session.timeout.ms", "30000")]);
    let member = || fixture.log.consumer(&with, &Subscription::Topics(vec![topic.clone()])).unwrap();
    let mut first = member();
    hold(&mut *first);
    first.close(PATIENCE).unwrap();
    // Its session would last thirty seconds more.
    let start = Instant::now();
    let mut second = member();
    hold(&mut *second);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let mut third = member();
    hold(&mut *third);
    let start = Instant::now();
    let error = loop {
        assert!(start.elapsed() < PATIENCE);
        match second.poll(10, 1 << 20, Duration::from_millis(200)) {
            Err(error) => break error,
            Ok(events) => events.iter().for_each(|event| accept(&mut *second, event)),
        }
    };
    assert!(!error.retriable, "{error}");
    second.close(PATIENCE).unwrap();
    third.close(PATIENCE).unwrap();
}

#[test]
fn a_member_that_falls_silent_is_told_of_its_loss() {
    let fixture = kafka();
    let topic = fixture.topic("silent", 1);
    fixture.write(&topic, &values(&["a", "b"]));
    let group = unique("silent");
    let with = settings(&[("group.id", &group), ("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")]);
    let mut consumer = fixture.log.consumer(&with, &Subscription::Topics(vec![topic.clone()])).unwrap();
    assert_eq!(texts(&read_some(&mut *consumer, 2)), ["a", "b"]);
    std::thread::sleep(Duration::from_secs(8));
    let at = partition(&topic, 0);
    let start = Instant::now();
    let mut lost = false;
    let mut again = Vec::new();
    while again.len() < 2 {
        assert!(start.elapsed() < PATIENCE);
        for event in consumer.poll(10, 1 << 20, Duration::from_millis(100)).unwrap() {
            match &event {
                ConsumerEvent::Lost(partitions) => {
                    assert_eq!(partitions, std::slice::from_ref(&at));
                    let error = consumer.commit(&[(at.clone(), 2)]).unwrap_err();
                    assert!(error.retriable, "the next assignment mends it: {error}");
                    lost = true;
                }
                ConsumerEvent::Batch(batch) => again.extend(texts(&crate::support::rows(batch))),
                _ => {}
            }
            accept(&mut *consumer, &event);
        }
    }
    assert!(lost, "no Lost event came");
    assert_eq!(again, ["a", "b"], "nothing was committed");
    consumer.close(PATIENCE).unwrap();
}
