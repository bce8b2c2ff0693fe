//! Offsets in the database: what is refused, what waits, and who may do what.

use serde_json::{Value, json};
use tributary_connector_postgres::PostgresSink;
use tributary_harness::Proxy;
use tributary_sdk::sink::TopicPartitionOffset;
use tributary_sdk::{Batch, SinkConnector};

use crate::common::Database;
use crate::{json_batch, refused, start};

fn batch(ids: &[i32]) -> Batch {
    let rows: Vec<(Value, Value)> = ids.iter().map(|id| (Value::Null, json!({"id": id}))).collect();
    json_batch("t", &rows)
}

const TABLE: &str = "CREATE TABLE t (id int CHECK (id > 0))";
const ONCE: (&str, &str) = ("exactly.once.enabled", "true");

#[test]
fn a_bad_record_keeps_its_batch_out_where_none_may_be_lost() {
    let database = Database::new();
    database.sql(TABLE);
    let mut run = start(&database.sink_config(&[ONCE]), "t");
    assert!(run.put(batch(&[1, 2])).unwrap().is_empty());
    let failures = refused(run.put(batch(&[3, -1, 4])).unwrap());
    assert_eq!(failures.len(), 3);
    assert!(failures[1].1.contains("check constraint") && failures[0].1.contains("errors.tolerance"), "{failures:?}");
    assert_eq!(database.sql("SELECT * FROM t"), "1\n2");
    assert_eq!(
        database.sql("SELECT connector, topic, partition, next_offset, epoch FROM tributary_offsets"),
        "sink|t|0|2|1"
    );
    // As the worker does after it: the task begins anew.
    let mut run = start(&database.sink_config(&[ONCE, ("errors.tolerance", "all")]), "t");
    assert_eq!(run.open("t", 0, 0).unwrap(), 2);
}

#[test]
fn a_transaction_with_refused_records_waits_for_their_letters() {
    let database = Database::new();
    database.sql(TABLE);
    let config = database.sink_config(&[ONCE, ("errors.tolerance", "all")]);
    let mut run = start(&config, "t");
    assert_eq!(refused(run.put(batch(&[1, -1, 2])).unwrap()).len(), 1);
    // The letters are not safe yet.
    assert_eq!(database.sql("SELECT count(*) FROM t"), "0");
    assert!(run.put(batch(&[3])).unwrap().is_empty());
    assert_eq!(refused(run.put(batch(&[-2, 4])).unwrap()).len(), 1);
    drop(run);
    assert_eq!(database.sql("SELECT count(*) FROM t"), "0");
    let mut run = start(&config, "t");
    assert_eq!(run.open("t", 0, 0).unwrap(), 0);
    assert_eq!(refused(run.put(batch(&[1, -1, 2])).unwrap()).len(), 1);
    assert!(run.put(batch(&[3])).unwrap().is_empty());
    run.pre_commit().unwrap();
    assert_eq!(database.sql("SELECT * FROM t"), "1\n2\n3");
    assert!(run.put(batch(&[4])).unwrap().is_empty());
    assert_eq!(database.sql("SELECT * FROM t"), "1\n2\n3\n4");
    assert_eq!(database.sql("SELECT next_offset FROM tributary_offsets"), "5");
}

#[test]
fn what_waits_is_not_forgotten_with_its_connection() {
    let database = Database::new();
    database.sql(TABLE);
    let proxy = Proxy::start(database.server.port()).unwrap();
    let config = database.sink_config_at(proxy.port(), &[ONCE, ("errors.tolerance", "all")]);
    let mut run = start(&config, "t");
    run.put(batch(&[1, -1])).unwrap();
    proxy.cut();
    let error = run.put(batch(&[2])).unwrap_err();
    assert!(!error.is_retriable(), "the worker believes that 1 is there: {error}");
    proxy.resume();
    let mut run = start(&config, "t");
    assert_eq!(run.open("t", 0, 0).unwrap(), 0);
    run.put(batch(&[1, -1])).unwrap();
    proxy.cut();
    assert!(!run.pre_commit().unwrap_err().is_retriable());
    proxy.resume();
    assert_eq!(database.sql("SELECT count(*) FROM t"), "0");
}

#[test]
fn offsets_are_changed_in_a_schema_of_their_own() {
    let database = Database::new();
    database.sql(&format!("{TABLE}; CREATE SCHEMA books; CREATE ROLE writer_{0} LOGIN PASSWORD 'w'; GRANT INSERT, SELECT ON t TO writer_{0}", database.name));
    let table = ("exactly.once.offsets.table", "books.Offsets");
    let config = database.sink_config(&[ONCE, table]);
    let offset = TopicPartitionOffset { topic: "t".into(), partition: 0, offset: Some(7) };
    assert!(PostgresSink::default().alter_offsets(&config, &[offset]).unwrap());
    assert_eq!(database.sql("SELECT next_offset FROM books.\"Offsets\""), "7");
    let mut run = start(&config, "t");
    assert_eq!(run.open("t", 0, 0).unwrap(), 7);
    // A role that may not.
    let user = format!("writer_{}", database.name);
    let config = database.sink_config(&[ONCE, table, ("connection.username", &user), ("connection.password", "w")]);
    let mut run = crate::Run::start(&config).unwrap();
    let error = run.open("t", 0, 0).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("the role needs"), "{error}");
}

#[test]
fn records_do_not_name_the_table_of_offsets() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int, t text)");
    let config = database.sink_config(&[ONCE, ("errors.tolerance", "all"), ("collection.name.format", "${value.t}")]);
    let mut run = start(&config, "t");
    let rows = [json!({"id": 1, "t": "t"}), json!({"id": 2, "t": "tributary_offsets"})];
    let failures = refused(run.put(json_batch("t", &rows.map(|row| (Value::Null, row)))).unwrap());
    assert!(failures.len() == 1 && failures[0].0 == 1 && failures[0].1.contains("holds offsets"), "{failures:?}");
    run.pre_commit().unwrap();
    assert_eq!(database.sql("SELECT id FROM t"), "1");
}
