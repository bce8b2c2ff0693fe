//! Kafka is away: at the start, in the middle of writes, and for the length of a commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tributary::storage::{
    ConfigChange, ConfigLog, ConfigWrite, OffsetStore, StatusRecord, StatusStore, StorageErrorKind,
};
use tributary::worker::{State, TaskId};
use tributary_harness::KafkaBroker;
use tributary_sdk::source::SourcePosition;

use crate::support::{Group, PATIENCE, config, eventually, read_all, refused};

fn connector(name: &str) -> ConfigWrite {
    ConfigWrite::Connector { name: name.to_owned(), config: config(&[("name", name)]), initial: None }
}

#[test]
fn a_worker_remembers_while_kafka_is_away_and_goes_on_when_it_is_back() {
    let mut broker = KafkaBroker::start().unwrap();
    let group = Group::new(&broker);
    let worker = group.worker();
    worker.configs.claim().unwrap();
    worker.configs.write(&[connector("a")]).unwrap();
    let position = |offset: i64| SourcePosition { partition: json!({"p": 1}), offset: Some(json!({"o": offset})) };
    worker.offsets.put("a", &[position(1)]).unwrap();
    worker.offsets.refresh(PATIENCE).unwrap();
    let directory = worker.stop();

    broker.stop().unwrap();
    let began = Instant::now();
    let worker = group.start(directory);
    assert!(began.elapsed() < Duration::from_secs(5), "the worker waited for Kafka: {:?}", began.elapsed());
    let seen = worker.configs.snapshot();
    assert!(seen.stale && seen.connectors.contains_key("a"));
    assert_eq!(worker.offsets.remembered("a"), (vec![position(1)], true));
    let error = refused(worker.wait_current(Duration::from_secs(1)));
    assert_eq!(error.kind, StorageErrorKind::Away);
    assert!(error.message.contains("bootstrap.servers"), "{error}");
    assert_eq!(refused(worker.configs.refresh(Duration::from_secs(1))).kind, StorageErrorKind::Away);
    let status =
        StatusRecord { state: State::Running, trace: None, worker_id: "w:1".into(), generation: 3, version: None };
    worker.statuses.put_connector("a", &StatusRecord { generation: 2, ..status.clone() });
    worker.statuses.put_connector("a", &status);
    assert_eq!(worker.take_changes(), []);

    broker.restart().unwrap();
    worker.wait_current(PATIENCE).unwrap();
    assert!(!worker.configs.snapshot().stale);
    assert_eq!(worker.take_changes(), [ConfigChange::Current]);
    assert_eq!((worker.configs.records_read(), worker.offsets.records_read()), (0, 0));
    worker.configs.claim().unwrap();
    worker.configs.write(&[connector("b")]).unwrap();
    eventually("the status written on return", || {
        let records = read_all(&group.bootstrap, &group.topic("status"));
        records
            .last()
            .filter(|record| record.value.as_deref().is_some_and(|value| value.contains(r#""generation":3"#)))
            .cloned()
    });
}

#[test]
fn writes_through_a_restart_of_the_broker_are_there_or_refused() {
    let mut broker = KafkaBroker::start().unwrap();
    let group = Group::new(&broker);
    let (leader, other) = (group.worker(), group.worker());
    leader.configs.claim().unwrap();
    let restarted = AtomicBool::new(false);
    let (written, refused) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let (mut written, mut refused) = (Vec::new(), Vec::new());
            let began = Instant::now();
            let mut i = 0;
            // Until some were written after the restart, however long that takes here.
            let (mut broken, mut after) = (false, 0);
            while after < 5 {
                assert!(began.elapsed() < PATIENCE * 2, "{refused:?}");
                i += 1;
                let name = format!("c{i}");
                match leader.configs.write(&[connector(&name)]) {
                    Ok(()) => {
                        written.push(name);
                        after += usize::from(broken || restarted.load(Ordering::Acquire));
                    }
                    Err(error) => {
                        refused.push((name, error));
                        broken = true;
                        while leader.configs.claim().is_err() && began.elapsed() < PATIENCE {}
                    }
                }
            }
            (written, refused)
        });
        std::thread::sleep(Duration::from_millis(700));
        broker.kill().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        broker.restart().unwrap();
        restarted.store(true, Ordering::Release);
        writing.join().unwrap()
    });
    println!("{} written, {} refused: {:?}", written.len(), refused.len(), refused.first());
    assert!(written.len() > 1);
    for worker in [&leader, &other] {
        eventually("reading on", || worker.configs.refresh(Duration::from_secs(5)).ok());
        let seen = worker.configs.snapshot();
        assert_eq!(written.iter().find(|name| !seen.connectors.contains_key(*name)), None);
        assert!(seen.connectors.len() <= written.len() + refused.len());
    }
    assert_eq!(leader.configs.snapshot().connectors, other.configs.snapshot().connectors);
}

#[test]
fn offsets_that_could_not_be_committed_are_committed_on_return_while_they_are_current() {
    let mut broker = KafkaBroker::start().unwrap();
    let group = Group::new(&broker);
    let worker = group.worker();
    worker.offsets.set_generation(7);
    let task = |number| TaskId { connector: "c".into(), task: number };
    let position = |partition: &str, offset: i64| SourcePosition {
        partition: json!({"p": partition}),
        offset: Some(json!({"o": offset})),
    };
    let stores: Vec<_> = (0..3)
        .map(|number| {
            let epoch = worker.offsets.task_started(&task(number));
            worker.offsets.for_task(&task(number), 7, epoch, None).unwrap()
        })
        .collect();
    for (number, store) in stores.iter().enumerate() {
        store.put("c", &[position(&number.to_string(), 1)]).unwrap();
    }
    broker.stop().unwrap();
    std::thread::scope(|scope| {
        for (number, store) in stores.iter().enumerate() {
            scope.spawn(move || {
                assert_eq!(refused(store.put("c", &[position(&number.to_string(), 2)])).kind, StorageErrorKind::Away);
            });
        }
    });
    // Task 1 is started again in the meantime: what its last run had is not current any more.
    worker.offsets.task_started(&task(1));
    broker.restart().unwrap();
    let offsets = eventually("the journal being committed", || {
        let partitions = [json!({"p": "0"}), json!({"p": "1"}), json!({"p": "2"})];
        let offsets = worker.offsets.get("c", &partitions).ok()?;
        (offsets[0] == Some(json!({"o": 2})) && offsets[2] == Some(json!({"o": 2}))).then_some(offsets)
    });
    assert_eq!(offsets[1], Some(json!({"o": 1})));
    // A commit of a run that goes on replaces what was journaled of it.
    stores[0].put("c", &[position("0", 3)]).unwrap();
    assert_eq!(worker.offsets.get("c", &[json!({"p": "0"})]).unwrap(), [Some(json!({"o": 3}))]);
}
