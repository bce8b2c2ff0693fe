//! README.md says what is so: its example runs, and its keys are those of the config definition.
//!
//! When the definition changed: `UPDATE_README=1 cargo test -p tributary-connector-postgres --test readme`.

mod common;

use std::fs;

use common::{Database, take};
use serde_json::{Value, json};
use tributary_connector_postgres::{PostgresSink, PostgresSource, SINK_CLASS, SOURCE_CLASS};
use tributary_harness::postgres;
use tributary_sdk::{Batch, Config, Offsets, SinkConnector, SourceConnector};
use tributary_testkit::{SinkRun, SourceRun, readme};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

fn block<'a>(readme: &'a str, kind: &str) -> &'a str {
    readme.split(&format!("```{kind}\n")).nth(1).unwrap().split("\n```").next().unwrap()
}

#[test]
fn the_example_reads_its_table() {
    let readme = fs::read_to_string(README).unwrap();
    let request: Value = serde_json::from_str(block(&readme, "json")).unwrap();
    let database = Database::new();
    database.sql("CREATE TABLE orders (id int PRIMARY KEY, customer text); INSERT INTO orders VALUES (1, 'c-1')");
    let mut config = Config::from_json(&request["config"].to_string()).unwrap();
    // Where the server is, and who we are.
    for (key, value) in database.config(&[]).0 {
        if key.starts_with("database.") || key == "slot.name" {
            config.set(key, value);
        }
    }
    assert_eq!(config.get("database.user"), Some(postgres::USER));
    let mut run = SourceRun::<PostgresSource>::start(&config).unwrap();
    let record = take(&mut run, 1).remove(0);
    assert_eq!((&*record.topic, &record.key), ("shop.public.orders", &json!({"id": 1})));
    let shown = json!({"before": record.value["before"], "after": record.value["after"], "op": record.value["op"]});
    assert_eq!(shown.to_string(), block(&readme, "text"));
    run.stop().unwrap();
}

/// The source's records, in the database that the sink's example writes to.
#[test]
fn the_sinks_example_writes_its_table() {
    let readme = fs::read_to_string(README).unwrap();
    let (before, after) = readme.split_once("## The sink").unwrap();
    let (source, to) = (Database::new(), Database::new());
    source.sql("CREATE TABLE orders (id int PRIMARY KEY, customer text); INSERT INTO orders VALUES (1, 'c-1')");
    let example = |text: &str| {
        let request: Value = serde_json::from_str(block(text, "json")).unwrap();
        Config::from_json(&request["config"].to_string()).unwrap()
    };
    let mut config = example(before);
    for (key, value) in source.config(&[]).0 {
        if key.starts_with("database.") || key == "slot.name" {
            config.set(key, value);
        }
    }
    let mut from = SourceRun::<PostgresSource>::start(&config).unwrap();
    let mut config = example(after);
    to.sink_config(&[]).0.into_iter().for_each(|(key, value)| config.set(key, value));
    let mut run = SinkRun::<PostgresSink>::start(&config).unwrap();
    run.open(config.get("topics").unwrap(), 0, 0).unwrap();
    let batch = loop {
        if let Some(batch) = from.poll().unwrap().into_iter().next() {
            break batch;
        }
    };
    let batch = Batch { offsets: Offsets::None, ..batch };
    assert!(run.put(batch).unwrap().is_empty());
    assert_eq!(to.sql(block(after, "sql")), block(after, "text"));
    run.stop().unwrap();
    from.stop().unwrap();
}

#[test]
fn the_keys_are_those_of_the_definition() {
    readme::check_keys(README, [("source", PostgresSource::config_def()), ("sink", PostgresSink::config_def())]);
}

#[test]
fn the_guide_has_valid_configs() {
    let guide =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/connectors-postgres.md")).unwrap();
    let blocks: Vec<&str> = guide.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let request: Value = serde_json::from_str(block).unwrap();
        let config = Config::from_json(&request["config"].to_string()).unwrap();
        let (definition, problems) = match config.get("connector.class").unwrap() {
            SINK_CLASS => (PostgresSink::config_def(), PostgresSink::default().validate(&config)),
            SOURCE_CLASS => (PostgresSource::config_def(), PostgresSource::default().validate(&config)),
            other => panic!("{other} is no class of these"),
        };
        assert!(definition.parse(&config).is_ok() && problems.is_empty(), "{problems:?}");
        let unknown = config
            .0
            .keys()
            .find(|key| definition.get(key).is_none() && !["connector.class", "topics"].contains(&&***key));
        assert_eq!(unknown, None);
    }
}
