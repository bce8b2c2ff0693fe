//! Commits that are not answered, and databases that have forgotten some.

use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tributary_harness::Proxy;
use tributary_sdk::sink::TopicPartition;
use tributary_sdk::{Batch, Offsets, SinkTask};

use crate::common::{Database, PATIENCE};
use crate::{Run, json_batch, refused, start};

const ONCE: (&str, &str) = ("exactly.once.enabled", "true");

fn batch(ids: std::ops::Range<i64>) -> Batch {
    let rows: Vec<(Value, Value)> = ids.clone().map(|id| (Value::Null, json!({"id": id}))).collect();
    let mut batch = json_batch("t", &rows);
    batch.offsets = Offsets::Sink(ids.collect::<Vec<_>>().into());
    batch
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The connection breaks while the server commits, which takes its time and then succeeds.
#[test]
fn a_commit_that_is_still_under_way_is_waited_for() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE t (id int); \
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.id = 5) EXECUTE FUNCTION slow()",
    );
    let proxy = Proxy::start(database.server.port()).unwrap();
    let mut run = start(&database.sink_config_at(proxy.port(), &[ONCE]), "t");
    assert!(run.put(batch(0..3)).unwrap().is_empty());
    let commits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep' AND query = 'COMMIT'",
        database.name
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            until("the commit", || database.sql(&commits) == "1");
            proxy.cut();
        });
        let error = run.put(batch(3..6)).unwrap_err();
        assert!(error.is_retriable(), "{error}");
    });
    proxy.resume();
    assert_eq!(database.sql("SELECT count(*) FROM t"), "3", "it is not committed yet");
    assert!(run.put(batch(3..6)).unwrap().is_empty());
    assert!(run.put(batch(6..8)).unwrap().is_empty());
    assert_eq!(database.sql("SELECT count(*), count(DISTINCT id) FROM t"), "8|8");
    run.stop().unwrap();
}

/// As a standby that was behind, and has become the primary.
#[test]
fn a_database_that_has_gone_back_fails_the_task() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int)");
    let proxy = Proxy::start(database.server.port()).unwrap();
    let config = database.sink_config_at(proxy.port(), &[ONCE]);
    let mut run = start(&config, "t");
    assert!(run.put(batch(0..5)).unwrap().is_empty());
    proxy.cut();
    assert!(run.put(batch(5..7)).unwrap_err().is_retriable());
    database.sql("DELETE FROM t WHERE id >= 3; UPDATE tributary_offsets SET next_offset = 3");
    proxy.resume();
    let error = run.put(batch(5..7)).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("gone back to an earlier state"), "{error}");
    let mut run = start(&config, "t");
    assert_eq!(run.open("t", 0, 5).unwrap(), 3);
    assert!(run.put(batch(3..7)).unwrap().is_empty());
    assert_eq!(database.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "0,1,2,3,4,5,6");
    run.stop().unwrap();
}

/// The server loses sessions at any moment of puts: a table without keys has each record once.
#[test]
fn sessions_that_end_at_any_moment() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int, line text)");
    let mut run = start(&database.sink_config(&[ONCE]), "t");
    let done = std::sync::atomic::AtomicBool::new(false);
    let mut written = 0;
    let kill = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'tributary sink'",
        database.name
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = StdRng::seed_from_u64(20);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(dice.random_range(1..60)));
                database.sql(&kill);
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let mut failed = 0;
        while written < 6000 || failed < 4 {
            while let Err(error) = run.put(batch(written..written + 200)) {
                failed += 1;
                assert!(error.is_retriable() && Instant::now() < deadline, "{error}");
            }
            written += 200;
            assert!(Instant::now() < deadline, "{failed} puts were interrupted");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(database.sql("SELECT count(*), count(DISTINCT id) FROM t"), format!("{written}|{written}"));
    run.stop().unwrap();
}

#[test]
fn a_partition_is_given_up_while_letters_are_waited_for() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int CHECK (id <> 1))");
    let mut run = start(&database.sink_config(&[ONCE, ("errors.tolerance", "all")]), "t");
    assert_eq!(refused(run.put(batch(0..3)).unwrap()).len(), 1);
    // Without a last commit, as where the group has lost it.
    let begun = Instant::now();
    run.task().close(&[TopicPartition { topic: "t".into(), partition: 0 }]).unwrap();
    assert_eq!(run.open("t", 0, 0).unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited for itself");
    assert_eq!(refused(run.put(batch(0..3)).unwrap()).len(), 1);
    // Given anew without having been taken away.
    assert_eq!(run.open("t", 0, 0).unwrap(), 0);
    assert_eq!(refused(run.put(batch(0..3)).unwrap()).len(), 1);
    // Another one is still there, and its records are in the transaction.
    run.open("t", 1, 0).unwrap();
    let error = run.task().close(&[TopicPartition { topic: "t".into(), partition: 1 }]).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("begins anew"), "{error}");
    assert!(!run.put(batch(3..4)).unwrap_err().is_retriable());
    assert_eq!(database.sql("SELECT count(*) FROM t"), "0");
}

/// What is refused while a transaction waits is told at once, not when it is committed.
#[test]
fn deferred_constraints_of_what_waits() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p SELECT generate_series(0, 9); \
         CREATE TABLE t (id int CHECK (id <> 1) REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    );
    let mut run = start(&database.sink_config(&[ONCE, ("errors.tolerance", "all")]), "t");
    let rows = |failures| refused(failures).into_iter().map(|(row, _)| row).collect::<Vec<_>>();
    assert_eq!(rows(run.put(batch(0..3)).unwrap()), [1]);
    assert_eq!(rows(run.put(batch(8..12)).unwrap()), [2, 3]);
    run.pre_commit().unwrap();
    assert_eq!(rows(run.put(batch(12..13)).unwrap()), [0]);
    run.pre_commit().unwrap();
    assert_eq!(database.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "0,2,8,9");
}

/// A lock that another session holds costs an attempt, and not what waits.
#[test]
fn a_lock_is_waited_for_again() {
    let database = Database::new();
    database.sql(&format!(
        "CREATE TABLE t (id int CHECK (id <> 1)); CREATE TABLE u (id int); INSERT INTO u VALUES (1); \
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM u FOR UPDATE; RETURN new; END $$; \
         CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW WHEN (new.id > 2) EXECUTE FUNCTION f(); \
         ALTER DATABASE {} SET lock_timeout = '300ms'",
        database.name
    ));
    let mut run = start(&database.sink_config(&[ONCE, ("errors.tolerance", "all")]), "t");
    assert_eq!(refused(run.put(batch(0..3)).unwrap()).len(), 1);
    for ids in [3..5, 5..7] {
        thread::scope(|scope| {
            scope.spawn(|| database.sql("BEGIN; SELECT FROM u FOR UPDATE; SELECT pg_sleep(2); COMMIT"));
            let sleeps = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
                database.name
            );
            until("the lock", || database.sql(&sleeps) == "1");
            let error = run.put(batch(ids.clone())).unwrap_err();
            assert!(error.is_retriable() && error.to_string().contains("lock timeout"), "{error}");
        });
        assert!(run.put(batch(ids)).unwrap().is_empty());
        run.pre_commit().unwrap();
    }
    assert_eq!(database.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "0,2,3,4,5,6");
}

/// Of a topic that was made anew, say.
#[test]
fn records_that_are_passed_over_are_told() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int)");
    let mut run = start(&database.sink_config(&[ONCE]), "t");
    assert!(run.put(batch(0..5)).unwrap().is_empty());
    let mut run = start(&database.sink_config(&[ONCE]), "t");
    assert!(run.put(batch(0..2)).unwrap().is_empty());
    assert!(run.put(batch(2..6)).unwrap().is_empty());
    let logs = run.services().logs();
    let told: Vec<_> = logs.iter().filter(|line| line.message.contains("2 records of t-0 are passed over")).collect();
    assert!(told.len() == 1 && told[0].message.contains("DELETE /connectors/sink/offsets"), "{logs:?}");
    assert_eq!(database.sql("SELECT count(*), count(DISTINCT id) FROM t"), "6|6");
}

/// DDL does not wait for ever, nor let readers wait behind it.
#[test]
fn ddl_waits_a_while() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int)");
    let mut run = start(&database.sink_config(&[("schema.evolution", "basic")]), "t");
    let rows = || json_batch("t", &[(Value::Null, json!({"id": 1, "more": 2}))]);
    thread::scope(|scope| {
        scope.spawn(|| database.sql("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE; SELECT pg_sleep(14); COMMIT"));
        let sleeps = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
            database.name
        );
        until("the lock", || database.sql(&sleeps) == "1");
        let error = run.put(rows()).unwrap_err();
        assert!(error.is_retriable() && error.to_string().contains("lock timeout"), "{error}");
    });
    assert!(run.put(rows()).unwrap().is_empty());
    assert_eq!(database.sql("SELECT * FROM t"), "1|2");
}

/// The next owner of a partition says that it waits for the former one's transaction, and goes on behind it.
#[test]
fn the_next_task_waits_for_the_former_ones_transaction() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int CHECK (id <> 1))");
    let config = database.sink_config(&[ONCE, ("errors.tolerance", "all")]);
    let mut former = start(&config, "t");
    assert_eq!(refused(former.put(batch(0..3)).unwrap()).len(), 1);
    let mut next = Run::start(&config).unwrap();
    let services = next.services().clone();
    thread::scope(|scope| {
        let opened = scope.spawn(|| next.open("t", 0, 0).unwrap());
        until("the warning", || services.logs().iter().any(|line| line.message.contains("lock timeout")));
        former.pre_commit().unwrap();
        assert_eq!(opened.join().unwrap(), 3);
    });
    assert!(!former.put(batch(3..4)).unwrap_err().is_retriable());
    assert!(next.put(batch(3..4)).unwrap().is_empty());
    assert_eq!(database.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "0,2,3");
}
