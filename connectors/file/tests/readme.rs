//! README.md says what is so: its example runs, and its keys are those of the config definitions.
//!
//! When a definition changed: `UPDATE_README=1 cargo test -p tributary-connector-file --test readme`.

use std::fs;

use tributary_connector_file::{FileStreamSinkConnector, FileStreamSourceConnector};
use tributary_sdk::{Config, SinkConnector, SourceConnector};
use tributary_testkit::{SinkRun, SourceRun, readme};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// The configs of the README's JSON blocks, with their paths moved to `directory`.
fn examples(directory: &str) -> Vec<Config> {
    let readme = fs::read_to_string(README).unwrap();
    let blocks = readme.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let config = |block: String| {
        let request: serde_json::Value = serde_json::from_str(&block.replace("/var/log", directory)).unwrap();
        let mut config = Config::from_json(&request["config"].to_string()).unwrap();
        config.set("name", request["name"].as_str().unwrap());
        config
    };
    blocks.map(config).collect()
}

#[test]
fn the_example_copies_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let configs = examples(directory.path().to_str().unwrap());
    let [source, sink] = configs.as_slice() else { panic!("one source and one sink") };
    let lines: String = (0..10_000).map(|line| format!("line {line}\n")).collect();
    fs::write(source.get("file").unwrap(), &lines).unwrap();
    let mut source = SourceRun::<FileStreamSourceConnector>::start(source).unwrap();
    let mut copy = SinkRun::<FileStreamSinkConnector>::start(sink).unwrap();
    for batch in source.poll_records(10_000).unwrap() {
        assert!(copy.put(batch).unwrap().is_empty());
    }
    copy.stop().unwrap();
    assert_eq!(fs::read_to_string(sink.get("file").unwrap()).unwrap(), lines);
}

#[test]
fn the_keys_are_those_of_the_definitions() {
    let definitions =
        [("source", FileStreamSourceConnector::config_def()), ("sink", FileStreamSinkConnector::config_def())];
    readme::check_keys(README, definitions);
}

#[test]
fn the_guide_has_valid_configs() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/connectors-file.md");
    let guide = fs::read_to_string(guide).unwrap();
    let blocks: Vec<&str> = guide.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let request: serde_json::Value = serde_json::from_str(block).unwrap();
        let config = Config::from_json(&request["config"].to_string()).unwrap();
        let definition = match config.get("connector.class").unwrap() {
            "FileStreamSource" => FileStreamSourceConnector::config_def(),
            _ => FileStreamSinkConnector::config_def(),
        };
        definition.parse(&config).unwrap();
        // What is not the connector's own is one of the worker's keys.
        let workers = ["connector.class", "topics", "tasks.max"];
        for key in config.0.keys().filter(|key| definition.get(key).is_none()) {
            assert!(workers.contains(&key.as_str()) || key.starts_with("value.converter"), "{key}");
        }
    }
}
