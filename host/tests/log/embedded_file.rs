//! What the embedded log promises about its file: after kill -9, beside other processes, on a full disk.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::BinaryArray;
use tributary::log::embedded::EmbeddedLog;
use tributary::log::{
    ClientSettings, CommittedOffset, ConsumerEvent, Log, LogAdmin, LogRecords, NewTopic, Subscription,
};

use crate::support::{PATIENCE, partition, read_some, settings, texts, values};

/// Set for the child that a test starts of this very program, to write until it is killed.
const WRITE_TO: &str = "TRIBUTARY_TEST_WRITE_TO";

fn write(log: &dyn Log, topic: &str, records: &LogRecords) {
    let mut producer = log.producer(&ClientSettings::new()).unwrap();
    assert_eq!(producer.send(topic, records, 0, 1, PATIENCE).unwrap(), records.len());
    producer.finish(1);
    producer.flush(PATIENCE).unwrap();
    assert!(producer.poll(Duration::ZERO).unwrap().iter().all(|c| c.failed.is_empty()));
}

fn read(log: &dyn Log, topic: &str, count: usize) -> Vec<String> {
    texts(&read_some(&mut *log.reader(&ClientSettings::new(), &[(partition(topic, 0), 0)]).unwrap(), count))
}

/// Not a test by itself: the child of `kill_9_loses_nothing_acknowledged`.
#[test]
fn child_that_writes() {
    let Some(path) = std::env::var_os(WRITE_TO) else { return };
    let log = EmbeddedLog::open(Path::new(&path)).unwrap();
    let mut producer = log.producer(&ClientSettings::new()).unwrap();
    let mut next = log.admin().watermarks(&partition("t", 0), PATIENCE).map_or(0, |(_, next)| next as u64);
    let mut out = std::io::stdout();
    loop {
        let lines: Vec<String> = (next..next + 500).map(|i| format!("{i:08} {}", "z".repeat(80))).collect();
        next += 500;
        assert_eq!(producer.send("t", &values(&lines), 0, next, PATIENCE).unwrap(), 500);
        producer.finish(next);
        for completion in producer.poll(Duration::ZERO).unwrap() {
            assert!(completion.failed.is_empty());
            writeln!(out, "acknowledged {}", completion.token).unwrap();
            out.flush().unwrap();
        }
    }
}

/// Files of the version before have no metadata with their offsets.
#[test]
fn a_file_of_the_former_format_is_converted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.db");
    let at = partition("t", 0);
    let log = EmbeddedLog::open(&path).unwrap();
    write(&log, "t", &values(&["a", "b"]));
    log.admin().alter_group_offsets("g", &[(at.clone(), Some(1))], PATIENCE).unwrap();
    drop(log);
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch("ALTER TABLE group_offsets DROP COLUMN metadata; PRAGMA user_version=2;").unwrap();
    drop(file);
    for _ in 0..2 {
        let log = EmbeddedLog::open(&path).unwrap();
        let commits = log.admin().group_commits("g", PATIENCE).unwrap();
        assert_eq!(commits, [CommittedOffset { partition: at.clone(), offset: 1, metadata: "".into() }]);
        assert_eq!(read(&log, "t", 2), ["a", "b"]);
    }
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.db");
    for round in 0..5_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "embedded_file::child_that_writes", "--nocapture", "--test-threads=1"])
            .env(WRITE_TO, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300 + 137 * round));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let acknowledged: u64 =
            text.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).max().unwrap_or(0);
        assert!(acknowledged > 0, "the child wrote nothing in round {round}: {text}");
        let log = EmbeddedLog::open(&path).unwrap();
        let (first, end) = log.admin().watermarks(&partition("t", 0), PATIENCE).unwrap();
        assert!(first == 0 && end as u64 >= acknowledged, "{end} of {acknowledged} acknowledged");
        let lines = read(&log, "t", end as usize);
        for (i, line) in lines.iter().enumerate() {
            assert!(line.starts_with(&format!("{i:08} ")), "record {i} is {line}");
        }
    }
}

#[test]
fn one_owner_and_others_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/log.db");
    assert!(EmbeddedLog::attach(&path).unwrap_err().message.contains("there is no embedded log"));
    assert!(!path.exists(), "looking makes nothing");
    let owner = EmbeddedLog::open(&path).unwrap();
    let error = EmbeddedLog::open(&path).unwrap_err();
    assert!(error.message.contains("in use by another worker") && !error.retriable, "{error}");
    write(&owner, "t", &values(&["by the owner"]));

    // Beside it: reads, writes, topics; no groups.
    let guest = EmbeddedLog::attach(&path).unwrap();
    assert_eq!(read(&guest, "t", 1), ["by the owner"]);
    let error = guest.consumer(&settings(&[("group.id", "g")]), &Subscription::Topics(vec!["t".into()])).err().unwrap();
    assert!(error.message.contains("worker that owns it"), "{error}");

    // The owner's waiting consumer sees what the guest writes, also to a topic that the guest makes.
    let topics = Subscription::Pattern("t|later".into());
    let mut consumer = owner.consumer(&settings(&[("group.id", "g")]), &topics).unwrap();
    assert_eq!(texts(&read_some(&mut *consumer, 1)), ["by the owner"]);
    consumer.commit(&[(partition("t", 0), 1)]).unwrap();
    let start = Instant::now();
    write(&guest, "t", &values(&["by the guest"]));
    assert_eq!(texts(&read_some(&mut *consumer, 1)), ["by the guest"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    consumer.commit(&[(partition("t", 0), 2)]).unwrap();
    write(&guest, "later", &values(&["in a new topic"]));
    assert_eq!(texts(&read_some(&mut *consumer, 1)), ["in a new topic"]);

    // Both at once: no offset is given twice and none is left out.
    let (owner, guest) = (Arc::new(owner), Arc::new(guest));
    let writers: Vec<_> = [owner.clone(), guest.clone()]
        .into_iter()
        .map(|log| {
            std::thread::spawn(move || {
                for _ in 0..50 {
                    write(&*log, "both", &values(&["x"; 20]));
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|w| w.join().unwrap());
    let start = [(partition("both", 0), 0)];
    let records = read_some(&mut *owner.reader(&ClientSettings::new(), &start).unwrap(), 2000);
    assert!(records.iter().enumerate().all(|(i, r)| r.offset == i as i64));
    drop(consumer);
    drop((owner, guest));
    EmbeddedLog::open(&path).unwrap();
}

#[test]
fn a_waiting_reader_is_woken_by_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(EmbeddedLog::open(&dir.path().join("log.db")).unwrap());
    write(&*log, "t", &values(&["first"]));
    let mut reader = log.reader(&ClientSettings::new(), &[(partition("t", 0), 1)]).unwrap();
    let waiting = std::thread::spawn(move || {
        let events = reader.poll(10, 1 << 20, Duration::from_secs(30)).unwrap();
        (Instant::now(), events)
    });
    std::thread::sleep(Duration::from_millis(300));
    let mut producer = log.producer(&ClientSettings::new()).unwrap();
    producer.send("t", &values(&["second"]), 0, 1, PATIENCE).unwrap();
    producer.flush(PATIENCE).unwrap();
    let committed = Instant::now();
    let (woken, events) = waiting.join().unwrap();
    assert!(matches!(&events[..], [ConsumerEvent::Batch(batch)] if batch.offsets.value(0) == 1));
    assert!(
        woken.saturating_duration_since(committed) < Duration::from_millis(60),
        "woken {:?} later",
        woken - committed
    );
}

#[test]
fn a_full_disk_fails_what_is_in_flight_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.db");
    let log = EmbeddedLog::open(&path).unwrap();
    write(&log, "t", &values(&["before"]));
    // The limit raises what a full disk does, at the same places.
    log.limit_size(Some(640 << 10)).unwrap();
    let mut producer = log.producer(&ClientSettings::new()).unwrap();
    let big = LogRecords::from_values(BinaryArray::from_iter_values((0..20_u8).map(|i| vec![i; 50_000])));
    producer.send("t", &big, 0, 7, PATIENCE).unwrap();
    producer.finish(7);
    producer.flush(PATIENCE).unwrap();
    let refused = producer.send("t", &big, 0, 8, PATIENCE).unwrap_err();
    assert!(refused.retriable, "nothing may overtake what has failed");
    let completions = producer.poll(PATIENCE).unwrap();
    assert_eq!((completions.len(), completions[0].token, completions[0].failed.len()), (1, 7, 20));
    let error = &completions[0].failed[0].1;
    assert!(error.retriable && error.code == Some("DISK_FULL") && error.message.contains("free some space"), "{error}");
    assert_eq!(log.admin().watermarks(&partition("t", 0), PATIENCE).unwrap(), (0, 1), "nothing was half written");
    // With space again, the same producer goes on.
    log.limit_size(None).unwrap();
    assert_eq!(producer.send("t", &big, 0, 9, PATIENCE).unwrap(), 20);
    producer.finish(9);
    producer.flush(PATIENCE).unwrap();
    assert!(producer.poll(PATIENCE).unwrap().iter().all(|c| c.failed.is_empty()));
    drop(producer);
    drop(log);
    let log = EmbeddedLog::open(&path).unwrap();
    let mut reader = log.reader(&ClientSettings::new(), &[(partition("t", 0), 0)]).unwrap();
    assert_eq!(read_some(&mut *reader, 21).len(), 21);
}

#[test]
fn old_records_go_and_the_newest_of_each_key_stays() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(&dir.path().join("log.db")).unwrap();
    let topic = |name: &str, pairs: &[(&str, &str)]| {
        let new = NewTopic { name: name.into(), partitions: Some(1), settings: settings(pairs), ..NewTopic::default() };
        log.create_topic(&new, PATIENCE).unwrap();
    };
    topic("aged", &[("retention.ms", "1000")]);
    topic("sized", &[("retention.bytes", "100000")]);
    topic("compacted", &[("cleanup.policy", "compact"), ("delete.retention.ms", "0")]);
    let mut old = values(&["old"]);
    old.timestamps = Some(vec![1_000].into());
    write(&log, "aged", &old);
    write(&log, "aged", &values(&["new"]));
    for i in 0..20 {
        write(&log, "sized", &values(&[format!("{i}{}", "x".repeat(9_999))]));
    }
    // Ten keys, two thousand times, and one of them deleted at last.
    let keyed = |range: std::ops::Range<usize>| {
        let mut records = values(&range.clone().map(|i| format!("{i:0100}")).collect::<Vec<_>>());
        records.keys = Some(BinaryArray::from_iter_values(range.map(|i| format!("key-{}", i % 10))));
        records
    };
    write(&log, "compacted", &keyed(0..1000));
    write(&log, "compacted", &keyed(1000..2000));
    let mut tombstone = LogRecords::from_values(BinaryArray::from(vec![None]));
    tombstone.keys = Some(BinaryArray::from_vec(vec![b"key-3"]));
    write(&log, "compacted", &tombstone);
    log.clean().unwrap();
    assert_eq!(log.watermarks(&partition("aged", 0), PATIENCE).unwrap(), (1, 2));
    let (first, next) = log.watermarks(&partition("sized", 0), PATIENCE).unwrap();
    assert_eq!((first, next), (10, 20), "as much as is allowed stays");
    let mut reader = log.reader(&ClientSettings::new(), &[(partition("compacted", 0), 0)]).unwrap();
    let kept = read_some(&mut *reader, 10);
    let offsets: Vec<i64> = kept.iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [1990, 1991, 1992, 1994, 1995, 1996, 1997, 1998, 1999, 2000]);
    assert_eq!(kept[9].value, None, "a tombstone stays for a run");
    // New records make the next run worth it, which removes the tombstone.
    write(&log, "compacted", &keyed(2000..2003));
    write(&log, "compacted", &keyed(2010..3013));
    log.clean().unwrap();
    let mut reader = log.reader(&ClientSettings::new(), &[(partition("compacted", 0), 0)]).unwrap();
    let kept = read_some(&mut *reader, 10);
    assert!(kept.iter().all(|r| r.value.is_some()), "the tombstone is gone");
    // A position that is gone is reset.
    let mut reader = log.reader(&ClientSettings::new(), &[(partition("sized", 0), 3)]).unwrap();
    assert_eq!(read_some(&mut *reader, 10)[0].offset, 10);
    let none = settings(&[("auto.offset.reset", "none")]);
    let mut reader = log.reader(&none, &[(partition("sized", 0), 3)]).unwrap();
    assert!(reader.poll(1, 1, Duration::ZERO).unwrap_err().message.contains("auto.offset.reset"));
}

#[test]
fn a_damaged_batch_is_reported_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.db");
    let log = EmbeddedLog::open(&path).unwrap();
    write(&log, "t", &values(&["a", "b"]));
    write(&log, "t", &values(&["c"]));
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute("UPDATE batches SET data = zeroblob(100) WHERE base_offset = 2", [])
        .unwrap();
    let mut reader = log.reader(&ClientSettings::new(), &[(partition("t", 0), 0)]).unwrap();
    assert_eq!(texts(&read_some(&mut *reader, 2)), ["a", "b"]);
    let error = reader.poll(10, 1 << 20, Duration::from_secs(1)).unwrap_err();
    assert!(error.message.contains("t-0 at offset 2") && !error.retriable, "{error}");
    // A file of a later version, and one that is no database.
    drop((reader, log));
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(EmbeddedLog::open(&path).unwrap_err().message.contains("later version"));
    let noise = dir.path().join("noise.db");
    std::fs::write(&noise, vec![b'n'; 10_000]).unwrap();
    assert!(EmbeddedLog::open(&noise).unwrap_err().message.contains("damaged or not a log"));
}
