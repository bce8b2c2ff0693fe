//! Tables that are read while somebody changes, rewrites or locks them, and what signals may ask for.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Database, Event, PATIENCE, Run, SIGNALS, events, signal, take, until, up_to_now};
use serde_json::{Value, json};
use tributary_harness::Postgres;
use tributary_testkit::TestServices;

const STREAMING: [(&str, &str); 2] = [("snapshot.mode", "never"), ("signal.data.collection", "public.signals")];

fn reads(read: &[Event]) -> Vec<&Event> {
    read.iter().filter(|event| event.value["op"] == "r").collect()
}

fn ask(database: &Database, id: &str, kind: &str) {
    signal(database, id, "execute-snapshot", &format!(r#"{{"data-collections": ["public.t"], "type": "{kind}"}}"#));
}

fn are_read(run: &Run) -> bool {
    run.services().logged("that a signal asked for are read")
}

/// Waits until so many sessions of the database wait for a lock.
fn wait_for_locks(database: &Database, count: usize) {
    let sql = "SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
               WHERE NOT l.granted AND a.datname = current_database()";
    let deadline = Instant::now() + PATIENCE;
    while database.sql(sql).trim() != count.to_string() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn tables_that_wait_to_be_rewritten_are_read_by_all_connections_first() {
    let database = Database::new();
    let tables: String = (10..30)
        .map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY, n int); INSERT INTO t{n} SELECT g, g FROM generate_series(1, 50) g;"))
        .collect();
    database.sql(&tables);
    let mut run = database.start(&[("snapshot.max.threads", "2"), ("max.batch.size", "10")]);
    let mut read = until(&mut run, |_, read| !read.is_empty());
    std::thread::scope(|scope| {
        // Nothing is taken meanwhile, so that both connections stand before these tables.
        for n in 25..30 {
            let database = &database;
            scope.spawn(move || database.sql(&format!("ALTER TABLE t{n} ALTER n TYPE bigint")));
        }
        wait_for_locks(&database, 5);
        let missing = 1000 - read.len();
        read.extend(take(&mut run, missing));
    });
    let by_table = read.iter().fold(BTreeMap::<&str, usize>::new(), |mut counts, event| {
        *counts.entry(&event.topic).or_default() += 1;
        counts
    });
    assert!(by_table.len() == 20 && by_table.values().all(|count| *count == 50), "{by_table:?}");
    run.stop().unwrap();
}

#[test]
fn a_table_that_is_rewritten_while_the_slot_is_made_loses_no_row() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, g FROM generate_series(1, 20) g");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                database.sql("ALTER TABLE t ALTER n TYPE bigint; ALTER TABLE t ALTER n TYPE int");
            }
        });
        let read = std::panic::catch_unwind(|| {
            for round in 0..5 {
                let slot = format!("{}_{round}", database.name);
                let mut run = database.start(&[("slot.name", &slot)]);
                let ids: BTreeSet<i64> =
                    take(&mut run, 20).iter().map(|event| event.value["after"]["id"].as_i64().unwrap()).collect();
                assert_eq!(ids, (1..=20).collect());
                run.stop().unwrap();
            }
        });
        over.store(true, Ordering::Release);
        read.unwrap();
    });
}

#[test]
fn a_locked_table_is_read_when_it_is_free_while_streaming_goes_on() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, v int); \
         INSERT INTO t SELECT g, g FROM generate_series(1, 30) g"
    ));
    let mut run = database.start(&STREAMING);
    run.poll().unwrap();
    std::thread::scope(|scope| {
        // All its rows are rewritten: a snapshot that is older sees none of them.
        scope.spawn(|| database.sql("BEGIN; ALTER TABLE t ALTER v TYPE bigint; SELECT pg_sleep(4); COMMIT"));
        let deadline = Instant::now() + PATIENCE;
        let locks = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessExclusiveLock'";
        while database.sql(locks).trim() == "0" {
            assert!(Instant::now() < deadline);
        }
        ask(&database, "1", "incremental");
        until(&mut run, |run, _| run.services().logged("cannot be read now"));
        // The task is not ended for it: what changes meanwhile comes before the rows.
        assert!(reads(&up_to_now(&mut run, &database)).is_empty());
    });
    let read = until(&mut run, |run, _| are_read(run));
    assert_eq!(reads(&read).len(), 30);
    run.stop().unwrap();
}

#[test]
fn changes_that_others_do_not_see_yet_are_waited_for() {
    let server = Arc::new(Postgres::start().unwrap());
    let database = Database::on(server);
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old'), (2, 'old')"
    ));
    let mut run = database.start(&STREAMING);
    run.poll().unwrap();
    // There is no such standby: from here on ends of transactions wait for ever, in the log and unseen by others.
    database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    database.sql("SELECT pg_reload_conf()");
    let shows = |text: &str| {
        let deadline = Instant::now() + PATIENCE;
        while database.sql("SHOW synchronous_standby_names").trim() != text {
            assert!(Instant::now() < deadline);
        }
    };
    shows("nobody");
    std::thread::scope(|scope| {
        scope.spawn(|| database.sql("UPDATE t SET v = 'new' WHERE id = 1"));
        until(&mut run, |_, read| read.iter().any(|event| event.value["after"]["v"] == "new"));
        assert_eq!(database.sql("SELECT v FROM t WHERE id = 1").trim(), "old");
        database.sql(
            "SET synchronous_commit = local; INSERT INTO signals VALUES ('1', 'execute-snapshot', '{\"data-collections\": [\"public.t\"]}')",
        );
        let asked = until(&mut run, |run, _| run.services().logged("is asked for"));
        let until_then = Instant::now() + Duration::from_secs(2);
        let mut read: Vec<Event> = asked;
        while Instant::now() < until_then {
            let batches = run.poll().unwrap();
            run.deliver(&batches).unwrap();
            read.extend(events(&batches));
        }
        let early: Vec<Value> = reads(&read).iter().map(|event| event.value["after"].clone()).collect();
        database.sql("SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names");
        database.sql("SELECT pg_reload_conf()");
        assert!(early.is_empty(), "{early:?}");
    });
    let read = until(&mut run, |run, _| are_read(run));
    let rows: Vec<Value> = reads(&read).iter().map(|event| event.value["after"].clone()).collect();
    assert_eq!(rows, [json!({"id": 1, "v": "new"}), json!({"id": 2, "v": "old"})]);
    run.stop().unwrap();
}

#[test]
fn large_values_that_do_not_change_come_with_the_rows() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, v text, n int); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT g, repeat('v', 2500) || g, 0 FROM generate_series(1, 500) g"
    ));
    let mut more = STREAMING.to_vec();
    more.push(("incremental.snapshot.chunk.size", "100"));
    let mut run = database.start(&more);
    run.poll().unwrap();
    let (over, mut last) = (AtomicBool::new(false), BTreeMap::new());
    let mut keep = |read: &[Event]| {
        for event in read.iter().filter(|event| event.topic == "server.public.t") {
            let (id, v) = (event.value["after"]["id"].as_i64().unwrap(), event.value["after"]["v"].clone());
            if v != "__debezium_unavailable_value" {
                last.insert(id, v);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                database.sql("UPDATE t SET n = n + 1");
            }
        });
        ask(&database, "1", "incremental");
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until(&mut run, |run, _| are_read(run))));
        over.store(true, Ordering::Release);
        keep(&read.unwrap());
    });
    keep(&up_to_now(&mut run, &database));
    let missing: Vec<i64> = (1..=500).filter(|id| !last.contains_key(id)).collect();
    assert!(missing.is_empty(), "nobody has the values of {missing:?}");
    assert!(last.iter().all(|(id, v)| *v == json!(format!("{}{id}", "v".repeat(2500)))));
    run.stop().unwrap();
}

#[test]
fn wide_rows_are_read_a_few_at_a_time() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT g, repeat('v', 200000) FROM generate_series(1, 80) g"
    ));
    let mut run = database.start(&STREAMING);
    run.poll().unwrap();
    ask(&database, "1", "incremental");
    let (mut ids, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while !are_read(&run) {
        assert!(Instant::now() < deadline, "{:#?}", run.services().logs());
        let batches = run.poll().unwrap();
        run.deliver(&batches).unwrap();
        let read = events(&batches);
        let reads = reads(&read);
        assert!(reads.len() <= 20, "{} rows of 200 kB at once", reads.len());
        ids.extend(reads.iter().map(|event| event.value["after"]["id"].as_i64().unwrap()));
    }
    assert_eq!(ids, (1..=80).collect::<Vec<_>>());
    run.stop().unwrap();
}

#[test]
fn a_condition_is_one_expression_and_no_statement() {
    let database = Database::new();
    database.sql(&format!("{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)"));
    let mut run = database.start(&STREAMING);
    run.poll().unwrap();
    let bad = "true)) TO STDOUT; COMMIT; CREATE TABLE evil (id int); BEGIN; COPY (SELECT (1";
    for (number, (kind, filter)) in [
        ("incremental", bad),
        ("blocking", bad),
        ("incremental", "id = 2 -- a remark"),
        ("blocking", "id = 2 -- a remark"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = json!({"data-collections": ["public.t"], "type": kind,
            "additional-conditions": [{"data-collection": "public.t", "filter": filter}]});
        signal(&database, &number.to_string(), "execute-snapshot", &data.to_string());
        let refusals = |run: &Run| {
            run.services().logs().iter().filter(|line| line.message.contains("public.t is not read")).count()
        };
        let read = until(
            &mut run,
            |run, read| if filter == bad { refusals(run) == number + 1 } else { !reads(read).is_empty() },
        );
        let rows: Vec<&Value> = reads(&read).iter().map(|event| &event.value["after"]["id"]).collect();
        let expected = json!(2);
        assert_eq!(rows, if filter == bad { vec![] } else { vec![&expected] });
    }
    assert_eq!(database.sql("SELECT to_regclass('evil') IS NULL").trim(), "t");
    run.stop().unwrap();
}

#[test]
fn snapshots_are_paused_resumed_and_stopped() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)"
    ));
    let mut more = STREAMING.to_vec();
    more.push(("incremental.snapshot.chunk.size", "1"));
    let mut run = database.start(&more);
    run.poll().unwrap();
    signal(&database, "0", "pause-snapshot", "");
    until(&mut run, |run, _| run.services().logged("no snapshot that could be paused"));
    // One transaction: nothing is read between the two.
    let execute = r#"{"data-collections": ["public.t"]}"#;
    database.sql(&format!(
        "INSERT INTO signals VALUES ('1', 'execute-snapshot', '{execute}'), ('2', 'pause-snapshot', '')"
    ));
    let read = up_to_now(&mut run, &database);
    assert!(run.services().logged("the snapshot is paused") && reads(&read).is_empty(), "{read:?}");
    signal(&database, "3", "resume-snapshot", "");
    let read = until(&mut run, |run, _| are_read(run));
    assert_eq!(reads(&read).len(), 100);
    database.sql(&format!(
        "INSERT INTO signals VALUES ('4', 'execute-snapshot', '{execute}'), ('5', 'stop-snapshot', '{execute}')"
    ));
    let read = up_to_now(&mut run, &database);
    assert!(run.services().logged("snapshots are stopped") && reads(&read).is_empty(), "{read:?}");
    run.stop().unwrap();
}

#[test]
fn signals_that_cannot_come_are_told() {
    let database = Database::new();
    database
        .sql(&format!("{SIGNALS} CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION dbz_publication FOR TABLE t"));
    let mut run = database.start(&STREAMING);
    until(&mut run, |run, _| {
        run.services().logged("ADD TABLE \"public\".\"signals\"") || run.services().logged("ADD TABLE public.signals")
    });
    run.stop().unwrap();
    let mut run = database.start(&[("snapshot.mode", "never"), ("signal.data.collection", "public.nothing")]);
    until(&mut run, |run, _| run.services().logged("CREATE TABLE"));
    run.stop().unwrap();
}

#[test]
fn included_columns_are_not_part_of_the_key() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE t (id int NOT NULL, v text, w text, CONSTRAINT k PRIMARY KEY (id) INCLUDE (v, w)); INSERT INTO t VALUES (1, 'a', 'b'); \
         CREATE TABLE u (id int NOT NULL, v text); CREATE UNIQUE INDEX ON u (id) INCLUDE (v); INSERT INTO u VALUES (2, NULL)",
    );
    let mut run = database.start(&[]);
    let read = take(&mut run, 2);
    assert_eq!([&read[0].key, &read[1].key], [&json!({"id": 1}), &json!({"id": 2})]);
    run.stop().unwrap();
}

#[test]
fn a_table_is_read_by_the_index_that_is_its_replica_identity() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, other int NOT NULL); CREATE UNIQUE INDEX i ON t (other); \
         ALTER TABLE t REPLICA IDENTITY USING INDEX i; INSERT INTO t SELECT g, 1000 - g FROM generate_series(1, 300) g"
    ));
    let mut more = STREAMING.to_vec();
    more.extend([("incremental.snapshot.chunk.size", "20"), ("message.key.columns", "public.t:other")]);
    let mut run = database.start(&more);
    run.poll().unwrap();
    let (over, mut left) = (AtomicBool::new(false), BTreeSet::new());
    let mut keep = |read: &[Event]| {
        for event in read.iter().filter(|event| event.topic == "server.public.t") {
            let key = event.key["other"].as_i64().unwrap();
            if event.value.is_null() || event.value["op"] == "d" {
                left.remove(&key)
            } else {
                left.insert(key)
            };
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if over.load(Ordering::Acquire) {
                    break;
                }
                database.sql(&format!("DELETE FROM t WHERE other % 50 = {round} % 50; INSERT INTO t VALUES (5000 + {round}, {round}) ON CONFLICT DO NOTHING"));
            }
        });
        ask(&database, "1", "incremental");
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until(&mut run, |run, _| are_read(run))));
        over.store(true, Ordering::Release);
        keep(&read.unwrap());
    });
    keep(&up_to_now(&mut run, &database));
    let there = database.sql("SELECT other FROM t").lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(left, there);
    assert!(!run.services().logged("was read 10 times"));
    run.stop().unwrap();
}

/// Reads `t` while a transaction is open, which ends before its rows go out: what was read is held as long as nobody polls.
fn read_across(more: &[(&str, &str)], rows: &str, transaction: &str) -> Vec<Event> {
    let database = Database::new();
    database.sql(&format!("{SIGNALS} {rows}"));
    let mut run = database.start(&[&STREAMING, more].concat());
    run.poll().unwrap();
    let locks = "FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted";
    std::thread::scope(|scope| {
        // It is ended by force.
        let holder =
            scope.spawn(|| database.server.sql(&database.name, "SELECT pg_advisory_lock(7); SELECT pg_sleep(100)"));
        let deadline = Instant::now() + PATIENCE;
        while database.sql(&format!("SELECT count(*) {locks}")).trim() != "1" {
            assert!(Instant::now() < deadline);
        }
        let held =
            scope.spawn(|| database.sql(&format!("BEGIN; {transaction}; SELECT pg_advisory_xact_lock(7); COMMIT")));
        wait_for_locks(&database, 1);
        ask(&database, "1", "incremental");
        let read = until(&mut run, |run, _| run.services().logged("reading public.t again"));
        assert!(reads(&read).is_empty(), "{read:?}");
        database.sql(&format!("SELECT pg_terminate_backend(l.pid) {locks}"));
        assert!(holder.join().unwrap().is_err());
        held.join().unwrap();
        // Until the transaction has come from the server.
        std::thread::sleep(Duration::from_millis(500));
    });
    let read = until(&mut run, |run, _| are_read(run));
    run.stop().unwrap();
    read
}

#[test]
fn what_changes_between_a_chunk_and_its_turn_is_left_as_it_was_left() {
    let read = read_across(
        &[],
        "CREATE TABLE t (id int PRIMARY KEY, v text, n int); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT g, repeat('v', 2500) || g, 0 FROM generate_series(1, 5) g",
        "UPDATE t SET n = 1 WHERE id = 1; UPDATE t SET n = 2 WHERE id = 1; UPDATE t SET v = 'new' WHERE id = 2; DELETE FROM t WHERE id = 3; \
         UPDATE t SET id = 40 WHERE id = 4",
    );
    let mut rows: Vec<Value> = reads(&read).iter().map(|event| event.value["after"].clone()).collect();
    rows.sort_by_key(|row| row["id"].as_i64());
    let large = |id: i64| format!("{}{id}", "v".repeat(2500));
    let row = |id: i64, v: i64, n: i64| json!({"id": id, "v": large(v), "n": n});
    assert_eq!(rows, [row(1, 1, 2), row(5, 5, 0), row(40, 4, 0)]);
    let last = read.iter().rposition(|event| event.value["op"] != "r").unwrap();
    let first = read.iter().position(|event| event.value["op"] == "r").unwrap();
    assert!(last < first, "a change comes behind a row that has it");
}

#[test]
fn a_row_under_another_key_than_that_of_its_record_is_gone_where_it_was() {
    let read = read_across(
        &[("message.key.columns", "public.t:other")],
        "CREATE TABLE t (id int PRIMARY KEY, other int NOT NULL); INSERT INTO t VALUES (1, 100), (2, 200)",
        "UPDATE t SET id = 10 WHERE id = 1",
    );
    let ids: Vec<i64> = reads(&read).iter().map(|event| event.value["after"]["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [2]);
}

#[test]
fn kills_after_partial_deliveries_leave_out_no_row() {
    let database = Database::new();
    database.sql(&format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 300) g"
    ));
    let mut more = STREAMING.to_vec();
    more.extend([("incremental.snapshot.chunk.size", "20"), ("max.batch.size", "7")]);
    let config = database.config(&more);
    let services = TestServices::new();
    let mut run = Run::start_in(services.clone(), &config).unwrap();
    run.poll().unwrap();
    // Dice that fall alike each time.
    let mut dice = 7_u64;
    let mut throw = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for kind in ["incremental", "blocking"] {
        ask(&database, kind, kind);
        database.sql("UPDATE t SET n = n + 1 WHERE id % 3 = 0");
        let (mut ids, mut kills, deadline) = (BTreeSet::new(), 0, Instant::now() + PATIENCE);
        let mut asked = false;
        // It is over once the stored offset knows nothing of it any more.
        while !(asked && common::stored(&services)["adhoc"].is_null() && ids.len() == 300) {
            assert!(Instant::now() < deadline, "{} rows after {kills} kills: {:#?}", ids.len(), services.logs());
            let batches = run.poll().unwrap();
            let part = if kills < 15 { throw(batches.len() as u64 + 1) as usize } else { batches.len() };
            run.deliver(&batches[..part]).unwrap();
            for event in events(&batches[..part]) {
                if event.topic == "server.public.t" && event.value["op"] == "r" {
                    ids.insert(event.value["after"]["id"].as_i64().unwrap());
                }
            }
            asked |= common::stored(&services)["adhoc"].is_array();
            if part < batches.len() || (kills < 15 && throw(20) == 0) {
                kills += 1;
                drop(run);
                run = Run::start_in(services.clone(), &config).unwrap();
            }
            if ids.len() == 300 {
                // What is told with the next record.
                database.sql("INSERT INTO done SELECT count(*) FROM done");
            }
        }
        assert!(kills > 3, "{kills}");
    }
    run.stop().unwrap();
}
