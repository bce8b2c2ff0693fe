//! Tables whose files are made anew (`VACUUM FULL`, `CLUSTER`, `ALTER TABLE`) while they are changed and read: nothing is lost, nothing comes twice.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use common::{Database, Event, Run, SIGNALS, events, signal, until, up_to_now};

/// Rows at the beginning.
const ROWS: i64 = 400;
/// What makes the table's files anew.
const REWRITES: [&str; 4] =
    ["VACUUM FULL t", "CLUSTER t USING t_pkey", "ALTER TABLE t ALTER v TYPE bigint", "ALTER TABLE t ALTER v TYPE int"];

fn tables() -> String {
    format!(
        "{SIGNALS} CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, pad text); \
         INSERT INTO t SELECT g, 0, repeat('x', 200) FROM generate_series(1, {ROWS}) g"
    )
}

/// One change of each kind: an update adds one to the row, so that each of them is known.
fn change(round: i64) -> String {
    let (old, new) = (round * 7 % ROWS + 1, ROWS + 1 + round);
    format!(
        "UPDATE t SET v = v + 1 WHERE id = {old}; INSERT INTO t VALUES ({new}, 0, 'new'); \
         UPDATE t SET v = v + 1 WHERE id = {new}; DELETE FROM t WHERE id = {new} - 20"
    )
}

/// Runs `read` while one session changes the table and another one rewrites it; answers what was read, and how often each was done.
fn while_it_is_rewritten<T>(database: &Database, read: impl FnOnce(&dyn Fn() -> bool) -> T) -> T {
    let (over, both) = (AtomicBool::new(false), [const { AtomicI64::new(0) }; 2]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                database.sql(&change(both[0].fetch_add(1, Ordering::AcqRel)));
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                let number = both[1].fetch_add(1, Ordering::AcqRel) as usize;
                database.sql(REWRITES[number % REWRITES.len()]);
            }
        });
        // Also where the reading panics, the others have to end.
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            read(&|| both[0].load(Ordering::Acquire) >= 60 && both[1].load(Ordering::Acquire) > REWRITES.len() as i64)
        }));
        over.store(true, Ordering::Release);
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Applies the events one after the other. None may be missing between two of a row, and a row that was read has to be as it is known.
fn replay(read: &[Event]) -> BTreeMap<i64, i64> {
    let mut rows = BTreeMap::new();
    for event in read.iter().filter(|event| event.topic == "server.public.t" && !event.value.is_null()) {
        let id = event.key["id"].as_i64().unwrap();
        let v = || event.value["after"]["v"].as_i64().unwrap();
        match (event.value["op"].as_str().unwrap(), rows.get(&id).copied()) {
            ("r", None) => _ = rows.insert(id, v()),
            ("r", Some(known)) => assert_eq!(v(), known, "the row {id} was read as it was before"),
            ("c", known) => {
                assert_eq!((known, v()), (None, 0), "the row {id} was inserted once");
                rows.insert(id, 0);
            }
            ("u", None) => _ = rows.insert(id, v()),
            ("u", Some(known)) => {
                assert_eq!(v(), known + 1, "an update of the row {id} is missing, or came twice");
                rows.insert(id, v());
            }
            ("d", _) => _ = rows.remove(&id),
            (op, _) => panic!("{op}: {event:?}"),
        }
    }
    rows
}

/// What is in the table.
fn found(database: &Database) -> BTreeMap<i64, i64> {
    let row = |line: &str| {
        let (id, v) = line.split_once('|').unwrap();
        (id.parse().unwrap(), v.parse().unwrap())
    };
    database.sql("SELECT id, v FROM t ORDER BY id").lines().map(row).collect()
}

fn poll(run: &mut Run) -> Vec<Event> {
    let batches = run.poll().unwrap_or_else(|error| panic!("{error}"));
    run.deliver(&batches).unwrap();
    events(&batches)
}

#[test]
fn a_table_that_is_rewritten_while_it_streams_loses_no_change() {
    let database = Database::new();
    database.sql(&tables());
    let mut run = database.start(&[("snapshot.mode", "no_data"), ("tombstones.on.delete", "false")]);
    run.poll().unwrap();
    let mut read = while_it_is_rewritten(&database, |enough| until(&mut run, |_, _| enough()));
    read.extend(up_to_now(&mut run, &database));
    let mut wanted = found(&database);
    // Rows that nobody has touched since are not in the log.
    wanted.retain(|id, v| *v > 0 || *id > ROWS);
    assert_eq!(replay(&read), wanted);
    assert!(wanted.len() > 60, "{}", wanted.len());
    run.stop().unwrap();
}

#[test]
fn a_table_that_is_rewritten_while_a_snapshot_reads_it_loses_no_row() {
    let database = Database::new();
    database.sql(&tables());
    let (mut run, mut read) = while_it_is_rewritten(&database, |enough| {
        let mut run = database.start(&[("max.batch.size", "10"), ("tombstones.on.delete", "false")]);
        let mut read = Vec::new();
        // Slowly, so that the others come between the parts of the snapshot.
        while read.len() < ROWS as usize {
            read.extend(poll(&mut run));
            std::thread::sleep(Duration::from_millis(5));
        }
        read.extend(until(&mut run, |_, _| enough()));
        (run, read)
    });
    read.extend(up_to_now(&mut run, &database));
    assert!(read.iter().filter(|event| event.value["op"] == "r").count() >= ROWS as usize);
    assert_eq!(replay(&read), found(&database));
    run.stop().unwrap();
}

#[test]
fn a_table_that_is_rewritten_while_it_is_read_in_chunks_loses_no_row() {
    let database = Database::new();
    database.sql(&tables());
    let mut run = database.start(&[
        ("snapshot.mode", "no_data"),
        ("signal.data.collection", "public.signals"),
        ("incremental.snapshot.chunk.size", "20"),
        ("tombstones.on.delete", "false"),
    ]);
    run.poll().unwrap();
    let mut read = while_it_is_rewritten(&database, |enough| {
        signal(&database, "1", "execute-snapshot", r#"{"data-collections": ["public.t"], "type": "incremental"}"#);
        until(&mut run, |run, _| enough() && run.services().logged("that a signal asked for are read"))
    });
    read.extend(up_to_now(&mut run, &database));
    assert_eq!(replay(&read), found(&database));
    run.stop().unwrap();
}
