//! README.md says what is so: its example runs, and its keys are those of the config definition.
//!
//! When the definition changed: `UPDATE_README=1 cargo test -p tributary-connector-generator --test readme`.

use std::fs;

use tributary_connector_generator::GeneratorSource;
use tributary_sdk::{Batch, Config, SourceConnector};
use tributary_testkit::{SourceRun, readme, rows};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

fn block<'a>(readme: &'a str, kind: &str) -> &'a str {
    readme.split(&format!("```{kind}\n")).nth(1).unwrap().split("\n```").next().unwrap()
}

#[test]
fn the_example_makes_its_records() {
    let readme = fs::read_to_string(README).unwrap();
    let request: serde_json::Value = serde_json::from_str(block(&readme, "json")).unwrap();
    let mut config = Config::from_json(&request["config"].to_string()).unwrap();
    config.set("name", request["name"].as_str().unwrap());
    let mut run = SourceRun::<GeneratorSource>::start(&config).unwrap();
    let batches = run.poll_records(10_000).unwrap();
    assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), 10_000);
    assert_eq!(&*batches[0].topic, "payments");
    assert_eq!(rows::values(&batches)[0], block(&readme, "text"));
    assert_eq!(rows::keys(&batches)[0], "c-000642");
    assert!(run.poll().unwrap().is_empty());
}

#[test]
fn the_keys_are_those_of_the_definition() {
    readme::check_keys(README, [("source", GeneratorSource::config_def())]);
}

#[test]
fn the_guide_has_valid_configs() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/connectors-generator.md");
    let guide = fs::read_to_string(guide).unwrap();
    let blocks: Vec<&str> = guide.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let request: serde_json::Value = serde_json::from_str(block).unwrap();
        let config = Config::from_json(&request["config"].to_string()).unwrap();
        let definition = GeneratorSource::config_def();
        definition.parse(&config).unwrap();
        // What is not the connector's own is one of the worker's keys.
        let workers = ["connector.class", "topics", "tasks.max"];
        for key in config.0.keys().filter(|key| definition.get(key).is_none()) {
            assert!(workers.contains(&key.as_str()) || key.starts_with("value.converter"), "{key}");
        }
    }
}
