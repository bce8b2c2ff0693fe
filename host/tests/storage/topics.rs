//! The topics themselves: how they are made, refused, and found to be others than they were.

use std::time::Duration;

use tributary::storage::{ConfigChange, ConfigLog, ConfigWrite, StorageErrorKind};
use tributary_harness::KafkaBroker;

use crate::support::{Group, PATIENCE, config, eventually, produce_text, refused};

#[test]
fn topics_are_made_compacted_with_the_settings_of_the_worker() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker)
        .set("config.storage.partitions", "7")
        .set("config.storage.segment.ms", "123456")
        .set("status.storage.cleanup.policy", "delete")
        .set("status.storage.partitions", "3");
    let worker = group.worker();
    let admin = worker.log.admin();
    for (role, partitions) in [("config", 1), ("offset", 4), ("status", 3)] {
        let topic = group.topic(role);
        assert_eq!(admin.topic(&topic, PATIENCE).unwrap().unwrap().partitions, partitions, "{role}");
        assert_eq!(admin.topic_settings(&topic, PATIENCE).unwrap()["cleanup.policy"], "compact", "{role}");
    }
    assert_eq!(admin.topic_settings(&group.topic("config"), PATIENCE).unwrap()["segment.ms"], "123456");
}

#[test]
fn topics_that_would_lose_something_are_refused_in_connects_words() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    broker.create_topic(&group.topic("offset"), 4, &[("cleanup.policy", "compact,delete")]).unwrap();
    let worker = group.start(tempfile::tempdir().unwrap());
    let error = refused(worker.offsets.wait_current(PATIENCE));
    assert_eq!(error.kind, StorageErrorKind::Misconfigured);
    let topic = group.topic("offset");
    assert_eq!(
        error.message,
        format!(
            "Topic '{topic}' supplied via the 'offset.storage.topic' property is required to have 'cleanup.policy=compact' to guarantee consistency and durability of source connector offsets, but found the topic currently has 'cleanup.policy=compact,delete'. Continuing would likely result in eventually losing source connector offsets and problems restarting this Connect cluster in the future. Change the 'offset.storage.topic' property in the Connect worker configurations to use a topic with 'cleanup.policy=compact'."
        )
    );

    let group = Group::new(&broker);
    let topic = group.topic("config");
    broker.create_topic(&topic, 2, &[("cleanup.policy", "compact")]).unwrap();
    let error = refused(group.start(tempfile::tempdir().unwrap()).configs.wait_current(PATIENCE));
    assert_eq!(error.kind, StorageErrorKind::Misconfigured);
    assert_eq!(
        error.message,
        format!(
            "Topic '{topic}' supplied via the 'config.storage.topic' property is required to have a single partition in order to guarantee consistency of connector configurations, but found 2 partitions."
        )
    );
}

#[test]
fn a_topic_that_was_made_anew_is_read_anew() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let topic = group.topic("config");
    let record = |name: &str| (format!("connector-{name}"), r#"{"properties":{"a":"b"}}"#);
    let worker = group.worker();
    let write = |names: &[&str]| {
        let records: Vec<_> = names.iter().map(|name| record(name)).collect();
        let records: Vec<_> = records.iter().map(|(key, value)| (key.as_str(), Some(*value))).collect();
        produce_text(&group.bootstrap, &topic, &records);
    };
    write(&["a", "b", "c"]);
    worker.configs.refresh(PATIENCE).unwrap();
    let anew = || {
        broker.delete_topic(&topic).unwrap();
        eventually("the new topic", || broker.create_topic(&topic, 1, &[("cleanup.policy", "compact")]).ok());
    };
    // While it is running: the end is before what was read.
    anew();
    write(&["d"]);
    eventually("the new content", || {
        // The reader may only learn of it by being asked for the end.
        let _ = worker.configs.refresh(Duration::from_secs(1));
        (worker.configs.snapshot().connectors.keys().collect::<Vec<_>>() == ["d"]).then_some(())
    });
    eventually("being told", || worker.take_changes().contains(&ConfigChange::Replaced).then_some(()));

    // While it is away: the topic has another id, and more records than before.
    let directory = worker.stop();
    anew();
    write(&["e", "f", "g", "h", "i"]);
    let worker = group.start(directory);
    assert_eq!(worker.configs.snapshot().connectors.keys().collect::<Vec<_>>(), ["d"]);
    worker.wait_current(PATIENCE).unwrap();
    assert_eq!(worker.configs.snapshot().connectors.len(), 5);
    assert_eq!(worker.configs.records_read(), 5);
    let directory = worker.stop();
    let worker = group.start(directory);
    worker.wait_current(PATIENCE).unwrap();
    assert_eq!(worker.configs.records_read(), 0);
}

#[test]
fn an_image_that_may_have_missed_tombstones_is_not_used() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker)
        .set("config.storage.delete.retention.ms", "0")
        .set("config.storage.segment.ms", "100")
        .set("config.storage.min.cleanable.dirty.ratio", "0.001")
        .set("config.storage.max.compaction.lag.ms", "100");
    let leader = group.worker();
    leader.configs.claim().unwrap();
    let put =
        |name: &str| ConfigWrite::Connector { name: name.to_owned(), config: config(&[("a", "b")]), initial: None };
    leader.configs.write(&[put("kept"), put("gone")]).unwrap();
    let away = group.worker();
    assert_eq!(away.configs.snapshot().connectors.len(), 2);
    let directory = away.stop();
    leader.configs.write(&[ConfigWrite::Remove("gone".into())]).unwrap();
    // Until the cleaner has taken the connector and its tombstone with it.
    let mut i = 0;
    eventually("compaction", || {
        i += 1;
        leader.configs.write(&[put(&format!("new{i}"))]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let records = crate::support::read_all(&group.bootstrap, &group.topic("config"));
        (!records.iter().any(|record| record.key == "connector-gone")).then_some(())
    });
    let away = group.start(directory);
    assert!(away.configs.snapshot().connectors.contains_key("gone"), "remembered, and marked as old");
    away.wait_current(PATIENCE).unwrap();
    let seen = away.configs.snapshot();
    assert!(seen.connectors.contains_key("kept") && !seen.connectors.contains_key("gone"));
    assert_eq!(seen.connectors, leader.configs.snapshot().connectors);
}
