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
    assert_eq!(
        (&source["db"], &source["schema"], &source["table"]),
        (&json!(database.name), &json!("public"), &json!("t"))
    );
    assert_eq!(source["snapshot"], "false");
    assert!(source["lsn"].as_i64() > Some(0) && source["txId"].as_i64() > Some(0));
    run.stop().unwrap();
}

fn short(events: &[common::Event]) -> Vec<(String, serde_json::Value)> {
    events.iter().map(common::Event::short).collect()
}

#[test]
fn another_key_is_another_record() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)");
    let mut run = database.start(&[("snapshot.mode", "no_data")]);
    run.poll().unwrap();
    database.sql("INSERT INTO t VALUES (1, 7); UPDATE t SET id = 2; UPDATE t SET v = 8");
    let events = take(&mut run, 5);
    assert_eq!(
        short(&events),
        [
            ("c".into(), json!({"id": 1, "v": 7})),
            // The server sent the key alone: a required column has its least value.
            ("d".into(), json!({"id": 1, "v": 0})),
            ("tombstone".into(), json!({"id": 1})),
            ("c".into(), json!({"id": 2, "v": 7})),
            ("u".into(), json!({"id": 2, "v": 8})),
        ]
    );
    assert_eq!(events[1].key, json!({"id": 1}));
    assert_eq!(events[3].key, json!({"id": 2}));
    run.stop().unwrap();
}

#[test]
fn replica_identities_say_what_was_before() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE whole (id int PRIMARY KEY, v text); ALTER TABLE whole REPLICA IDENTITY FULL; \
         CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, c text); CREATE UNIQUE INDEX i ON by_index (b); \
         ALTER TABLE by_index REPLICA IDENTITY USING INDEX i; \
         CREATE TABLE keyless (v text); ALTER TABLE keyless REPLICA IDENTITY FULL",
    );
    let mut run = database.start(&[("snapshot.mode", "never"), ("tombstones.on.delete", "false")]);
    run.poll().unwrap();
    database.sql("INSERT INTO whole VALUES (1, 'a'); UPDATE whole SET v = 'b'; DELETE FROM whole");
    let events = take(&mut run, 3);
    assert_eq!(events[1].value["before"], json!({"id": 1, "v": "a"}));
    assert_eq!(events[1].value["after"], json!({"id": 1, "v": "b"}));
    assert_eq!(events[2].value["before"], json!({"id": 1, "v": "b"}));
    database.sql("INSERT INTO by_index VALUES (1, 2, 'x'); UPDATE by_index SET c = 'y'; DELETE FROM by_index");
    let events = take(&mut run, 3);
    assert!(events.iter().all(|event| event.key == json!({"b": 2})), "{events:?}");
    assert_eq!(events[1].value["before"], json!(null));
    assert_eq!(events[2].value["before"], json!({"a": 0, "b": 2, "c": null}));
    database.sql("INSERT INTO keyless VALUES ('x'); UPDATE keyless SET v = 'y'; DELETE FROM keyless");
    let events = take(&mut run, 3);
    assert!(events.iter().all(|event| event.key.is_null()));
    assert_eq!(events[1].value["before"], json!({"v": "x"}));
    run.stop().unwrap();
}

#[test]
fn large_values_that_did_not_change_are_marked() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE t (id int PRIMARY KEY, big text, bytes bytea, list text[], doc jsonb, n int); \
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL, ALTER bytes SET STORAGE EXTERNAL, ALTER list SET STORAGE EXTERNAL, \
                       ALTER doc SET STORAGE EXTERNAL; \
         CREATE TABLE whole (id int PRIMARY KEY, big text, n int); ALTER TABLE whole ALTER big SET STORAGE EXTERNAL; \
         ALTER TABLE whole REPLICA IDENTITY FULL",
    );
    let mut run = database.start(&[("snapshot.mode", "never"), ("unavailable.value.placeholder", "same")]);
    run.poll().unwrap();
    let big = "x".repeat(10_000);
    database.sql(&format!(
        "INSERT INTO t VALUES (1, '{big}', '{big}', ARRAY['{big}'], '{{\"a\":\"{big}\"}}', 1); UPDATE t SET n = 2; \
         INSERT INTO whole VALUES (1, '{big}', 1); UPDATE whole SET n = 2"
    ));
    let events = take(&mut run, 4);
    assert_eq!(events[0].value["after"]["big"].as_str().map(str::len), Some(10_000));
    let same = json!({"id": 1, "big": "same", "bytes": "c2FtZQ==", "list": ["same"], "doc": "same", "n": 2});
    assert_eq!(events[1].value["after"], same);
    // What the old row has need not be marked.
    assert_eq!(events[3].value["after"]["big"].as_str(), Some(&*big));
    run.stop().unwrap();
}

#[test]
fn truncations_come_when_they_are_not_skipped() {
    let database = Database::new();
    database.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    let mut run = database.start(&[("snapshot.mode", "never"), ("skipped.operations", "c")]);
    run.poll().unwrap();
    database.sql("INSERT INTO a VALUES (1); TRUNCATE a, b");
    let mut events = take(&mut run, 2);
    events.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert_eq!(
        (&*events[0].topic, &events[0].value["op"], &events[0].key),
        ("server.public.a", &json!("t"), &json!(null))
    );
    assert_eq!((&*events[1].topic, &events[1].value["op"]), ("server.public.b", &json!("t")));
    run.stop().unwrap();
}

#[test]
fn columns_change_while_the_source_runs() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')");
    let mut run = database.start(&[]);
    take(&mut run, 1);
    database.sql(
        "BEGIN; INSERT INTO t VALUES (2, 'b'); ALTER TABLE t ADD COLUMN w int DEFAULT 5; INSERT INTO t VALUES (3, 'c'); COMMIT; \
         ALTER TABLE t DROP COLUMN v; INSERT INTO t VALUES (4); ALTER TABLE t RENAME w TO x; \
         ALTER TABLE t ALTER x TYPE text; INSERT INTO t VALUES (5, 'e'); CREATE TABLE u (id int PRIMARY KEY); \
         CREATE TYPE mood AS ENUM ('sad', 'happy'); ALTER TABLE u ADD m mood; INSERT INTO u VALUES (1, 'happy')",
    );
    let events = take(&mut run, 5);
    let rows: Vec<_> = events.iter().map(|event| event.value["after"].clone()).collect();
    assert_eq!(
        rows,
        [
            json!({"id": 2, "v": "b"}),
            json!({"id": 3, "v": "c", "w": 5}),
            json!({"id": 4, "w": 5}),
            json!({"id": 5, "x": "e"}),
            json!({"id": 1, "m": "happy"}),
        ]
    );
    assert_eq!(events[4].topic, "server.public.u");
    run.stop().unwrap();
}

#[test]
fn filters_choose_tables_and_columns() {
    let database = Database::new();
    database.sql(
        "CREATE SCHEMA s; CREATE TABLE s.orders (id int PRIMARY KEY, secret text, \"Mixed Case\" int, c int); \
         CREATE TABLE s.other (id int PRIMARY KEY); CREATE TABLE orders (id int PRIMARY KEY); \
         INSERT INTO s.orders VALUES (1, 'x', 2, 3); INSERT INTO s.other VALUES (1); INSERT INTO orders VALUES (1)",
    );
    let mut run = database.start(&[
        ("table.include.list", "s\\.or.*"),
        ("column.exclude.list", "s.orders.secret"),
        ("message.key.columns", "s.orders:Mixed Case,c"),
        ("publication.autocreate.mode", "filtered"),
    ]);
    let events = take(&mut run, 1);
    assert_eq!(events[0].topic, "server.s.orders");
    assert_eq!(events[0].key, json!({"Mixed Case": 2, "c": 3}));
    assert_eq!(events[0].value["after"], json!({"id": 1, "Mixed Case": 2, "c": 3}));
    assert_eq!(
        database.sql("SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = 'dbz_publication'"),
        "s|orders"
    );
    database.sql("INSERT INTO s.other VALUES (2); INSERT INTO s.orders VALUES (2, 'y', 5, 6)");
    assert_eq!(take(&mut run, 1)[0].value["after"]["id"], 2);
    run.stop().unwrap();
}

#[test]
fn partitions_are_tables_or_parts_of_one() {
    for (root, topics) in [("false", ["server.public.p1", "server.public.p2"]), ("true", ["server.public.p"; 2])] {
        let database = Database::new();
        database.sql(
            "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); \
             INSERT INTO p VALUES (1, 'a'), (11, 'b')",
        );
        let mut run = database.start(&[("publish.via.partition.root", root)]);
        let mut read: Vec<String> = take(&mut run, 2).into_iter().map(|event| event.topic).collect();
        read.sort();
        assert_eq!(read, topics);
        database.sql("INSERT INTO p VALUES (2, 'c'), (12, 'd')");
        let mut streamed: Vec<String> = take(&mut run, 2).into_iter().map(|event| event.topic).collect();
        streamed.sort();
        assert_eq!(streamed, topics);
        run.stop().unwrap();
    }
}
