//! What every log promises, one function a promise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{Array, BinaryArray, Int32Array, Int64Array, ListArray};
use arrow_schema::{DataType, Field};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tributary::log::commands::{
    ConsumeOptions, Format, ProduceOptions, Start, TopicsOptions, consume, produce, topics,
};
use tributary::log::{
    ClientSettings, CommitError, CommittedOffset, ConsumerEvent, HEADER_FIELDS, LogConsumer, LogRecords, NewTopic,
    Subscription, TopicPartition,
};

use crate::support::{
    Fixture, PATIENCE, Record, accept, partition, poll_for, read_some, rows, settings, texts, unique, values,
};

type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

fn headers(rows: &[Headers<'_>]) -> ListArray {
    let entry =
        StructBuilder::new(HEADER_FIELDS.clone(), vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
    let item = Field::new("item", DataType::Struct(HEADER_FIELDS.clone()), false);
    let mut list = ListBuilder::new(entry).with_field(Arc::new(item));
    for row in rows {
        for (key, value) in *row {
            let entry = list.values();
            entry.field_builder::<StringBuilder>(0).unwrap().append_value(key);
            entry.field_builder::<BinaryBuilder>(1).unwrap().append_option(*value);
            entry.append(true);
        }
        list.append(true);
    }
    list.finish()
}

pub fn what_is_written_is_read(fixture: &Fixture) {
    let topic = fixture.topic("identical", 1);
    let records = LogRecords {
        keys: Some(BinaryArray::from(vec![Some(b"k".as_slice()), None, Some(b""), Some(b"k2"), None])),
        values: BinaryArray::from(vec![Some(b"v".as_slice()), Some(b""), None, Some(&[0, 255, 10]), None]),
        headers: Some(headers(&[
            &[("a", Some(b"1")), ("a", Some(b"2")), ("b", None)],
            &[],
            &[("", Some(b""))],
            &[("long", Some(&[7; 300]))],
            &[],
        ])),
        timestamps: Some(Int64Array::from(vec![
            Some(1_700_000_000_000),
            Some(1_600_000_000_000),
            Some(1),
            None,
            Some(1_750_000_000_123),
        ])),
        partitions: None,
    };
    let before = now();
    fixture.write(&topic, &records);
    let read = fixture.read(&topic, 1, 5);
    let after = now();
    let sent_now = read[3].timestamp.unwrap();
    assert!((before..=after).contains(&sent_now), "{before} {sent_now} {after}");
    let expected: Vec<Record> = (0..5)
        .map(|row| Record {
            partition: 0,
            offset: row as i64,
            timestamp: records.timestamps.as_ref().filter(|t| t.is_valid(row)).map(|t| t.value(row)).or(Some(sent_now)),
            key: records.keys.as_ref().filter(|k| k.is_valid(row)).map(|k| k.value(row).to_vec()),
            value: records.values.is_valid(row).then(|| records.values.value(row).to_vec()),
            headers: crate::support::headers_of(records.headers.as_ref().unwrap(), row),
        })
        .collect();
    assert_eq!(read, expected);

    // Without keys, headers and timestamps the columns are not there, and the time is that of sending.
    let plain = fixture.topic("plain", 1);
    fixture.write(&plain, &values(&["x", "y"]));
    let mut reader = fixture.log.reader(&ClientSettings::new(), &[(partition(&plain, 0), 0)]).unwrap();
    let start = Instant::now();
    loop {
        let events = reader.poll(10, 1 << 20, Duration::from_millis(200)).unwrap();
        if let Some(ConsumerEvent::Batch(batch)) = events.first() {
            assert!(batch.records.keys.is_none() && batch.records.headers.is_none());
            assert!(batch.records.timestamps.as_ref().unwrap().value(0) >= before);
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }
    reader.close(PATIENCE).unwrap();
}

/// Keys, values and headers of all shapes beside each other: what one record has must not touch the next.
pub fn records_of_all_shapes_come_back(fixture: &Fixture) {
    let topic = fixture.topic("shapes", 1);
    let mut random = StdRng::seed_from_u64(20_261_123);
    let mut bytes = |max: usize| -> Option<Vec<u8>> {
        let len = random.random_range(0..=max);
        // Often nothing but zeros, which lengths and counts are made of, too.
        let fill = if random.random_bool(0.5) { 0 } else { random.random() };
        random.random_bool(0.8).then(|| vec![fill; len])
    };
    let shapes: Vec<Shape> = (0..4_000)
        .map(|i| {
            let headers = (0..[0, 0, 0, 1, 2][i % 5]).map(|h| (["", "a", "bb"][(i + h) % 3], bytes(3))).collect();
            (bytes(4), bytes(if i % 50 == 0 { 5_000 } else { 40 }), headers)
        })
        .collect();
    let borrowed: Vec<Vec<_>> =
        shapes.iter().map(|(_, _, headers)| headers.iter().map(|(k, v)| (*k, v.as_deref())).collect()).collect();
    let records = LogRecords {
        keys: Some(shapes.iter().map(|(key, ..)| key.as_deref()).collect()),
        values: shapes.iter().map(|(_, value, _)| value.as_deref()).collect(),
        headers: Some(headers(&borrowed.iter().map(Vec::as_slice).collect::<Vec<_>>())),
        timestamps: None,
        partitions: None,
    };
    fixture.write(&topic, &records);
    for (i, (record, (key, value, headers))) in
        fixture.read(&topic, 1, shapes.len()).into_iter().zip(shapes).enumerate()
    {
        let headers: Vec<_> = headers.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        assert_eq!((record.key, record.value, record.headers), (key, value, headers), "record {i}");
    }
}

type Shape = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(&'static str, Option<Vec<u8>>)>);

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

pub fn explicit_partitions_and_murmur2(fixture: &Fixture) {
    let topic = fixture.topic("partitions", 8);
    let mut records = values(&["p3", "p7", "by key", "by key too"]);
    records.keys = Some(BinaryArray::from(vec![None, Some(b"x".as_slice()), Some(b"foobar"), Some(b"21")]));
    records.partitions = Some(Int32Array::from(vec![Some(3), Some(7), None, None]));
    fixture.write(&topic, &records);
    let read = fixture.read(&topic, 8, 4);
    let at: BTreeMap<_, _> = texts(&read).into_iter().zip(read.iter().map(|r| r.partition)).collect();
    assert_eq!((at["p3"], at["p7"]), (3, 7));
    // Java's murmur2: hash("foobar") = -790332482, hash("21") = -973932308, as Kafka's own tests have them.
    assert_eq!(at["by key"], (-790_332_482_i32 & 0x7fff_ffff) % 8);
    assert_eq!(at["by key too"], (-973_932_308_i32 & 0x7fff_ffff) % 8);

    // A partition that is not there fails its own row only.
    let mut records = values(&["good", "bad"]);
    records.partitions = Some(Int32Array::from(vec![Some(0), Some(99)]));
    let completions = fixture.try_write(&topic, &records, &[]);
    let failed: Vec<_> = completions.iter().flat_map(|c| &c.failed).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].0, 1);
    assert!(failed[0].1.message.contains(&topic), "{}", failed[0].1);
}

pub fn null_keys_are_spread(fixture: &Fixture) {
    let topic = fixture.topic("spread", 4);
    for _ in 0..40 {
        fixture.write(&topic, &values(&["x"]));
    }
    let used: BTreeSet<_> = fixture.read(&topic, 4, 40).iter().map(|r| r.partition).collect();
    assert!(used.len() > 1, "forty sends of a null key went to one of four partitions");
}

pub fn tokens_complete_after_all_their_rows(fixture: &Fixture) {
    let topic = fixture.topic("tokens", 3);
    let mut producer = fixture.log.producer(&ClientSettings::new()).unwrap();
    let records = values(&["a", "b", "c"]);
    assert_eq!(producer.send(&topic, &records, 0, 1, PATIENCE).unwrap(), 3);
    assert_eq!(producer.send(&topic, &records, 1, 2, PATIENCE).unwrap(), 2);
    assert_eq!(producer.send(&topic, &records, 0, 1, PATIENCE).unwrap(), 3);
    producer.flush(PATIENCE).unwrap();
    assert!(producer.poll(Duration::from_millis(50)).unwrap().is_empty(), "no token was finished");
    producer.finish(2);
    assert_eq!(tokens(&producer.poll(Duration::from_secs(5)).unwrap()), [2]);
    producer.finish(1);
    assert_eq!(tokens(&producer.poll(Duration::from_secs(5)).unwrap()), [1]);
    producer.finish(3);
    assert_eq!(tokens(&producer.poll(Duration::from_secs(5)).unwrap()), [3], "a token without rows completes");
    producer.close(PATIENCE).unwrap();
    assert_eq!(fixture.read(&topic, 3, 8).len(), 8);
}

fn tokens(completions: &[tributary::log::Completion]) -> Vec<u64> {
    completions.iter().map(|c| c.token).collect()
}

pub fn tokens_of_one_partition_complete_in_order(fixture: &Fixture) {
    let topic = fixture.topic("order", 1);
    let mut producer = fixture.log.producer(&ClientSettings::new()).unwrap();
    let mut completed = Vec::new();
    for token in 0..200 {
        let records = values(&vec![format!("{token}"); 50]);
        let mut row = 0;
        while row < records.len() {
            row += producer.send(&topic, &records, row, token, PATIENCE).unwrap();
        }
        producer.finish(token);
        completed.extend(producer.poll(Duration::ZERO).unwrap());
    }
    producer.flush(PATIENCE).unwrap();
    completed.extend(producer.poll(Duration::ZERO).unwrap());
    assert_eq!(tokens(&completed), (0..200).collect::<Vec<_>>());
    producer.close(PATIENCE).unwrap();
}

pub fn a_record_too_large_fails_alone(fixture: &Fixture) {
    let topic = fixture.topic("large", 1);
    let big = vec![b'x'; 3 << 20];
    let records = LogRecords::from_values(BinaryArray::from_vec(vec![b"one", &big, b"three"]));
    let completions = fixture.try_write(&topic, &records, &[("max.request.size", "1000000")]);
    let failed: Vec<_> = completions.iter().flat_map(|c| &c.failed).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].0, failed[0].1.code), (1, Some("MSG_SIZE_TOO_LARGE")));
    assert!(!failed[0].1.retriable && failed[0].1.message.contains("max.request.size"), "{}", failed[0].1);
    assert_eq!(texts(&fixture.read(&topic, 1, 2)), ["one", "three"]);
    // Within the limits a large one passes.
    let allowed = unique("large-allowed");
    let settings = [("max.message.bytes".to_string(), (8 << 20).to_string())].into();
    let new = NewTopic { name: allowed.clone(), partitions: Some(1), replication_factor: None, settings };
    fixture.log.admin().create_topic(&new, PATIENCE).unwrap();
    let completions = fixture.try_write(&allowed, &records, &[("max.request.size", "8000000")]);
    assert!(completions[0].failed.is_empty(), "{completions:?}");
    assert_eq!(fixture.read(&allowed, 1, 3)[1].value.as_ref().unwrap().len(), big.len());
}

pub fn topics_appear_when_written_to(fixture: &Fixture) {
    let topic = unique("appears");
    assert_eq!(fixture.log.admin().topic(&topic, PATIENCE).unwrap(), None);
    fixture.write(&topic, &values(&["x"]));
    assert_eq!(fixture.log.admin().topic(&topic, PATIENCE).unwrap().unwrap().partitions, 1);
    assert_eq!(texts(&fixture.read(&topic, 1, 1)), ["x"]);
}

pub fn big_batches_keep_their_order(fixture: &Fixture) {
    let topic = fixture.topic("big", 1);
    let lines: Vec<String> = (0..300_000).map(|i| format!("{i:09} {}", "y".repeat(i % 150))).collect();
    fixture.write(&topic, &values(&lines));
    let read = fixture.read(&topic, 1, lines.len());
    assert!(read.iter().enumerate().all(|(i, r)| r.offset == i as i64));
    assert!(texts(&read) == lines, "300,000 lines differ");
}

pub fn a_poll_keeps_to_its_bounds(fixture: &Fixture) {
    let topic = fixture.topic("bounds", 1);
    let lines: Vec<String> = (0..5_000).map(|i| format!("{i:0100}")).collect();
    fixture.write(&topic, &values(&lines));
    let mut reader = fixture.log.reader(&ClientSettings::new(), &[(partition(&topic, 0), 0)]).unwrap();
    let mut seen = 0;
    let start = Instant::now();
    while seen < 5_000 {
        assert!(start.elapsed() < PATIENCE, "{seen} came");
        let by_count = seen % 2 == 0;
        let (max_records, max_bytes) = if by_count { (37, 1 << 20) } else { (10_000, 10_000) };
        let mut count = 0;
        for event in reader.poll(max_records, max_bytes, Duration::from_millis(200)).unwrap() {
            let ConsumerEvent::Batch(batch) = event else { panic!("{event:?}") };
            assert_eq!(batch.offsets.value(0), seen);
            count += batch.records.len();
            seen += batch.records.len() as i64;
        }
        // Bytes are met to within a record, once the size of records is known.
        assert!(count <= if by_count { 37 } else { 110 }, "{count} records");
    }
    reader.close(PATIENCE).unwrap();
}

pub fn a_group_resumes_where_it_committed(fixture: &Fixture) {
    let (topic, group) = (fixture.topic("resume", 2), unique("group"));
    let mut records = values(&(0..100).map(|i| format!("{i}")).collect::<Vec<_>>());
    records.partitions = Some(Int32Array::from_iter_values((0..100).map(|i| i % 2)));
    fixture.write(&topic, &records);
    let mut member = fixture.member(&group, &[&topic]);
    assert_eq!(read_some(&mut *member, 100).len(), 100);
    member.commit(&[(partition(&topic, 0), 10), (partition(&topic, 1), 50)]).unwrap();
    let both = [partition(&topic, 0), partition(&topic, 1)];
    assert_eq!(member.committed(&both, PATIENCE).unwrap(), [(both[0].clone(), Some(10)), (both[1].clone(), Some(50))]);
    member.close(PATIENCE).unwrap();
    let mut again = fixture.member(&group, &[&topic]);
    let read = read_some(&mut *again, 40);
    assert!(read.iter().all(|r| r.partition == 0) && read[0].offset == 10 && read.len() == 40);
    again.close(PATIENCE).unwrap();
    // Nothing committed, from the latest.
    let group = unique("latest");
    let latest = settings(&[("group.id", &group), ("auto.offset.reset", "latest")]);
    let mut latest = fixture.log.consumer(&latest, &Subscription::Topics(vec![topic.clone()])).unwrap();
    let start = Instant::now();
    let mut assigned = false;
    while !assigned {
        assert!(start.elapsed() < PATIENCE);
        for event in latest.poll(10, 1 << 20, Duration::from_millis(100)).unwrap() {
            assigned |= matches!(event, ConsumerEvent::Assigned(_));
            accept(&mut *latest, &event);
        }
    }
    assert!(poll_for(&mut *latest, Duration::from_millis(1500)).is_empty());
    assert_eq!(latest.committed(&both, PATIENCE).unwrap(), [(both[0].clone(), None), (both[1].clone(), None)]);
    fixture.write(&topic, &values(&["new"]));
    assert_eq!(texts(&read_some(&mut *latest, 1)), ["new"]);
    latest.close(PATIENCE).unwrap();
}

/// A member and what it holds.
struct Member {
    consumer: Box<dyn LogConsumer>,
    held: BTreeSet<TopicPartition>,
    records: Vec<Record>,
    revoked: usize,
}

impl Member {
    fn new(consumer: Box<dyn LogConsumer>) -> Self {
        Self { consumer, held: BTreeSet::new(), records: Vec::new(), revoked: 0 }
    }

    fn step(&mut self) {
        for event in self.consumer.poll(1000, 1 << 20, Duration::from_millis(20)).unwrap() {
            match &event {
                ConsumerEvent::Batch(batch) => {
                    assert!(self.held.contains(&batch.topic_partition), "{:?} is not held", batch.topic_partition);
                    self.records.extend(rows(batch));
                }
                ConsumerEvent::End(..) => {}
                ConsumerEvent::Assigned(partitions) => self.held.extend(partitions.iter().cloned()),
                ConsumerEvent::Revoked(partitions) => {
                    self.revoked += 1;
                    // Still this member's: its offsets can be committed.
                    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
                    for record in &self.records {
                        ends.insert(record.partition, record.offset + 1);
                    }
                    let offsets: Vec<_> =
                        partitions.iter().filter_map(|p| Some((p.clone(), *ends.get(&p.partition)?))).collect();
                    self.consumer.commit(&offsets).unwrap();
                    self.held.retain(|p| !partitions.contains(p));
                }
                ConsumerEvent::Lost(partitions) => self.held.retain(|p| !partitions.contains(p)),
            }
            accept(&mut *self.consumer, &event);
        }
    }
}

pub fn partitions_move_between_two_members(fixture: &Fixture) {
    let (topic, group) = (fixture.topic("moves", 4), unique("group"));
    let write = |from: usize| {
        let mut records = values(&(from..from + 40).map(|i| format!("{i}")).collect::<Vec<_>>());
        records.partitions = Some(Int32Array::from_iter_values((0..40).map(|i| i % 4)));
        fixture.write(&topic, &records);
    };
    write(0);
    let mut first = Member::new(fixture.member(&group, &[&topic]));
    let until = |what: &str, members: &mut [&mut Member], done: &dyn Fn(&[&mut Member]) -> bool| {
        let start = Instant::now();
        while !done(members) {
            assert!(start.elapsed() < PATIENCE, "{what}");
            members.iter_mut().for_each(|m| m.step());
        }
    };
    until("the first member gets all", &mut [&mut first], &|m| m[0].held.len() == 4 && m[0].records.len() == 40);
    let mut second = Member::new(fixture.member(&group, &[&topic]));
    until("two each", &mut [&mut first, &mut second], &|m| m.iter().all(|m| m.held.len() == 2));
    assert!(first.held.is_disjoint(&second.held) && first.revoked >= 1);
    // Range: the first half and the second half.
    let numbers: Vec<Vec<i32>> =
        [&first, &second].iter().map(|m| m.held.iter().map(|p| p.partition).collect()).collect();
    assert!(numbers.contains(&vec![0, 1]) && numbers.contains(&vec![2, 3]), "{numbers:?}");
    write(40);
    until("forty more", &mut [&mut first, &mut second], &|m| m[0].records.len() + m[1].records.len() >= 80);
    let all: BTreeSet<_> = first.records.iter().chain(&second.records).map(|r| (r.partition, r.offset)).collect();
    assert_eq!(all.len(), 80, "each record once");
    second.consumer.close(PATIENCE).unwrap();
    until("the first member gets all again", &mut [&mut first], &|m| m[0].held.len() == 4);
    first.consumer.close(PATIENCE).unwrap();
}

pub fn pause_and_seek_deliver_nothing_stale(fixture: &Fixture) {
    let topic = fixture.topic("stale", 2);
    let mut records = values(&(0..20_000).map(|i| format!("{i}")).collect::<Vec<_>>());
    records.partitions = Some(Int32Array::from_iter_values((0..20_000).map(|i| i % 2)));
    fixture.write(&topic, &records);
    let (zero, one) = (partition(&topic, 0), partition(&topic, 1));
    let mut reader = fixture.log.reader(&ClientSettings::new(), &[(zero.clone(), 0), (one.clone(), 0)]).unwrap();
    let mut next = [0_i64; 2];
    let step = |reader: &mut dyn LogConsumer, next: &mut [i64; 2], max: usize| -> usize {
        let mut count = 0;
        for event in reader.poll(max, 1 << 20, Duration::from_millis(100)).unwrap() {
            let ConsumerEvent::Batch(batch) = event else { panic!("{event:?}") };
            let position = &mut next[batch.topic_partition.partition as usize];
            for offset in batch.offsets.values() {
                assert_eq!(offset, position, "{}", batch.topic_partition.partition);
                *position += 1;
                count += 1;
            }
        }
        count
    };
    let start = Instant::now();
    while next[0] < 100 || next[1] < 100 {
        assert!(start.elapsed() < PATIENCE, "{next:?}");
        step(&mut *reader, &mut next, 500);
    }
    // Paused: nothing of partition 0, which keeps its place.
    reader.pause(std::slice::from_ref(&zero)).unwrap();
    let paused_at = next[0];
    while next[1] < 9_000 {
        assert!(start.elapsed() < PATIENCE, "{next:?}");
        step(&mut *reader, &mut next, 500);
        assert_eq!(next[0], paused_at);
    }
    // Sought while records of the old position are fetched already, forwards and backwards.
    for target in [5_000, 17, 9_990, 0] {
        reader.seek(&one, target).unwrap();
        next[1] = target;
        let end = target + 10;
        while next[1] < end {
            assert!(start.elapsed() < PATIENCE, "{next:?}");
            step(&mut *reader, &mut next, 100);
        }
    }
    // Sought while paused.
    reader.seek(&zero, 42).unwrap();
    next[0] = 42;
    reader.resume(std::slice::from_ref(&zero)).unwrap();
    while next[0] < 10_000 || next[1] < 10_000 {
        assert!(start.elapsed() < PATIENCE, "{next:?}");
        step(&mut *reader, &mut next, 10_000);
    }
    // Paused at the end, resumed, and new records come once.
    reader.pause(&[zero.clone(), one.clone()]).unwrap();
    let mut more = values(&["more", "more"]);
    more.partitions = Some(Int32Array::from(vec![0, 1]));
    fixture.write(&topic, &more);
    assert!(poll_for(&mut *reader, Duration::from_millis(500)).is_empty());
    reader.resume(&[zero, one]).unwrap();
    while next != [10_001, 10_001] {
        assert!(start.elapsed() < PATIENCE, "{next:?}");
        step(&mut *reader, &mut next, 10_000);
    }
    reader.close(PATIENCE).unwrap();
}

pub fn partitions_keep_their_places_while_others_come_and_go(fixture: &Fixture) {
    let topic = fixture.topic("places", 5);
    let mut records = values(&(0..500).map(|i| format!("{i}")).collect::<Vec<_>>());
    records.partitions = Some(Int32Array::from_iter_values((0..500).map(|i| i % 5)));
    fixture.write(&topic, &records);
    let all: Vec<_> = (0..5).map(|number| partition(&topic, number)).collect();
    let start: Vec<_> = all[..4].iter().map(|partition| (partition.clone(), 0)).collect();
    let mut reader = fixture.log.reader(&ClientSettings::new(), &start).unwrap();
    read_some(&mut *reader, 400);
    // Two go, one after the other, and nothing comes of 2 in between; 3 is paused and was sought.
    reader.seek(&all[3], 90).unwrap();
    reader.pause(&all[3..4]).unwrap();
    reader.unassign(&all[..1]).unwrap();
    reader.unassign(&all[1..2]).unwrap();
    let places = |records: &[Record]| records.iter().map(|r| (r.partition, r.offset)).collect::<Vec<_>>();
    let quiet = |reader: &mut dyn LogConsumer| {
        let events = poll_for(reader, Duration::from_millis(1_500));
        assert!(events.is_empty(), "{events:?}");
    };
    quiet(&mut *reader);
    // Others come, each from where it is to begin: that is not where it was.
    reader.assign(&[(all[4].clone(), Some(98))]).unwrap();
    reader.assign(&[(all[0].clone(), Some(99))]).unwrap();
    let mut came = places(&read_some(&mut *reader, 3));
    came.sort_unstable();
    assert_eq!(came, [(0, 99), (4, 98), (4, 99)]);
    reader.unassign(&all[..1]).unwrap();
    reader.unassign(&all[4..]).unwrap();
    quiet(&mut *reader);
    reader.resume(&all[3..4]).unwrap();
    let came = places(&read_some(&mut *reader, 10));
    assert_eq!(came, (90..100).map(|offset| (3, offset)).collect::<Vec<_>>());
    let mut more = values(&["more"; 5]);
    more.partitions = Some(Int32Array::from_iter_values(0..5));
    fixture.write(&topic, &more);
    let mut came = places(&read_some(&mut *reader, 2));
    came.sort_unstable();
    assert_eq!(came, [(2, 100), (3, 100)]);
    reader.close(PATIENCE).unwrap();
}

pub fn a_pattern_finds_topics_that_come_later(fixture: &Fixture) {
    let prefix = unique("pattern");
    let names = [format!("{prefix}-1"), format!("{prefix}-2")];
    for name in [&names[0], &format!("{prefix}-x")] {
        let topic = NewTopic { name: name.clone(), partitions: Some(1), ..NewTopic::default() };
        fixture.log.admin().create_topic(&topic, PATIENCE).unwrap();
        fixture.write(name, &values(&[name]));
    }
    let pattern = Subscription::Pattern(format!(r"{prefix}-\d"));
    let group = unique("group");
    let with = settings(&[("group.id", &group), ("metadata.max.age.ms", "1000")]);
    let mut consumer = fixture.log.consumer(&with, &pattern).unwrap();
    let mut got = texts(&read_some(&mut *consumer, 1));
    fixture.write(&names[1], &values(&[&names[1]]));
    // A rebalance starts every partition from its committed offset: commit first.
    consumer.commit(&[(partition(&names[0], 0), 1)]).unwrap();
    got.extend(texts(&read_some(&mut *consumer, 1)));
    assert_eq!(got, names);
    consumer.close(PATIENCE).unwrap();
}

pub fn offsets_carry_metadata_of_their_owner(fixture: &Fixture) {
    let (topic, group) = (fixture.topic("metadata", 1), unique("metadata-group"));
    fixture.write(&topic, &values(&["a", "b", "c", "d"]));
    let member = || {
        let more = [("group.id", group.as_str()), ("session.timeout.ms", "6000"), ("group.instance.id", "one")];
        let earliest = [("auto.offset.reset", "earliest"), ("enable.auto.commit", "false")];
        let settings = settings(&more).into_iter().chain(settings(&earliest)).collect();
        fixture.log.consumer(&settings, &Subscription::Topics(vec![topic.clone()])).unwrap()
    };
    let commit =
        |offset, metadata: &str| CommittedOffset { partition: partition(&topic, 0), offset, metadata: metadata.into() };
    let at = [partition(&topic, 0)];
    let mut first = member();
    read_some(&mut *first, 4);
    assert_eq!(first.committed_with(&at, PATIENCE).unwrap(), []);
    first.commit_with(&[commit(1, "a token: ☃")]).map_err(|error| format!("{error:?}")).unwrap();
    assert_eq!(first.committed_with(&at, PATIENCE).unwrap(), [commit(1, "a token: ☃")]);
    assert_eq!(fixture.log.admin().group_commits(&group, PATIENCE).unwrap(), [commit(1, "a token: ☃")]);
    first.commit(&[(partition(&topic, 0), 2)]).unwrap();
    assert_eq!(first.committed_with(&at, PATIENCE).unwrap(), [commit(2, "")]);
    let longest = "x".repeat(4096);
    first.commit_with(&[commit(2, &longest)]).map_err(|error| format!("{error:?}")).unwrap();

    // Another one has its place, and its partitions, from here on.
    let mut second = member();
    assert_eq!(texts(&read_some(&mut *second, 2)), ["c", "d"]);
    match first.commit_with(&[commit(4, "too late")]) {
        Err(CommitError::Refused(_)) => {}
        other => panic!("a former member has committed, or does not know: {other:?}"),
    }
    assert_eq!(second.committed_with(&at, PATIENCE).unwrap(), [commit(2, &longest)]);
    second.commit_with(&[commit(4, "mine")]).map_err(|error| format!("{error:?}")).unwrap();
    drop(first.close(PATIENCE));
    assert_eq!(second.committed_with(&at, PATIENCE).unwrap(), [commit(4, "mine")]);
    second.close(PATIENCE).unwrap();
}

pub fn admin_tells_and_changes(fixture: &Fixture) {
    let admin = fixture.log.admin();
    assert!(!fixture.log.cluster_id(PATIENCE).unwrap().is_empty());
    let topic = unique("admin");
    let settings_of = BTreeMap::from([("cleanup.policy".to_string(), "compact".to_string())]);
    let new = NewTopic { name: topic.clone(), partitions: Some(3), replication_factor: Some(1), settings: settings_of };
    assert!(admin.create_topic(&new, PATIENCE).unwrap());
    assert!(!admin.create_topic(&new, PATIENCE).unwrap(), "it is there already");
    assert_eq!(admin.topic(&topic, PATIENCE).unwrap().unwrap().partitions, 3);
    assert!(admin.topics(PATIENCE).unwrap().iter().any(|t| t.name == topic));
    let described = admin.topic_settings(&topic, PATIENCE).unwrap();
    assert_eq!(described["cleanup.policy"], "compact");
    assert!(described.contains_key("retention.ms"), "defaults are told too");
    let one = partition(&topic, 1);
    assert_eq!(admin.watermarks(&one, PATIENCE).unwrap(), (0, 0));
    let mut records = values(&["a", "b", "c"]);
    records.keys = Some(BinaryArray::from_vec(vec![b"1", b"2", b"3"]));
    records.partitions = Some(Int32Array::from(vec![1, 1, 1]));
    records.timestamps = Some(Int64Array::from(vec![1_000, 2_000, 3_000]));
    fixture.write(&topic, &records);
    assert_eq!(admin.watermarks(&one, PATIENCE).unwrap(), (0, 3));
    assert_eq!(admin.offset_at(&one, 1_500, PATIENCE).unwrap(), Some(1));
    assert_eq!(admin.offset_at(&one, 2_000, PATIENCE).unwrap(), Some(1));
    assert_eq!(admin.offset_at(&one, 9_000, PATIENCE).unwrap(), None);

    let group = unique("admin-group");
    assert_eq!(admin.group_offsets(&group, PATIENCE).unwrap(), []);
    let zero = partition(&topic, 0);
    admin.alter_group_offsets(&group, &[(zero.clone(), Some(0)), (one.clone(), Some(2))], PATIENCE).unwrap();
    assert_eq!(admin.group_offsets(&group, PATIENCE).unwrap(), [(zero.clone(), 0), (one.clone(), 2)]);
    let mut member = fixture.member(&group, &[&topic]);
    assert_eq!(texts(&read_some(&mut *member, 1)), ["c"]);
    let error = admin.alter_group_offsets(&group, &[(one.clone(), Some(0))], PATIENCE).unwrap_err();
    assert!(error.message.contains(&group), "{error}");
    assert!(admin.delete_group(&group, PATIENCE).is_err(), "it has a member");
    member.close(PATIENCE).unwrap();
    admin.alter_group_offsets(&group, &[(zero, None)], PATIENCE).unwrap();
    assert_eq!(admin.group_offsets(&group, PATIENCE).unwrap(), [(one, 2)]);
    admin.delete_group(&group, PATIENCE).unwrap();
    admin.delete_group(&group, PATIENCE).unwrap();
    assert_eq!(admin.group_offsets(&group, PATIENCE).unwrap(), []);

    admin.delete_topic(&topic, PATIENCE).unwrap();
    let start = Instant::now();
    while admin.topic(&topic, PATIENCE).unwrap().is_some() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(admin.delete_topic(&topic, PATIENCE).unwrap_err().code, Some("UNKNOWN_TOPIC_OR_PART"));
    assert!(admin.topic_settings(&topic, PATIENCE).is_err());
}

pub fn a_reader_reads_from_given_offsets(fixture: &Fixture) {
    let topic = fixture.topic("reader", 2);
    let mut records = values(&["0a", "0b", "1a", "1b"]);
    records.partitions = Some(Int32Array::from(vec![0, 0, 1, 1]));
    fixture.write(&topic, &records);
    let mut reader =
        fixture.log.reader(&ClientSettings::new(), &[(partition(&topic, 0), 1), (partition(&topic, 1), 0)]).unwrap();
    let mut read = texts(&read_some(&mut *reader, 3));
    read.sort();
    assert_eq!(read, ["0b", "1a", "1b"]);
    assert!(poll_for(&mut *reader, Duration::from_millis(200)).is_empty());
    reader.close(PATIENCE).unwrap();
}

pub fn commands_write_and_read_lines(fixture: &Fixture) {
    let (log, topic) = (&*fixture.log, unique("commands"));
    let stop = AtomicBool::new(false);
    let write = |text: &str, options: ProduceOptions| {
        produce(log, &ProduceOptions { topic: topic.clone(), ..options }, &mut text.as_bytes(), &stop).unwrap()
    };
    let read = |options: ConsumeOptions| {
        let mut out = Vec::new();
        let options = ConsumeOptions { topic: topic.clone(), exit_at_end: true, ..options };
        let count = consume(log, &options, &mut out, &stop).unwrap();
        (count, String::from_utf8(out).unwrap())
    };
    let produced = write("one\r\ntwo\n\nlast without an end", ProduceOptions::default());
    assert_eq!((produced.records, produced.refused), (4, 0));
    assert_eq!(read(ConsumeOptions::default()), (4, "one\ntwo\n\nlast without an end\n".into()));
    let keyed = ProduceOptions {
        key_separator: Some(":".into()),
        headers: vec![("from".into(), "a test".into())],
        partition: Some(0),
        empty_is_null: true,
        ..ProduceOptions::default()
    };
    write("k:v\nk2:\nnone\n", keyed);
    let format = Format::parse(r"%o %k=%v/%V %h\n").unwrap();
    let expected = "4 k=v/1 from=a test\n5 k2=/-1 from=a test\n6 =none/4 from=a test\n";
    assert_eq!(
        read(ConsumeOptions { start: Start::Offset(4), format: format.clone(), ..Default::default() }),
        (3, expected.into())
    );
    assert_eq!(
        read(ConsumeOptions { start: Start::Last(3), count: Some(1), format, ..Default::default() }).1,
        "4 k=v/1 from=a test\n"
    );
    assert_eq!(read(ConsumeOptions { start: Start::End, ..Default::default() }), (0, String::new()));
    assert_eq!(read(ConsumeOptions { start: Start::Timestamp(now() + 1_000_000), ..Default::default() }).0, 0);
    assert_eq!(read(ConsumeOptions { start: Start::Timestamp(1), format: Format::Json, ..Default::default() }).0, 7);
    // A refused line is told with its number, and the others are written.
    let small = ProduceOptions { settings: settings(&[("max.request.size", "1000")]), ..Default::default() };
    let produced = write(&format!("short\n{}\nshort\n", "x".repeat(2_000)), small);
    assert_eq!((produced.records, produced.refused), (2, 1));
    assert!(produced.first_refusal.unwrap().starts_with("line 2: "));

    let mut out = Vec::new();
    topics(log, &TopicsOptions::default(), &mut out).unwrap();
    let list = String::from_utf8(out).unwrap();
    let line = list.lines().find(|line| line.starts_with(&topic)).unwrap();
    assert_eq!(line.split_whitespace().skip(1).take(2).collect::<Vec<_>>(), ["1", "9"], "{list}");
    let mut out = Vec::new();
    topics(log, &TopicsOptions { topic: Some(topic.clone()), json: true }, &mut out).unwrap();
    let described: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (&described["partitions"][0]["next_offset"], &described["settings"]["cleanup.policy"]),
        (&9.into(), &"delete".into())
    );
    let missing = TopicsOptions { topic: Some(unique("missing")), json: false };
    assert!(topics(log, &missing, &mut Vec::new()).unwrap_err().message.contains("no such topic"));
    // A reader that has gone ends the command.
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    consume(log, &ConsumeOptions { topic, ..Default::default() }, &mut Gone, &stop).unwrap();
}

pub fn lag_is_what_is_left(fixture: &Fixture) {
    let topic = fixture.topic("lag", 1);
    fixture.write(&topic, &values(&vec!["x"; 1000]));
    let mut reader = fixture.log.reader(&ClientSettings::new(), &[(partition(&topic, 0), 0)]).unwrap();
    let mut read = 0;
    let start = Instant::now();
    while read < 300 {
        assert!(start.elapsed() < PATIENCE);
        for event in reader.poll(100, 1 << 20, Duration::from_millis(200)).unwrap() {
            let ConsumerEvent::Batch(batch) = event else { continue };
            read += batch.records.len();
        }
    }
    assert_eq!(reader.lag(), [(partition(&topic, 0), 1000 - read as i64)]);
    reader.close(PATIENCE).unwrap();
}
