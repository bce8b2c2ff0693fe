//! Where a source goes on: after restarts, in the middle of transactions and snapshots, and after the server was killed.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Database, events, stored, take};
use serde_json::json;
use tributary_connector_postgres::PostgresSource;
use tributary_harness::Postgres;
use tributary_testkit::{SourceRun, TestServices};

fn ids(events: &[common::Event]) -> Vec<i64> {
    events.iter().map(|event| event.key["id"].as_i64().unwrap()).collect()
}

/// What is no heartbeat.
fn records(batches: &[tributary_sdk::Batch]) -> Vec<common::Event> {
    events(batches).into_iter().filter(|event| event.topic.starts_with("server.")).collect()
}

#[test]
fn a_transaction_is_gone_on_with_where_it_was_left() {
    // Also where heartbeats are stored before it comes again: their offsets must not forget how much of it is out.
    for heartbeat in ["0", "1"] {
        let database = Database::new();
        database.sql("CREATE TABLE t (id int PRIMARY KEY)");
        let config = database.config(&[
            ("snapshot.mode", "never"),
            ("max.batch.size", "7"),
            ("heartbeat.interval.ms", heartbeat),
        ]);
        let services = TestServices::new();
        let mut run = SourceRun::<PostgresSource>::start_in(services.clone(), &config).unwrap();
        run.poll().unwrap();
        database.sql("INSERT INTO t SELECT generate_series(1, 50); INSERT INTO t SELECT generate_series(51, 60)");
        let mut read = Vec::new();
        let deadline = Instant::now() + common::PATIENCE * 3;
        for round in 0.. {
            let before = read.len();
            // Every other kill comes with the first batch, the rest when there was something of the transaction.
            loop {
                assert!(Instant::now() < deadline, "{read:?}");
                let batches = run.poll_records(1).unwrap();
                run.deliver(&batches).unwrap();
                read.extend(ids(&records(&batches)));
                if read.len() > before || round % 2 == 0 {
                    break;
                }
            }
            assert!(stored(&services)["lsn_commit"].as_u64() > Some(0));
            if read.len() >= 60 {
                break;
            }
            drop(run);
            run = SourceRun::start_in(services.clone(), &config).unwrap();
        }
        assert_eq!(read, (1..=60).collect::<Vec<_>>());
    }
}

/// What the records leave, by topic and id.
fn left(records: &[common::Event]) -> BTreeSet<(String, i64)> {
    let mut left = BTreeSet::new();
    for event in records {
        let place = (event.topic.clone(), event.key["id"].as_i64().unwrap());
        match &*event.short().0 {
            "d" | "tombstone" => left.remove(&place),
            _ => left.insert(place),
        };
    }
    left
}

#[test]
fn a_snapshot_that_was_interrupted_leaves_what_is_there() {
    let database = Database::new();
    database.sql(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY); \
         INSERT INTO a SELECT generate_series(1, 10); INSERT INTO b SELECT generate_series(1, 10); INSERT INTO c SELECT generate_series(1, 10)",
    );
    let config = database.config(&[("max.batch.size", "5")]);
    let services = TestServices::new();
    let mut run = SourceRun::<PostgresSource>::start_in(services.clone(), &config).unwrap();
    // Table a is delivered, and half of b, whose rows are in Kafka though no offset says so.
    let mut all = take(&mut run, 15);
    assert!(all[..10].iter().all(|event| event.topic == "server.public.a"));
    assert_eq!(stored(&services)["snapshot"]["tables"], json!(["public.a"]), "{}", stored(&services));
    database.sql(
        "INSERT INTO a VALUES (11); INSERT INTO b VALUES (11); INSERT INTO c VALUES (11); DELETE FROM b WHERE id = 1; \
         DELETE FROM c WHERE id = 2; INSERT INTO c VALUES (2); UPDATE b SET id = 22 WHERE id = 2",
    );
    drop(run);
    let mut run = SourceRun::<PostgresSource>::start_in(services.clone(), &config).unwrap();
    // b and c are read as they are now, a is not read again; then comes what changed since the slot was made.
    let again = take(&mut run, 10 + 11);
    assert!(again.iter().all(|event| event.value["op"] == "r" && event.topic != "server.public.a"), "{again:#?}");
    all.extend(again);
    // Three insertions, a deletion with its tombstone, the same and an insertion, and a changed key, which is three records.
    all.extend(take(&mut run, 3 + 2 + 3 + 3));
    let expected = database
        .sql("SELECT 'a', id FROM a UNION ALL SELECT 'b', id FROM b UNION ALL SELECT 'c', id FROM c ORDER BY 1, 2");
    let expected = expected.lines().filter_map(|line| line.split_once('|'));
    let expected: BTreeSet<(String, i64)> =
        expected.map(|(table, id)| (format!("server.public.{table}"), id.parse().unwrap())).collect();
    assert_eq!(left(&all), expected);
    run.stop().unwrap();
}

#[test]
fn changes_during_the_snapshot_come_after_it() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 30)");
    let mut run = database.start(&[("max.batch.size", "10")]);
    take(&mut run, 10);
    database.sql("INSERT INTO t VALUES (31); DELETE FROM t WHERE id = 30");
    let events = take(&mut run, 23);
    assert_eq!(ids(&events[..20]), (11..=30).collect::<Vec<_>>());
    let ops: Vec<String> = events[20..].iter().map(|event| event.short().0).collect();
    assert_eq!(ops, ["c", "d", "tombstone"]);
    run.stop().unwrap();
}

#[test]
fn a_server_that_was_killed_is_gone_back_to() {
    let server = Arc::new(Postgres::start().unwrap());
    let database = Database::on(server.clone());
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let mut run = database.start(&[]);
    take(&mut run, 1);
    let mut expected = 1;
    for round in 0..3 {
        database.sql(&format!("INSERT INTO t SELECT generate_series({}, {})", expected + 1, expected + 100));
        // Some of it is read before the server is gone, not all of it delivered.
        let read = if round == 1 { take(&mut run, 100) } else { Vec::new() };
        server.kill9().unwrap();
        let idle = run.poll();
        assert!(idle.is_ok(), "{idle:?}");
        server.restart().unwrap();
        let read = if read.is_empty() { take(&mut run, 100) } else { read };
        assert_eq!(ids(&read), (expected + 1..=expected + 100).collect::<Vec<_>>());
        expected += 100;
    }
    assert!(run.services().logged("trying again"));
    run.stop().unwrap();
}

#[test]
fn an_idle_table_does_not_hold_the_log() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE busy (id int)");
    let mut run = database.start(&[("table.include.list", "public.t"), ("snapshot.mode", "never")]);
    run.poll().unwrap();
    database.sql("INSERT INTO t VALUES (1)");
    take(&mut run, 1);
    let confirmed = || {
        let sql = format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'", database.name);
        database.sql(&sql)
    };
    database.sql("INSERT INTO busy SELECT generate_series(1, 1000)");
    let end = database.sql("SELECT pg_current_wal_lsn()");
    let deadline = Instant::now() + Duration::from_secs(60);
    let reached = || database.sql(&format!("SELECT '{}'::pg_lsn >= '{end}'::pg_lsn", confirmed())) == "t";
    while !reached() {
        assert!(Instant::now() < deadline, "the slot stays at {}, the log ends at {end}", confirmed());
        assert!(run.poll().unwrap().is_empty());
    }
    run.stop().unwrap();
}

#[test]
fn what_is_not_stored_is_not_confirmed() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY)");
    let config = database.config(&[("snapshot.mode", "never"), ("table.include.list", "public.t")]);
    let services = TestServices::new();
    let mut run = SourceRun::<PostgresSource>::start_in(services.clone(), &config).unwrap();
    run.poll().unwrap();
    database.sql("INSERT INTO t SELECT generate_series(1, 20)");
    run.poll_records(20).unwrap();
    // Taken, never delivered; the log goes on, and the server is told several times.
    database.sql("CREATE TABLE other (id int); INSERT INTO other SELECT generate_series(1, 1000)");
    for _ in 0..3 {
        run.poll().unwrap();
    }
    drop(run);
    let mut run = SourceRun::<PostgresSource>::start_in(services, &config).unwrap();
    let read = run.poll_records(20).unwrap();
    assert_eq!(ids(&events(&read)).len(), 20);
}

#[test]
fn a_slot_that_is_gone_is_told() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let services = TestServices::new();
    let config = database.config(&[("slot.drop.on.stop", "true")]);
    let mut run = SourceRun::<PostgresSource>::start_in(services.clone(), &config).unwrap();
    take(&mut run, 1);
    run.stop().unwrap();
    drop(run);
    assert_eq!(
        database.sql(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", database.name)),
        "0"
    );
    let mut run = SourceRun::<PostgresSource>::start_in(services.clone(), &config).unwrap();
    let error = run.poll().unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("when_needed"), "{error}");
    let needed = database.config(&[("snapshot.mode", "when_needed")]);
    let mut run = SourceRun::<PostgresSource>::start_in(services, &needed).unwrap();
    assert_eq!(take(&mut run, 1)[0].value["op"], "r");
    run.stop().unwrap();
}

#[test]
fn heartbeats_move_the_offset() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE beats (n int)");
    let services = TestServices::new();
    let config = database.config(&[
        ("snapshot.mode", "never"),
        ("table.include.list", "public.t"),
        ("heartbeat.interval.ms", "100"),
        ("heartbeat.action.query", "INSERT INTO beats VALUES (1)"),
    ]);
    let mut run = SourceRun::<PostgresSource>::start_in(services.clone(), &config).unwrap();
    let mut places = BTreeSet::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while places.len() < 3 {
        assert!(Instant::now() < deadline, "{places:?}");
        let beat = take(&mut run, 1).remove(0);
        assert_eq!((&*beat.topic, &beat.key), ("__debezium-heartbeat.server", &json!({"serverName": "server"})));
        places.insert(stored(&services)["lsn_commit"].as_u64());
    }
    assert_ne!(database.sql("SELECT count(*) FROM beats"), "0");
    run.stop().unwrap();
}

#[test]
fn kills_at_any_moment_lose_nothing() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    let database = Database::new();
    database.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    // With heartbeats, whose offsets come between all the others.
    let config =
        database.config(&[("snapshot.mode", "never"), ("max.batch.size", "9"), ("heartbeat.interval.ms", "20")]);
    let services = TestServices::new();
    let mut run = SourceRun::<PostgresSource>::start_in(services.clone(), &config).unwrap();
    run.poll().unwrap();
    let (mut sql, mut from, mut size) = (String::new(), 0, 1);
    while from < 300 {
        let last = (from + size - 1).min(299);
        sql +=
            &format!("INSERT INTO {} SELECT generate_series({from}, {last});", if size % 2 == 0 { "a" } else { "b" });
        (from, size) = (last + 1, size + 2);
    }
    database.sql(&sql);
    let mut dice = StdRng::seed_from_u64(7);
    let mut delivered = BTreeSet::new();
    let deadline = Instant::now() + common::PATIENCE * 3;
    loop {
        assert!(Instant::now() < deadline, "{} of 300 came", delivered.len());
        let batches = run.poll_records(dice.random_range(1..=60).min(300 - delivered.len())).unwrap();
        let whole = dice.random_range(0..=batches.len());
        run.deliver(&batches[..whole]).unwrap();
        delivered.extend(ids(&records(&batches[..whole])));
        if let Some(partly) = batches.get(whole) {
            let rows = dice.random_range(0..=partly.len());
            run.deliver_rows(partly, rows).unwrap();
            delivered.extend(ids(&records(&[partly.slice(0, rows)])));
        }
        if delivered.len() == 300 {
            break;
        }
        drop(run);
        run = SourceRun::start_in(services.clone(), &config).unwrap();
    }
}
