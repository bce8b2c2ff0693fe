//! The status topic.

use tributary::storage::{StatusRecord, StatusStore, TopicStatus};
use tributary::worker::{State, TaskId};
use tributary_harness::KafkaBroker;

use crate::support::{Group, PATIENCE, eventually, produce_text, read_all};

fn status(state: State, worker: &str, generation: i32) -> StatusRecord {
    StatusRecord { state, trace: None, worker_id: worker.to_owned(), generation, version: Some("1.0".to_owned()) }
}

fn task(connector: &str, task: u32) -> TaskId {
    TaskId { connector: connector.to_owned(), task }
}

#[test]
fn others_see_what_a_worker_reports_and_what_it_takes_back() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let (one, two) = (group.worker(), group.worker());
    one.statuses.put_connector("a-b", &status(State::Running, "one:1", 1));
    one.statuses.put_task(&task("a-b", 0), &status(State::Running, "one:1", 1));
    let failed =
        StatusRecord { trace: Some("no\n\"file\"".into()), version: None, ..status(State::Failed, "one:1", 1) };
    one.statuses.put_task(&task("a-b", 1), &failed);
    let used = TopicStatus { topic: "t".into(), task: 1, discovered_ms: 5 };
    one.statuses.put_topic("a-b", &used);
    one.statuses.put_topic("a-b", &TopicStatus { discovered_ms: 6, ..used.clone() });
    // At once for itself.
    assert_eq!(one.statuses.tasks("a-b").unwrap()[1], (1, failed.clone()));
    eventually("the other worker's view", || {
        (two.statuses.tasks("a-b").unwrap().len() == 2 && two.statuses.topics("a-b").unwrap().len() == 1).then_some(())
    });
    assert_eq!(two.statuses.tasks("a-b").unwrap()[1], (1, failed));
    assert_eq!(two.statuses.topics("a-b").unwrap(), [used]);
    assert_eq!(two.statuses.connector("a-b").unwrap(), Some(status(State::Running, "one:1", 1)));

    two.statuses.remove_task(&task("a-b", 1));
    eventually("the removal of a task", || (one.statuses.tasks("a-b").unwrap().len() == 1).then_some(()));
    one.statuses.refresh(PATIENCE).unwrap();
    one.statuses.remove_connector("a-b");
    eventually("the removal of all", || two.statuses.connectors().is_empty().then_some(()));
    let records = read_all(&group.bootstrap, &group.topic("status"));
    let last = |key: &str| records.iter().rfind(|record| record.key == key).unwrap().value.clone();
    for key in ["status-connector-a-b", "status-task-a-b-0", "status-task-a-b-1", "status-topic-t:connector-a-b"] {
        assert_eq!(last(key), None, "{key}");
    }
    let first = records.iter().find(|record| record.key == "status-task-a-b-1").unwrap();
    assert_eq!(
        first.value.as_deref(),
        Some(r#"{"state":"FAILED","trace":"no\n\"file\"","worker_id":"one:1","generation":1,"version":null}"#)
    );
    let topic = records.iter().find(|record| record.key == "status-topic-t:connector-a-b").unwrap();
    assert_eq!(
        topic.value.as_deref(),
        Some(r#"{"topic":{"name":"t","connector":"a-b","task":1,"discoverTimestamp":5}}"#)
    );
}

#[test]
fn a_stale_worker_does_not_overwrite_what_a_newer_generation_says() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let (old, new) = (group.worker(), group.worker());
    let id = task("c", 0);
    new.statuses.put_task(&id, &status(State::Running, "new:1", 5));
    eventually("the newer state", || old.statuses.tasks("c").unwrap().pop());
    for state in [State::Unassigned, State::Failed] {
        old.statuses.put_task(&id, &status(state, "old:1", 4));
        assert_eq!(old.statuses.tasks("c").unwrap(), [(0, status(State::Running, "new:1", 5))]);
    }
    // Written before it could know better: readers know.
    let late = r#"{"state":"UNASSIGNED","trace":null,"worker_id":"old:1","generation":5,"version":null}"#;
    produce_text(&group.bootstrap, &group.topic("status"), &[("status-task-c-0", Some(late))]);
    for worker in [&old, &new] {
        worker.statuses.refresh(PATIENCE).unwrap();
        assert_eq!(worker.statuses.tasks("c").unwrap(), [(0, status(State::Running, "new:1", 5))]);
    }
    // The owner itself, and a later generation, may.
    new.statuses.put_task(&id, &status(State::Unassigned, "new:1", 5));
    old.statuses.put_task(&id, &status(State::Failed, "old:1", 6));
    eventually("the latest state", || {
        (new.statuses.tasks("c").unwrap() == [(0, status(State::Failed, "old:1", 6))]).then_some(())
    });
}
