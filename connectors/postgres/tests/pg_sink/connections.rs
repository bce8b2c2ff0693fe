//! Where the database is, who may log in, and when it is away.

use serde_json::{Value, json};
use tributary_harness::{Proxy, ports, postgres};
use tributary_sdk::{Config, SinkConnector};

use crate::common::Database;
use crate::{Run, json_batch, put, start};

fn batch(id: i32) -> tributary_sdk::Batch {
    json_batch("t", &[(Value::Null, json!({"id": id}))])
}

fn with_url(config: &Config, url: &str) -> Config {
    let mut config = config.clone();
    config.set("connection.url", url);
    config
}

#[test]
fn hosts_are_tried_in_turn_and_the_schema_is_the_urls() {
    let database = Database::new();
    database.sql("CREATE SCHEMA own; CREATE TABLE own.t (id int); CREATE TABLE t (id int)");
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", ports::free().unwrap(), database.server.port());
    let url = format!(
        "jdbc:postgresql://{hosts}/{}?currentSchema=own,public&ApplicationName=its%20name&prepareThreshold=3",
        database.name
    );
    let mut run = start(&with_url(&database.sink_config(&[]), &url), "t");
    put(&mut run, batch(1));
    assert_eq!(database.sql("SELECT (SELECT count(*) FROM own.t), (SELECT count(*) FROM t)"), "1|0");
    let names = format!(
        "SELECT application_name FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE 'its%'",
        database.name
    );
    assert_eq!(database.sql(&names), "its name");
    let logs = run.services().logs();
    assert!(logs.iter().any(|line| line.message.contains("prepareThreshold")), "{logs:?}");
    run.stop().unwrap();
}

#[test]
fn a_wrong_password_fails_and_is_not_shown() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int)");
    let mut run = start(&database.sink_config(&[("connection.password", "wr0ng")]), "t");
    let error = run.put(batch(1)).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("password authentication failed"), "{error}");
    assert!(!error.to_string().contains("wr0ng"));
    // The server has no TLS.
    let url =
        format!("jdbc:postgresql://127.0.0.1:{}/{}?ssl=true&password=s3cret", database.server.port(), database.name);
    let error = start(&with_url(&database.sink_config(&[]), &url), "t").put(batch(1)).unwrap_err();
    assert!(error.to_string().contains("no TLS") && !error.to_string().contains("s3cret"), "{error}");
}

#[test]
fn the_user_and_password_of_the_url() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int)");
    let password: String = postgres::PASSWORD.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let url = format!(
        "jdbc:postgresql://127.0.0.1:{}/{}?user={}&password={password}",
        database.server.port(),
        database.name,
        postgres::USER
    );
    let config = Config::from_iter([("name", "sink"), ("connection.url", &url)]);
    put(&mut start(&config, "t"), batch(1));
    assert_eq!(database.sql("SELECT * FROM t"), "1");
}

#[test]
fn configs_that_contradict_themselves() {
    let database = Database::new();
    for (more, key) in [
        (vec![("insert.mode", "upsert")], "primary.key.mode"),
        (vec![("delete.enabled", "true")], "delete.enabled"),
        (vec![("primary.key.mode", "kafka"), ("primary.key.fields", "a")], "primary.key.fields"),
        (vec![("field.include.list", "a"), ("field.exclude.list", "b")], "field.exclude.list"),
        (vec![("field.include.list", "a(")], "field.include.list"),
        (vec![("collection.name.format", "${what}")], "collection.name.format"),
        (vec![("table.name.format", "${value.}")], "table.name.format"),
        (vec![("column.naming.strategy", "com.example.Own")], "column.naming.strategy"),
        (vec![("connection.url", "jdbc:mysql://db/x")], "connection.url"),
    ] {
        let config = database.sink_config(&more);
        let problems = tributary_connector_postgres::PostgresSink::default().validate(&config);
        assert!(problems.len() == 1 && problems[0].0 == key, "{more:?}: {problems:?}");
        assert!(Run::start(&config).is_err());
    }
}

/// A database that does not answer, or closes while a commit is under way, costs nothing.
#[test]
fn what_is_interrupted_is_put_again() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id int PRIMARY KEY)");
    let proxy = Proxy::start(database.server.port()).unwrap();
    let more = [("insert.mode", "upsert"), ("primary.key.mode", "record_value"), ("primary.key.fields", "id")];
    let mut config = database.sink_config_at(proxy.port(), &more);
    let url = format!("{}&socketTimeout=1", config.get("connection.url").unwrap());
    config.set("connection.url", url);
    let mut run = start(&config, "t");
    put(&mut run, batch(1));
    proxy.stall();
    let error = run.put(batch(2)).unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains("does not answer"), "{error}");
    proxy.resume();
    put(&mut run, batch(2));
    proxy.reset();
    let attempts = (0..20).take_while(|_| run.put(batch(3)).is_err()).count();
    assert!(attempts < 20, "it does not come back");
    // Somebody ends the session.
    database.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
        database.name
    ));
    let error = run.put(batch(4)).unwrap_err();
    assert!(error.is_retriable(), "{error}");
    put(&mut run, batch(4));
    assert_eq!(database.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "1,2,3,4");
    run.stop().unwrap();
}
