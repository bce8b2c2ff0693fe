//! Source offsets.

use serde_json::{Value, json};
use tributary::storage::OffsetStore;
use tributary_harness::KafkaBroker;
use tributary_sdk::source::SourcePosition;

use crate::support::{Group, PATIENCE, produce_text, read_all};

fn position(partition: Value, offset: Option<Value>) -> SourcePosition {
    SourcePosition { partition, offset }
}

#[test]
fn offsets_of_one_worker_are_read_by_the_next_under_the_keys_that_are_there() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let worker = group.worker();
    let topic = group.topic("offset");
    // As a Java connector with a LinkedHashMap wrote it; a HashMap would list `server` first.
    let there = r#"["c",{"database":"d","server":"s"}]"#;
    produce_text(&group.bootstrap, &topic, &[(there, Some(r#"{"lsn":1}"#))]);
    let partition = json!({"server": "s", "database": "d"});
    assert_eq!(
        worker.offsets.get("c", &[partition.clone(), json!({"x": 1})]).unwrap(),
        [Some(json!({"lsn": 1})), None]
    );
    worker
        .offsets
        .put(
            "c",
            &[
                position(partition.clone(), Some(json!({"lsn": 2}))),
                position(json!({"filename": "/tmp/\"ü\u{1}"}), Some(json!({"position": 12}))),
                position(json!({"filename": "gone"}), Some(json!({"position": 1}))),
            ],
        )
        .unwrap();
    worker.offsets.put("c", &[position(json!({"filename": "gone"}), None)]).unwrap();
    worker.offsets.put("d", &[position(json!({"filename": "other"}), Some(json!({"position": 3})))]).unwrap();

    let records = read_all(&group.bootstrap, &topic);
    let at = |key: &str| records.iter().filter(|record| record.key == key).cloned().collect::<Vec<_>>();
    let server = at(there);
    assert_eq!(
        server.iter().map(|record| record.value.as_deref()).collect::<Vec<_>>(),
        [Some(r#"{"lsn":1}"#), Some(r#"{"lsn":2}"#)]
    );
    assert_eq!(server[0].partition, server[1].partition);
    assert_eq!(at("[\"c\",{\"filename\":\"/tmp/\\\"ü\\u0001\"}]").len(), 1);
    assert_eq!(at(r#"["c",{"filename":"gone"}]"#)[1].value, None);

    let next = group.worker();
    let mut all = next.offsets.all("c").unwrap();
    all.sort_by_key(|position| position.partition.to_string());
    assert_eq!(
        all,
        [
            position(json!({"database": "d", "server": "s"}), Some(json!({"lsn": 2}))),
            position(json!({"filename": "/tmp/\"ü\u{1}"}), Some(json!({"position": 12}))),
        ]
    );
    let directory = next.stop();
    let again = group.start(directory);
    let (remembered, stale) = again.offsets.remembered("c");
    assert_eq!((remembered.len(), stale), (2, true));
    again.wait_current(PATIENCE).unwrap();
    again.offsets.refresh(PATIENCE).unwrap();
    assert_eq!(again.offsets.records_read(), 0);
}

#[test]
fn a_connectors_own_topic_counts_before_the_groups() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let worker = group.worker();
    let (a, b) = (json!({"p": "a"}), json!({"p": "b"}));
    worker
        .offsets
        .put("c", &[position(a.clone(), Some(json!({"o": 1}))), position(b.clone(), Some(json!({"o": 1})))])
        .unwrap();
    let own_topic = format!("{}-own", group.name);
    let own = worker.offsets.with_topic(Some(&own_topic)).unwrap();
    assert_eq!(own.get("c", &[a.clone(), b.clone()]).unwrap(), [Some(json!({"o": 1})), Some(json!({"o": 1}))]);
    own.put("c", &[position(a.clone(), Some(json!({"o": 2})))]).unwrap();
    produce_text(&group.bootstrap, &own_topic, &[(r#"["c",{"p":"b"}]"#, Some(r#"{"o":3}"#))]);
    assert_eq!(own.get("c", &[a.clone(), b.clone()]).unwrap(), [Some(json!({"o": 2})), Some(json!({"o": 3}))]);
    assert_eq!(
        worker.offsets.get("c", &[a.clone(), b.clone()]).unwrap(),
        [Some(json!({"o": 2})), Some(json!({"o": 1}))]
    );
    own.put("c", &[position(a.clone(), None)]).unwrap();
    assert_eq!(own.all("c").unwrap(), [position(b, Some(json!({"o": 3})))]);
    assert!(read_all(&group.bootstrap, &own_topic).len() >= 3);
}
