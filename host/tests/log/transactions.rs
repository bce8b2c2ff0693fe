//! Transactions on both logs, and ends of partitions.

use std::time::{Duration, Instant};

use tributary::log::{ConsumerEvent, LogConsumer, NextStep, TransactionalProducer};

use crate::support::{self, Fixture, PATIENCE, accept, partition, settings, unique, values};

fn producer(fixture: &Fixture, id: &str) -> Box<dyn TransactionalProducer> {
    let mut producer = fixture.log.transactional_producer(id, &settings(&[("linger.ms", "0")])).unwrap();
    producer.init(PATIENCE).unwrap();
    producer
}

fn send(producer: &mut dyn TransactionalProducer, topic: &str, token: u64, text: &str) {
    let records = values(&[text]);
    assert_eq!(producer.as_producer().send(topic, &records, 0, token, PATIENCE).unwrap(), 1);
    producer.as_producer().finish(token);
}

/// Values up to the end of the partition, and where that is.
fn read_to_end(reader: &mut dyn LogConsumer, to: i64) -> Vec<String> {
    let began = Instant::now();
    let mut found = Vec::new();
    loop {
        assert!(began.elapsed() < PATIENCE, "only {found:?} came");
        for event in reader.poll(100, 1 << 20, Duration::from_millis(100)).unwrap() {
            match event {
                ConsumerEvent::Batch(batch) => found.extend(
                    support::rows(&batch).into_iter().map(|row| String::from_utf8(row.value.unwrap()).unwrap()),
                ),
                ConsumerEvent::End(at, offset) => {
                    assert_eq!(at.partition, 0);
                    if offset >= to {
                        return found;
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn on_kafka() {
    let fixture = support::kafka();
    the_last_producer_of_an_id_fences_the_others(&fixture);
    a_groups_offsets_are_committed_with_the_records(&fixture);
    a_fenced_id_commits_nothing_more(&fixture);
}

#[test]
fn on_the_embedded_log() {
    let fixture = support::embedded();
    the_last_producer_of_an_id_fences_the_others(&fixture);
    a_groups_offsets_are_committed_with_the_records(&fixture);
    a_fenced_id_commits_nothing_more(&fixture);
}

#[test]
fn what_is_committed_is_read_and_what_is_aborted_or_open_is_not() {
    let fixture = support::kafka();
    let topic = fixture.topic("transactions", 1);
    let mut writer = producer(&fixture, &unique("writer"));
    let at = partition(&topic, 0);
    let options = settings(&[("enable.partition.eof", "true"), ("isolation.level", "read_committed")]);
    let mut reader = fixture.log.reader(&options, &[(at.clone(), -2)]).unwrap();
    writer.begin().unwrap();
    send(&mut *writer, &topic, 1, "aborted");
    writer.as_producer().flush(PATIENCE).unwrap();
    writer.abort(PATIENCE).unwrap();
    writer.begin().unwrap();
    send(&mut *writer, &topic, 2, "committed");
    writer.commit(PATIENCE).unwrap();
    let completions = writer.as_producer().poll(PATIENCE).unwrap();
    let committed = completions.iter().find(|completion| completion.token == 2).unwrap();
    assert_eq!((committed.failed.len(), committed.last), (0, Some((0, 2))));
    // Record, marker, record, marker: the end is told, although no record is there.
    assert_eq!(read_to_end(&mut *reader, 4), ["committed"]);
    writer.begin().unwrap();
    send(&mut *writer, &topic, 3, "open");
    writer.as_producer().flush(PATIENCE).unwrap();
    assert_eq!(fixture.log.admin().end_offsets(std::slice::from_ref(&at), PATIENCE).unwrap(), [(at.clone(), 5)]);
    assert_eq!(fixture.log.admin().watermarks(&at, PATIENCE).unwrap(), (0, 5));
    writer.commit(PATIENCE).unwrap();
    assert_eq!(read_to_end(&mut *reader, 6), ["open"]);
    reader.close(PATIENCE).unwrap();
    writer.close_transactional(PATIENCE).unwrap();
}

fn the_last_producer_of_an_id_fences_the_others(fixture: &Fixture) {
    let topic = fixture.topic("fencing", 1);
    let id = unique("id");
    let mut first = producer(fixture, &id);
    first.begin().unwrap();
    send(&mut *first, &topic, 1, "of the first");
    first.as_producer().flush(PATIENCE).unwrap();
    let mut second = producer(fixture, &id);
    assert_eq!(first.commit(PATIENCE).unwrap_err().next, NextStep::Fenced);
    second.begin().unwrap();
    send(&mut *second, &topic, 1, "of the second");
    second.commit(PATIENCE).unwrap();
    let found = fixture.read(&topic, 1, 1);
    assert_eq!(found[0].value.as_deref(), Some(b"of the second".as_slice()));
}

fn a_fenced_id_commits_nothing_more(fixture: &Fixture) {
    let (topic, id) = (fixture.topic("fenced", 1), unique("fenced"));
    let mut writer = producer(fixture, &id);
    writer.begin().unwrap();
    send(&mut *writer, &topic, 1, "of the zombie");
    writer.as_producer().flush(PATIENCE).unwrap();
    fixture.log.fence_producers(&[id.clone(), unique("never-used")], PATIENCE).unwrap();
    assert_eq!(writer.commit(PATIENCE).unwrap_err().next, NextStep::Fenced);
    let mut next = producer(fixture, &id);
    next.begin().unwrap();
    send(&mut *next, &topic, 1, "of the next");
    next.commit(PATIENCE).unwrap();
    assert_eq!(fixture.read(&topic, 1, 1)[0].value.as_deref(), Some(b"of the next".as_slice()));
}

fn a_groups_offsets_are_committed_with_the_records(fixture: &Fixture) {
    let (from, to, group) = (fixture.topic("from", 1), fixture.topic("to", 1), unique("group"));
    fixture.write(&from, &values(&["a", "b"]));
    let mut member = fixture.member(&group, &[&from]);
    let mut read = 0;
    while read < 2 {
        for event in member.poll(10, 1 << 20, Duration::from_millis(200)).unwrap() {
            accept(&mut *member, &event);
            if let ConsumerEvent::Batch(batch) = event {
                read += batch.records.len();
            }
        }
    }
    let mut writer = producer(fixture, &unique("mover"));
    let at = partition(&from, 0);
    for (commit, expected) in [(false, None), (true, Some(2))] {
        writer.begin().unwrap();
        send(&mut *writer, &to, u64::from(commit), "moved");
        let membership = member.group_metadata().unwrap();
        writer.send_offsets(&[(at.clone(), 2)], &membership, PATIENCE).unwrap();
        if commit {
            writer.commit(PATIENCE).unwrap()
        } else {
            writer.abort(PATIENCE).unwrap()
        }
        let committed = member.committed(std::slice::from_ref(&at), PATIENCE).unwrap();
        assert_eq!(committed, [(at.clone(), expected)]);
    }
    member.close(PATIENCE).unwrap();
}

#[test]
fn on_the_embedded_log_a_transaction_is_there_whole_or_not_at_all() {
    let fixture = support::embedded();
    let topic = fixture.topic("whole", 1);
    let at = partition(&topic, 0);
    let options = settings(&[("enable.partition.eof", "true"), ("auto.offset.reset", "none")]);
    let mut reader = fixture.log.reader(&options, &[(at.clone(), -2)]).unwrap();
    assert_eq!(read_to_end(&mut *reader, 0), [""; 0]);
    let mut writer = producer(&fixture, &unique("writer"));
    writer.begin().unwrap();
    send(&mut *writer, &topic, 1, "aborted");
    writer.abort(PATIENCE).unwrap();
    writer.begin().unwrap();
    for (token, text) in [(2, "a"), (3, "b")] {
        send(&mut *writer, &topic, token, text);
    }
    // A partition that is not there is refused at once, and alone.
    let mut nowhere = values(&["nowhere"]);
    nowhere.partitions = Some(vec![7].into());
    writer.as_producer().send(&topic, &nowhere, 0, 4, PATIENCE).unwrap();
    writer.as_producer().finish(4);
    writer.as_producer().flush(PATIENCE).unwrap();
    let completions = writer.as_producer().poll(Duration::ZERO).unwrap();
    let failed = completions.iter().map(|completion| (completion.token, completion.failed.len())).collect::<Vec<_>>();
    assert_eq!(failed.iter().filter(|(_, failed)| *failed > 0).collect::<Vec<_>>(), [&(4, 1)]);
    assert_eq!(fixture.log.admin().watermarks(&at, PATIENCE).unwrap(), (0, 0));
    writer.commit(PATIENCE).unwrap();
    assert_eq!(read_to_end(&mut *reader, 2), ["a", "b"]);
    // A transaction that cannot be whole leaves nothing: its topic is gone.
    let gone = fixture.topic("gone", 1);
    writer.begin().unwrap();
    send(&mut *writer, &topic, 5, "half");
    send(&mut *writer, &gone, 6, "other half");
    fixture.log.admin().delete_topic(&gone, PATIENCE).unwrap();
    assert_eq!(writer.commit(PATIENCE).unwrap_err().next, NextStep::Abort);
    writer.abort(PATIENCE).unwrap();
    assert_eq!(fixture.log.admin().watermarks(&at, PATIENCE).unwrap(), (0, 2));
}

#[test]
fn a_topic_is_told_from_another_of_the_same_name() {
    let fixture = support::kafka();
    let topic = fixture.topic("identity", 3);
    // The broker that is asked may not know a topic yet that was made just now.
    let deadline = Instant::now() + PATIENCE;
    let first = loop {
        match fixture.log.admin().topic_identity(&topic, PATIENCE).unwrap() {
            Some(first) => break first,
            None => assert!(Instant::now() < deadline, "{topic} is not known"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(first.id.is_some() && first.partitions == 3, "{first:?}");
    let none = unique("none");
    assert_eq!(fixture.log.admin().topic_identity(&none, PATIENCE).unwrap(), None);
    assert_eq!(fixture.log.admin().topic(&none, PATIENCE).unwrap(), None, "asking does not create it");
}
