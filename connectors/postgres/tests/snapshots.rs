//! Snapshots in parts, and those that signals ask for while streaming: what the records leave is what is there.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use common::{Database, Event, PATIENCE, Run, SIGNALS, events, signal, stored, until, up_to_now};
use serde_json::{Value, json};
use tributary_testkit::TestServices;

/// Something that keeps its value while it is not sent.
const SAME: &str = "__debezium_unavailable_value";

/// What the records leave of a table: `v` by `id`.
#[derive(Default)]
struct Left(BTreeMap<i64, Value>);

impl Left {
    fn take(&mut self, records: &[Event], table: &str) {
        for event in records.iter().filter(|event| event.topic == format!("server.public.{table}")) {
            let id = event.key["id"].as_i64().unwrap();
            let (op, row) = event.short();
            if op == "d" || op == "tombstone" {
                self.0.remove(&id);
            } else if row["v"] != json!(SAME) {
                self.0.insert(id, row["v"].clone());
            } else {
                assert!(self.0.contains_key(&id), "{id} keeps a value that nobody has sent");
            }
        }
    }

    fn check(&self, database: &Database, table: &str) {
        let rows = database.sql(&format!("SELECT id, v FROM {table} ORDER BY id"));
        let there: BTreeMap<i64, Value> = rows
            .lines()
            .filter_map(|line| line.split_once('|'))
            .map(|(id, v)| (id.parse().unwrap(), json!(v)))
            .collect();
        assert_eq!(self.0.len(), there.len());
        assert!(self.0 == there, "other values than in the table");
    }
}

#[test]
fn a_table_is_read_again_while_it_changes() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, v text); \
         INSERT INTO t SELECT g, 'old' FROM generate_series(1, 3000) g"
    ));
    let more = [
        ("snapshot.mode", "never"),
        ("signal.data.collection", "public.signals"),
        ("incremental.snapshot.chunk.size", "100"),
    ];
    let services = TestServices::new();
    let mut run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
    run.poll().unwrap();
    signal(&database, "1", "execute-snapshot", r#"{"data-collections": ["public.t"], "type": "incremental"}"#);
    let (mut left, over) = (Left::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if over.load(Ordering::Acquire) {
                    break;
                }
                database.sql(&format!(
                    "UPDATE t SET v = 'u{round}' WHERE id % 97 = {round} % 97; DELETE FROM t WHERE id % 101 = {round} % 101; \
                     INSERT INTO t VALUES (({round} * 101) % 3000 + 1, 'i{round}'), (5000 + {round}, 'n') ON CONFLICT DO NOTHING; \
                     UPDATE t SET id = id + 10000 WHERE id = ({round} * 53) % 3000"
                ));
            }
        });
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // The task is killed twice on the way.
            for goal in [500, 1500, usize::MAX] {
                let read = until(&mut run, |run, read| {
                    let again = read.iter().filter(|event| event.value["op"] == "r").count();
                    again >= goal || run.services().logged("that a signal asked for are read")
                });
                left.take(&read, "t");
                if goal < usize::MAX {
                    assert!(stored(&services)["adhoc"][0]["current"]["last"].is_array(), "{}", stored(&services));
                    run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
                }
            }
        }));
        over.store(true, Ordering::Release);
        read.unwrap();
    });
    left.take(&up_to_now(&mut run, &database), "t");
    left.check(&database, "t");
    assert!(stored(&services)["adhoc"].is_null());
    run.stop().unwrap();
}

#[test]
fn an_idle_table_is_read_again_at_once() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE t (a text, b int, PRIMARY KEY (b, a)); \
         INSERT INTO t SELECT 'x' || g, g % 7 FROM generate_series(1, 1000) g"
    ));
    let more = [
        ("snapshot.mode", "never"),
        ("signal.data.collection", "public.signals"),
        ("incremental.snapshot.chunk.size", "64"),
    ];
    let mut run = database.start(&more);
    run.poll().unwrap();
    let data = r#"{"data-collections": ["public\\.t", "public.none"], "additional-conditions": [{"data-collection": "public.t", "filter": "b <> 3"}]}"#;
    signal(&database, "1", "execute-snapshot", data);
    let read = until(&mut run, |run, _| run.services().logged("that a signal asked for are read"));
    let again: Vec<&Event> = read.iter().filter(|event| event.value["op"] == "r").collect();
    assert_eq!(again.len(), 1000 - 143);
    assert!(again.iter().all(|event| event.value["source"]["snapshot"] == "incremental" && event.key["b"] != json!(3)));
    run.stop().unwrap();
}

#[test]
fn streaming_waits_for_a_blocking_snapshot() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (v text); INSERT INTO t SELECT 'x' FROM generate_series(1, 50)"
    ));
    let more = [("snapshot.mode", "never"), ("signal.data.collection", "public.signals"), ("max.batch.size", "10")];
    let services = TestServices::new();
    let mut run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
    run.poll().unwrap();
    // It has no key: it cannot be read beside.
    let data = |kind: &str| format!(r#"{{"data-collections": ["public.t"], "type": "{kind}"}}"#);
    signal(&database, "1", "execute-snapshot", &data("incremental"));
    signal(&database, "2", "nonsense", "");
    signal(&database, "3", "log", r#"{"message": "hello"}"#);
    until(&mut run, |run, _| run.services().logged("hello"));
    up_to_now(&mut run, &database);
    assert!(run.services().logged("no primary key") && run.services().logged("nonsense is not known"));
    signal(&database, "4", "execute-snapshot", &data("blocking"));
    database.sql("INSERT INTO t VALUES ('later')");
    let first = until(&mut run, |_, read| read.iter().filter(|event| event.value["op"] == "r").count() >= 20);
    assert!(stored(&services)["adhoc"][0]["blocking"] == json!(true), "{}", stored(&services));
    drop(run);
    // It is taken again after a crash; then comes what changed.
    let mut run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
    let mut read = up_to_now(&mut run, &database);
    read.splice(0..0, first);
    let ops: Vec<String> =
        read.iter().filter(|event| event.topic == "server.public.t").map(|event| event.short().0).collect();
    assert_eq!(ops.iter().filter(|op| *op == "c").count(), 1, "{ops:?}");
    assert!(ops.iter().filter(|op| *op == "r").count() >= 51, "{ops:?}");
    assert!(stored(&services)["adhoc"].is_null());
    run.stop().unwrap();
}

#[test]
fn a_signal_that_the_server_refuses_does_not_end_the_task() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x')"
    ));
    let mut run = database.start(&[("snapshot.mode", "never"), ("signal.data.collection", "public.signals")]);
    run.poll().unwrap();
    for kind in ["incremental", "blocking"] {
        let data = format!(
            r#"{{"data-collections": ["public.t"], "type": "{kind}", "additional-conditions": [{{"data-collection": "public.t", "filter": "nothing > 5"}}]}}"#
        );
        signal(&database, kind, "execute-snapshot", &data);
        let said = if kind == "blocking" { 2 } else { 1 };
        let is_it = |line: &&tributary_testkit::LogLine| line.message.starts_with("public.t is not read");
        until(&mut run, |run, _| run.services().logs().iter().filter(is_it).count() == said);
    }
    let read = up_to_now(&mut run, &database);
    assert!(read.iter().all(|event| event.value["op"] != "r"), "{read:?}");
    run.stop().unwrap();
}

#[test]
fn large_tables_are_read_in_parts_that_are_not_read_twice() {
    let database = Database::new();
    // A row a page, so that there are several parts; values that updates do not send.
    database.sql(
        "CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, v text, filler text, n int) WITH (fillfactor = 10); \
         ALTER TABLE t ALTER v SET STORAGE EXTERNAL, ALTER filler SET STORAGE PLAIN; \
         INSERT INTO t SELECT g, CASE WHEN g % 500 = 0 THEN repeat('v', 3000) ELSE 'v' || g END, repeat('x', 750), 0 FROM generate_series(1, 30000) g; \
         CREATE TABLE small (id int PRIMARY KEY, v text); INSERT INTO small SELECT g, 's' FROM generate_series(1, 10) g",
    );
    let more = [("snapshot.max.threads", "3"), ("column.exclude.list", "public.t.filler")];
    let services = TestServices::new();
    let mut run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
    let parts = |services: &TestServices| stored(services)["snapshot"]["parts"]["public.t"]["done"].clone();
    let first = until(&mut run, |_, _| parts(&services).as_array().is_some_and(|parts| !parts.is_empty()));
    drop(run);
    assert!(first.len() < 30_010, "{}", first.len());
    let (mut left, mut small) = (Left::default(), Left::default());
    left.take(&first, "t");
    small.take(&first, "small");
    // Rows move, also into parts that are read, and their large values are not sent; others go.
    database.sql(
        "DELETE FROM t WHERE id % 7 = 0; VACUUM t; UPDATE t SET n = 1 WHERE id % 500 = 0 OR id > 25000; DELETE FROM small WHERE id = 3; \
         INSERT INTO t VALUES (70000, 'new', NULL, 0)",
    );
    let mut run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
    let rest = up_to_now(&mut run, &database);
    let again = rest.iter().filter(|event| event.value["op"] == "r" && event.topic == "server.public.t").count();
    // 25 715 rows are left. More than 7000 of them are in the first part, into which 4300 may have moved.
    assert!(again < 25_000, "{again}: the parts that were read are read again");
    assert_eq!(rest.iter().filter(|event| event.value["source"]["snapshot"] == "last").count(), 1);
    left.take(&rest, "t");
    small.take(&rest, "small");
    left.check(&database, "t");
    small.check(&database, "small");
    run.stop().unwrap();
}

#[test]
fn transactions_are_told_once_wherever_they_are_interrupted() {
    let database = Database::new();
    database.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE done (id int PRIMARY KEY)");
    let more = [("snapshot.mode", "never"), ("provide.transaction.metadata", "true"), ("max.batch.size", "3")];
    let services = TestServices::new();
    let mut run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
    run.poll().unwrap();
    database.sql(
        "BEGIN; INSERT INTO a SELECT generate_series(1, 4); INSERT INTO b VALUES (1); UPDATE a SET id = 10 WHERE id = 1; COMMIT; \
         INSERT INTO done VALUES (1)",
    );
    let mut read = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !read.iter().any(|event: &Event| event.topic == "server.public.done") {
        assert!(Instant::now() < deadline, "{read:#?}");
        // Killed after each poll that gave something.
        let batches = run.poll_records(1).unwrap();
        run.deliver(&batches).unwrap();
        read.extend(events(&batches));
        drop(run);
        run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
    }
    let of_transactions: Vec<&Event> = read.iter().filter(|event| event.topic == "server.transaction").collect();
    let of_first: Vec<&&Event> = of_transactions.iter().take(2).collect();
    let told: Vec<&Value> = of_first.iter().map(|event| &event.value["status"]).collect();
    assert_eq!(told, [&json!("BEGIN"), &json!("END")]);
    let end = &of_first[1].value;
    assert_eq!(end["event_count"], json!(7), "{end}");
    assert_eq!(
        end["data_collections"],
        json!([{"data_collection": "public.a", "event_count": 6}, {"data_collection": "public.b", "event_count": 1}])
    );
    let mut orders: Vec<(i64, i64, String)> = read
        .iter()
        .filter(|event| event.topic.ends_with(".a") || event.topic.ends_with(".b"))
        .filter(|event| !event.value.is_null())
        .map(|event| {
            let block = &event.value["transaction"];
            let number = |name: &str| block[name].as_i64().unwrap();
            (number("total_order"), number("data_collection_order"), event.topic.clone())
        })
        .collect();
    orders.sort();
    let expected = [(1, 1, "a"), (2, 2, "a"), (3, 3, "a"), (4, 4, "a"), (5, 1, "b"), (6, 5, "a"), (7, 6, "a")];
    assert_eq!(orders, expected.map(|(total, own, table)| (total, own, format!("server.public.{table}"))));
    run.stop().unwrap();
}
