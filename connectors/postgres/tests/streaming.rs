//! Snapshot and streaming against the real server.

mod common;

use common::{Database, take};
use serde_json::json;

#[test]
fn what_is_there_comes_first_and_then_what_changes() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'one'), (2, 'two')");
    let mut run = database.start(&[]);
    let events = take(&mut run, 2);
    assert_eq!(events[0].topic, "server.public.t");
    assert_eq!(events[0].key, json!({"id": 1}));
    assert_eq!(events[0].short(), ("r".into(), json!({"id": 1, "name": "one"})));
    assert_eq!(events[0].value["source"]["snapshot"], "first");
    assert_eq!(events[1].value["source"]["snapshot"], "last");
    database.sql("INSERT INTO t VALUES (3, NULL); UPDATE t SET name = 'zwei' WHERE id = 2; DELETE FROM t WHERE id = 1");
    let events = take(&mut run, 4);
    let short: Vec<_> = events.iter().map(common::Event::short).collect();
    assert_eq!(
        short,
        [
            ("c".into(), json!({"id": 3, "name": null})),
            ("u".into(), json!({"id": 2, "name": "zwei"})),
            ("d".into(), json!({"id": 1, "name": null})),
            ("tombstone".into(), json!({"id": 1})),
        ]
    );
    let source = &events[0].value["source"];
    assert_eq!(source["connector"], "postgresql");
    assert_eq!((&source["db"], &source["schema"], &source["table"]), (&json!(database.name), &json!("public"), &json!("t")));
    assert_eq!(source["snapshot"], "false");
    assert!(source["lsn"].as_i64() > Some(0) && source["txId"].as_i64() > Some(0));
    run.stop().unwrap();
}
