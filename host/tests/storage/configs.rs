//! The config topic.

use std::time::{Duration, Instant};

use tributary::herder::RestartRequest;
use tributary::storage::{ConfigChange, ConfigLog, ConfigWrite, SessionKey, StorageErrorKind};
use tributary::worker::State;
use tributary_harness::KafkaBroker;

use crate::support::{Group, PATIENCE, config, eventually, produce, produce_text, read_all, refused};

fn connector(name: &str, value: &str, initial: Option<State>) -> ConfigWrite {
    ConfigWrite::Connector { name: name.to_owned(), config: config(&[("name", name), ("v", value)]), initial }
}

#[test]
fn what_one_worker_writes_the_others_see_and_a_restart_reads_only_what_is_new() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let (leader, other) = (group.worker(), group.worker());
    assert_eq!(leader.take_changes(), [ConfigChange::Current]);
    leader.configs.claim().unwrap();
    let key = SessionKey { key: vec![7; 32], algorithm: "HmacSHA256".into(), created_ms: 1 };
    let tasks = vec![config(&[("t", "0")]), config(&[("t", "1")])];
    leader
        .configs
        .write(&[
            connector("a", "1", Some(State::Paused)),
            ConfigWrite::Tasks("a".into(), tasks.clone()),
            connector("b", "1", None),
            ConfigWrite::SessionKey(key.clone()),
        ])
        .unwrap();
    // Its own writes are there at once.
    let seen = leader.configs.snapshot();
    assert!(!seen.stale);
    assert_eq!(seen.connectors["a"].target, State::Paused);
    assert_eq!(seen.connectors["a"].tasks.iter().map(|task| (**task).clone()).collect::<Vec<_>>(), tasks);
    assert_eq!(seen.connectors["a"].applied.as_deref(), Some(&config(&[("name", "a"), ("v", "1")])));
    assert_eq!((seen.connectors["b"].target, seen.connectors["b"].tasks.len()), (State::Running, 0));
    assert_eq!(seen.session_key, Some(key));
    assert_eq!(seen.fencing["a"].generation, 1);
    assert!(seen.fencing["a"].pending);

    other.configs.refresh(PATIENCE).unwrap();
    assert_eq!(other.configs.snapshot().connectors, seen.connectors);
    // Whoever does not lead may set target states and log levels, and nothing else.
    other
        .configs
        .write(&[ConfigWrite::Target("b".into(), State::Stopped), ConfigWrite::LoggerLevel("x".into(), "DEBUG".into())])
        .unwrap();
    assert_eq!(other.configs.snapshot().connectors["b"].target, State::Stopped);
    assert_eq!(refused(other.configs.write(&[ConfigWrite::Remove("b".into())])).kind, StorageErrorKind::Fenced);

    let restart = RestartRequest { include_tasks: true, only_failed: true };
    leader.configs.refresh(PATIENCE).unwrap();
    leader
        .configs
        .write(&[
            ConfigWrite::Restart("a".into(), restart),
            ConfigWrite::TaskCount("a".into(), 2),
            ConfigWrite::Remove("b".into()),
            connector("a", "2", None),
        ])
        .unwrap();
    let changes = eventually("the last change", || {
        let changes = other.changes.lock().unwrap().clone();
        (changes.last() == Some(&ConfigChange::Connector("a".into()))).then_some(changes)
    });
    assert_eq!(
        changes,
        [
            ConfigChange::Current,
            ConfigChange::Connector("a".into()),
            ConfigChange::Tasks("a".into()),
            ConfigChange::Connector("b".into()),
            ConfigChange::SessionKey,
            ConfigChange::Target("b".into()),
            ConfigChange::LoggerLevel("x".into(), "DEBUG".into()),
            ConfigChange::Restart("a".into(), restart),
            ConfigChange::Fenced("a".into()),
            ConfigChange::Removed("b".into()),
            ConfigChange::Connector("a".into()),
        ]
    );
    other.configs.refresh(PATIENCE).unwrap();
    let seen = other.configs.snapshot();
    assert_eq!((seen.fencing["a"].task_count, seen.fencing["a"].pending), (Some(2), false));
    assert_eq!(seen.connectors.len(), 1);
    // A config that came after the last commit of tasks.
    assert_ne!(seen.connectors["a"].applied, Some(seen.connectors["a"].config.clone()));

    // A restart: everything is there before Kafka was asked, and nothing is read twice.
    let directory = other.stop();
    let again = group.start(directory);
    let remembered = again.configs.snapshot();
    assert!(remembered.stale);
    assert_eq!(
        (&remembered.connectors, &remembered.session_key, &remembered.fencing, remembered.offset),
        (&seen.connectors, &seen.session_key, &seen.fencing, seen.offset)
    );
    again.wait_current(PATIENCE).unwrap();
    again.configs.refresh(PATIENCE).unwrap();
    assert_eq!(again.configs.records_read(), 0);
    leader.configs.write(&[connector("c", "1", None)]).unwrap();
    let directory = again.stop();
    let again = group.start(directory);
    again.wait_current(PATIENCE).unwrap();
    again.configs.refresh(PATIENCE).unwrap();
    assert!(again.configs.records_read() <= 1, "{}", again.configs.records_read());
    assert!(again.configs.snapshot().connectors.contains_key("c"));
}

#[test]
fn a_new_leader_fences_the_last_one() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let (first, second) = (group.worker(), group.worker());
    first.configs.claim().unwrap();
    first.configs.write(&[connector("a", "1", None)]).unwrap();
    second.configs.claim().unwrap();
    let error = refused(first.configs.write(&[connector("a", "2", None), connector("b", "2", None)]));
    assert_eq!(error.kind, StorageErrorKind::Fenced, "{error}");
    assert!(error.message.contains("another worker is the leader now"), "{error}");
    assert!(!first.configs.leads());
    second.configs.write(&[connector("c", "3", None)]).unwrap();
    let seen = second.configs.snapshot();
    assert_eq!(seen.connectors.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(seen.connectors["a"].config.get("v"), Some("1"));
    // It may lead again.
    first.configs.claim().unwrap();
    first.configs.write(&[connector("b", "4", None)]).unwrap();
    assert_eq!(refused(second.configs.write(&[connector("d", "5", None)])).kind, StorageErrorKind::Fenced);
}

#[test]
fn many_writes_of_two_workers_are_each_there_once() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let (leader, other) = (group.worker(), group.worker());
    leader.configs.claim().unwrap();
    leader.configs.write(&[connector("a", "0", None)]).unwrap();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|i| leader.configs.write(&[connector(&format!("c{i}"), "1", None)]).unwrap()));
        scope.spawn(|| {
            for i in 0..50 {
                let state = if i % 2 == 0 { State::Paused } else { State::Stopped };
                other.configs.write(&[ConfigWrite::Target("a".into(), state)]).unwrap();
                assert_eq!(other.configs.snapshot().connectors["a"].target, state);
            }
        });
    });
    println!("50 transactions beside 50 plain writes took {:?}", began.elapsed());
    for worker in [&leader, &other] {
        worker.configs.refresh(PATIENCE).unwrap();
        assert_eq!(worker.configs.snapshot().connectors.len(), 51);
        assert_eq!(worker.configs.snapshot().connectors["a"].target, State::Stopped);
    }
}

#[test]
fn an_incomplete_commit_leaves_the_connector_without_tasks_until_a_complete_one() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let worker = group.worker();
    let topic = group.topic("config");
    let task = |value: &str| format!(r#"{{"properties":{{"v":"{value}"}}}}"#);
    let (one, two) = (task("1"), task("2"));
    let write = |records: &[(&str, Option<&str>)]| {
        produce_text(&group.bootstrap, &topic, records);
        worker.configs.refresh(PATIENCE).unwrap();
        worker.configs.snapshot()
    };
    let seen = write(&[
        ("connector-a-b", Some(r#"{"properties":{"name":"a-b"}}"#)),
        ("task-a-b-0", Some(&one)),
        ("commit-a-b", Some(r#"{"tasks":1}"#)),
    ]);
    assert_eq!(seen.connectors["a-b"].tasks.len(), 1);
    // Task configs without a commit change nothing.
    let seen = write(&[("task-a-b-0", Some(&two)), ("task-a-b-1", Some(&two))]);
    assert_eq!(seen.connectors["a-b"].tasks[0].get("v"), Some("1"));
    // As after a compaction that has taken what the commit counts.
    let seen = write(&[("commit-a-b", Some(r#"{"tasks":3}"#))]);
    assert!(seen.inconsistent.contains("a-b"));
    assert!(seen.connectors["a-b"].tasks.is_empty());
    let directory = worker.stop();
    let worker = group.start(directory);
    assert!(worker.configs.snapshot().inconsistent.contains("a-b"));
    worker.wait_current(PATIENCE).unwrap();
    let seen = {
        produce_text(
            &group.bootstrap,
            &topic,
            // One more than is counted, left over from a commit that had more.
            &[("task-a-b-1", Some(&two)), ("task-a-b-0", Some(&two)), ("commit-a-b", Some(r#"{"tasks":1}"#))],
        );
        worker.configs.refresh(PATIENCE).unwrap();
        worker.configs.snapshot()
    };
    assert!(seen.inconsistent.is_empty());
    assert_eq!(seen.connectors["a-b"].tasks.len(), 1);
    assert_eq!(seen.connectors["a-b"].tasks[0].get("v"), Some("2"));
    // Task configs of a connector that was deleted before.
    produce_text(&group.bootstrap, &topic, &[("task-gone-0", Some(&one)), ("commit-gone", Some(r#"{"tasks":1}"#))]);
    worker.configs.refresh(PATIENCE).unwrap();
    assert!(!worker.configs.snapshot().connectors.contains_key("gone"));
}

#[test]
fn garbage_in_the_topics_is_skipped() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let worker = group.worker();
    let keys: [&[u8]; 14] = [
        b"",
        b"\xff\xfe",
        b"connector-",
        b"connector-x",
        b"task-",
        b"task-x",
        b"task-x-y",
        b"commit-x",
        b"session-key",
        b"status-task-x",
        b"target-state-x",
        b"tasks-fencing-x",
        b"[\"c\"]",
        b"restart-connector-x",
    ];
    let values: [Option<&[u8]>; 8] = [
        None,
        Some(b""),
        Some(b"{"),
        Some(b"null"),
        Some(b"[]"),
        Some(b"\xff"),
        Some(b"{\"properties\":7}"),
        Some(b"{\"tasks\":\"many\",\"state\":\"ON\"}"),
    ];
    let mut records: Vec<(Option<&[u8]>, Option<&[u8]>)> = vec![(None, Some(b"{}")), (None, None)];
    records.extend(keys.iter().flat_map(|key| values.iter().map(|value| (Some(*key), *value))));
    for role in ["config", "offset", "status"] {
        produce(&group.bootstrap, &group.topic(role), &records);
    }
    produce_text(&group.bootstrap, &group.topic("config"), &[("connector-good", Some(r#"{"properties":{"a":"b"}}"#))]);
    worker.configs.refresh(PATIENCE).unwrap();
    worker.offsets.refresh(PATIENCE).unwrap();
    worker.statuses.refresh(PATIENCE).unwrap();
    assert!(worker.configs.snapshot().connectors.contains_key("good"));
    // And not only the first time.
    let directory = worker.stop();
    let worker = group.start(directory);
    worker.wait_current(PATIENCE).unwrap();
    assert_eq!(worker.configs.snapshot().connectors.keys().collect::<Vec<_>>(), ["good"]);
}

#[test]
fn records_are_connects_to_the_byte() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let worker = group.worker();
    worker.configs.claim().unwrap();
    worker
        .configs
        .write(&[
            ConfigWrite::Connector { name: "c".into(), config: config(&[("a", "1")]), initial: Some(State::Stopped) },
            ConfigWrite::Tasks("c".into(), vec![config(&[("a", "1")])]),
            ConfigWrite::SessionKey(SessionKey { key: vec![0, 255], algorithm: "HmacSHA256".into(), created_ms: 5 }),
            ConfigWrite::Remove("c".into()),
        ])
        .unwrap();
    let records: Vec<(String, Option<String>)> = read_all(&group.bootstrap, &group.topic("config"))
        .into_iter()
        .map(|record| (record.key, record.value))
        .collect();
    let expected: [(&str, Option<&str>); 7] = [
        ("target-state-c", Some(r#"{"state":"PAUSED","state.v2":"STOPPED"}"#)),
        ("connector-c", Some(r#"{"properties":{"a":"1"}}"#)),
        ("task-c-0", Some(r#"{"properties":{"a":"1"}}"#)),
        ("commit-c", Some(r#"{"tasks":1}"#)),
        ("session-key", Some(r#"{"key":"AP8=","algorithm":"HmacSHA256","creation-timestamp":5}"#)),
        ("connector-c", None),
        ("target-state-c", None),
    ];
    assert_eq!(records, expected.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))));
}

#[test]
fn ten_thousand_records_are_soon_read_with_and_without_an_image() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    drop(group.worker());
    let value = r#"{"properties":{"connector.class":"FileStreamSource","file":"/tmp/x","topic":"t","tasks.max":"1"}}"#;
    let keys: Vec<String> = (0..10_000).map(|i| format!("connector-c{i}")).collect();
    let records: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (key.as_str(), Some(value))).collect();
    produce_text(&group.bootstrap, &group.topic("config"), &records);
    let mut directory = tempfile::tempdir().unwrap();
    for expected in [10_000, 0] {
        let began = Instant::now();
        let worker = group.start(directory);
        let opened = began.elapsed();
        worker.wait_current(PATIENCE).unwrap();
        println!("{expected} of 10000 records to read: open after {opened:?}, current after {:?}", began.elapsed());
        assert_eq!(worker.configs.snapshot().connectors.len(), 10_000);
        assert_eq!(worker.configs.records_read(), expected);
        // The image is written in the background.
        directory = worker.stop();
        std::thread::sleep(Duration::from_millis(10));
    }
}
