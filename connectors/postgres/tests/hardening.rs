//! What interruptions, busy databases and unusual tables must not do to the records.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Database, Event, PATIENCE, events, take};
use serde_json::{Value, json};
use tributary_connector_postgres::PostgresSource;
use tributary_testkit::{SourceRun, TestServices};

type Run = SourceRun<PostgresSource>;

fn ids(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.value["after"]["id"].as_i64().unwrap()).collect()
}

/// Polls, expecting nothing, until something holds.
fn idle_until(run: &mut Run, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{:#?}", run.services().logs());
        assert!(run.poll().unwrap().is_empty());
    }
}

/// The error that the task fails with.
fn failure(run: &mut Run) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match run.poll() {
            Ok(batches) => assert!(events(&batches).iter().all(|event| event.value["op"] != "d"), "{batches:?}"),
            Err(error) => break error.to_string(),
        }
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_new_connection_confirms_nothing_that_is_not_stored() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY)");
    let config = database.config(&[("snapshot.mode", "never")]);
    let services = TestServices::new();
    let mut run = Run::start_in(services.clone(), &config).unwrap();
    run.poll().unwrap();
    database.sql("INSERT INTO t SELECT generate_series(1, 20)");
    run.poll_records(20).unwrap();
    let slot = format!("FROM pg_replication_slots WHERE slot_name = '{}'", database.name);
    let pid = || database.sql(&format!("SELECT active_pid {slot}"));
    let old = pid();
    database.sql(&format!("SELECT pg_terminate_backend(active_pid) {slot}"));
    idle_until(&mut run, || !["", &*old].contains(&&*pid()));
    // The new connection tells several times what is safe.
    let mut told = BTreeSet::new();
    let sql = format!("SELECT reply_time FROM pg_stat_replication WHERE pid = (SELECT active_pid {slot})");
    idle_until(&mut run, || {
        told.insert(database.sql(&sql));
        told.len() > 4
    });
    drop(run);
    let mut run = Run::start_in(services, &config).unwrap();
    assert_eq!(ids(&take(&mut run, 20)), (1..=20).collect::<Vec<_>>());
    // One connection reads the catalogue, and none of those that were lost is left.
    let backends = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                    AND backend_type = 'client backend'";
    for _ in 0..2 {
        let old = pid();
        database.sql(&format!("SELECT pg_terminate_backend(active_pid) {slot}"));
        idle_until(&mut run, || !["", &*old].contains(&&*pid()));
    }
    idle_until(&mut run, || database.sql(backends) == "1");
    run.stop().unwrap();
}

#[test]
fn a_snapshot_begins_on_a_busy_database() {
    let database = Database::new();
    database.sql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE PUBLICATION dbz_publication FOR ALL TABLES; \
         SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
        database.name
    ));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    database.sql("BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep(0.7); COMMIT");
                }
            });
        }
        let read = std::panic::catch_unwind(|| {
            let mut run = database.start(&[]);
            assert_eq!(ids(&take(&mut run, 1)), [1]);
            let said = run.services().logs().iter().filter(|log| format!("{log:?}").contains("waits for")).count();
            assert!(said <= 1, "{said}");
            run.stop().unwrap();
        });
        over.store(true, Ordering::Release);
        read.unwrap();
    });
}

/// Polls up to the snapshot's last record.
fn rest_of_snapshot(run: &mut Run) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    let mut read: Vec<Event> = Vec::new();
    while read.last().is_none_or(|event| event.value["source"]["snapshot"] != "last") {
        assert!(Instant::now() < deadline, "{read:#?}");
        let batches = run.poll().unwrap();
        run.deliver(&batches).unwrap();
        read.extend(events(&batches));
    }
    assert!(read.iter().all(|event| event.value["op"] == "r"), "{read:#?}");
    read
}

#[test]
fn a_snapshot_that_was_interrupted_is_not_left_out() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 30)");
    let services = TestServices::new();
    let config = |mode| database.config(&[("max.batch.size", "10"), ("snapshot.mode", mode)]);
    let mut run = Run::start_in(services.clone(), &config("initial")).unwrap();
    take(&mut run, 30);
    drop(run);
    // The connection breaks.
    let mut run = Run::start_in(services.clone(), &config("always")).unwrap();
    run.poll_records(10).unwrap();
    database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let read: BTreeSet<i64> = ids(&rest_of_snapshot(&mut run)).into_iter().collect();
    assert!((11..=30).all(|id| read.contains(&id)), "{read:?}");
    run.stop().unwrap();
    drop(run);
    // The task is killed, after it made a new slot and before any table was read.
    database.sql(&format!("SELECT pg_drop_replication_slot('{}')", database.name));
    let mut run = Run::start_in(services.clone(), &config("when_needed")).unwrap();
    run.poll_records(10).unwrap();
    drop(run);
    let mut run = Run::start_in(services.clone(), &config("when_needed")).unwrap();
    assert_eq!(rest_of_snapshot(&mut run).len(), 30);
    database.sql("INSERT INTO t VALUES (31)");
    assert_eq!(ids(&take(&mut run, 1)), [31]);
    drop(run);
    // And where nothing is missing, none is taken.
    let mut run = Run::start_in(services, &config("when_needed")).unwrap();
    database.sql("INSERT INTO t VALUES (32)");
    assert_eq!(ids(&take(&mut run, 1)), [32]);
    run.stop().unwrap();
}

#[test]
fn slots_do_not_hold_the_log_for_nothing() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE busy (id int)");
    // All tables are empty: no record ever says so.
    let mut run = database.start(&[("table.include.list", "public.t")]);
    run.poll().unwrap();
    database.sql("INSERT INTO busy SELECT generate_series(1, 1000)");
    let end = database.sql("SELECT pg_current_wal_lsn()");
    let reached = format!(
        "SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        database.name
    );
    idle_until(&mut run, || database.sql(&reached) == "t");
    run.stop().unwrap();

    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let mut run = database.start(&[("snapshot.mode", "initial_only")]);
    let batches = run.poll_records(1).unwrap();
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", database.name);
    for _ in 0..3 {
        assert!(run.poll().unwrap().is_empty());
    }
    // Kafka does not have it yet.
    assert_eq!(database.sql(&slots), "1");
    run.deliver(&batches).unwrap();
    idle_until(&mut run, || database.sql(&slots) == "0");
    run.stop().unwrap();
}

#[test]
fn keys_that_are_not_known_are_refused() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL, w text)");
    let keys = [("snapshot.mode", "never"), ("message.key.columns", "public.t:v")];
    let mut run = database.start(&keys);
    run.poll().unwrap();
    database.sql("INSERT INTO t VALUES (1, 'a'); UPDATE t SET w = 'x'");
    let read = take(&mut run, 2);
    assert!(read.iter().all(|event| event.key == json!({"v": "a"})), "{read:?}");
    database.sql("DELETE FROM t");
    let error = failure(&mut run);
    assert!(["public.t", "column v", "REPLICA IDENTITY FULL"].iter().all(|part| error.contains(part)), "{error}");
    drop(run);
    let mut run = database.start(&[("snapshot.mode", "never"), ("message.key.columns", "public.t:id,u")]);
    let error = failure(&mut run);
    assert!(error.contains("public.t has no column u"), "{error}");
}

#[test]
fn inherited_rows_are_those_of_one_table() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); \
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)",
    );
    let mut run = database.start(&[]);
    let read = take(&mut run, 2);
    let places: Vec<_> = read.iter().map(|event| (&*event.topic, event.value["after"]["id"].as_i64())).collect();
    assert_eq!(places, [("server.public.child", Some(2)), ("server.public.parent", Some(1))]);
    run.stop().unwrap();
}

#[test]
fn values_that_are_not_there_are_not_made_up() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE lists (id int PRIMARY KEY, list int[] NOT NULL, n int); \
         ALTER TABLE lists ALTER list SET STORAGE EXTERNAL; \
         CREATE TABLE keyed (id text PRIMARY KEY, n int); ALTER TABLE keyed ALTER id SET STORAGE EXTERNAL",
    );
    let more = [("snapshot.mode", "never")];
    let services = TestServices::new();
    let mut run = Run::start_in(services.clone(), &database.config(&more)).unwrap();
    run.poll().unwrap();
    drop(run);
    // The log is read when the catalogue has gone on.
    database.sql("INSERT INTO t VALUES (1, NULL); UPDATE t SET v = 5; ALTER TABLE t ALTER v SET NOT NULL");
    let mut run = Run::start_in(services, &database.config(&more)).unwrap();
    let rows: Vec<Value> = take(&mut run, 2).iter().map(|event| event.value["after"]["v"].clone()).collect();
    assert_eq!(rows, [json!(null), json!(5)]);
    database.sql(
        "INSERT INTO lists SELECT 1, array_agg(g), 1 FROM generate_series(1, 5000) g; UPDATE lists SET n = 2; \
         UPDATE lists SET list = '{1}'",
    );
    let rows: Vec<Value> = take(&mut run, 3).iter().map(|event| event.value["after"]["list"].clone()).collect();
    assert_eq!((rows[0].as_array().map(Vec::len), &rows[1], &rows[2]), (Some(5000), &json!(null), &json!([1])));
    let long = "x".repeat(2500);
    database.sql(&format!("INSERT INTO keyed VALUES ('{long}', 1); UPDATE keyed SET n = 2"));
    let read = take(&mut run, 2);
    assert!(read.iter().all(|event| event.key["id"] == json!(long) && event.value["after"]["id"] == json!(long)));
    assert_eq!(read[1].value["op"], "u");
    run.stop().unwrap();
}

#[test]
fn what_debezium_had_out_of_one_transaction_hides_nothing_of_another() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE go (id int)");
    let config = database.config(&[("snapshot.mode", "never"), ("table.include.list", "public.t")]);
    let mut run = Run::start_in(TestServices::new(), &config).unwrap();
    run.poll().unwrap();
    let wait_for = |condition: &str| {
        let deadline = Instant::now() + PATIENCE;
        let sql = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {condition} AND database = \
                           (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        while database.sql(&sql) == "0" {
            assert!(Instant::now() < deadline, "{condition}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            database.sql(
                "SELECT pg_advisory_lock(7); \
                 DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$",
            )
        });
        wait_for("granted");
        // It begins before the other one, and commits behind it.
        scope.spawn(|| database.sql("BEGIN; INSERT INTO t VALUES (100); SELECT pg_advisory_lock(7); COMMIT"));
        wait_for("NOT granted");
        database.sql("BEGIN; INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (3); COMMIT; INSERT INTO go VALUES (1)");
    });
    let read = events(&run.poll_records(4).unwrap());
    assert_eq!(ids(&read), [1, 2, 3, 100]);
    drop(run);
    let source = |event: usize, field: &str| read[event].value["source"][field].as_u64().unwrap();
    assert!(source(3, "lsn") < source(1, "lsn"));
    let confirmed = format!(
        "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        database.name
    );
    let place: u64 = database.sql(&confirmed).parse().unwrap();
    let services = TestServices::new();
    let out = source(1, "lsn");
    let offset = json!({"lsn_commit": place, "lsn_proc": out, "lsn": out, "txId": source(1, "txId"), "ts_usec": 1});
    services.set_offset(&json!({"server": "server"}), Some(offset));
    let mut run = Run::start_in(services, &config).unwrap();
    assert_eq!(ids(&take(&mut run, 2)), [3, 100]);
    run.stop().unwrap();
}
