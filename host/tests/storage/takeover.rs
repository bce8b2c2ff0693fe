//! The topics of a real Kafka Connect cluster: taken over, changed, and handed back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tributary::storage::{
    ConfigLog, ConfigWrite, OffsetStore, SessionKey, StatusRecord, StatusStore, StorageErrorKind, TopicStatus,
};
use tributary::worker::{State, TaskId};
use tributary_harness::{ConnectOptions, ConnectWorker, KafkaBroker, Rest};
use tributary_sdk::Config;
use tributary_sdk::source::SourcePosition;

use crate::support::{Found, Group, PATIENCE, eventually, read_all, refused};

fn connect(broker: &KafkaBroker, group: &Group) -> ConnectWorker {
    // `preparing`: its leader writes in transactions, as Tributary's does.
    let mut options = ConnectOptions::default()
        .small()
        .set("offset.flush.interval.ms", "300")
        .set("exactly.once.source.support", "preparing");
    for (key, value) in &group.properties {
        options = options.set(key, value);
    }
    ConnectWorker::start_with(broker, options).unwrap()
}

fn source(file: &std::path::Path, topic: &str) -> Value {
    json!({"connector.class": "FileStreamSource", "tasks.max": "1", "file": file, "topic": topic, "note": "ü \"x\" \u{1}"})
}

fn config_of(value: &Value) -> Config {
    let map = value.as_object().unwrap().iter();
    map.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn offsets_of(rest: &Rest, connector: &str) -> Vec<SourcePosition> {
    let answer = rest.get(&format!("/connectors/{connector}/offsets")).unwrap().ok().unwrap();
    let positions = answer["offsets"].as_array().unwrap().iter();
    positions
        .map(|position| SourcePosition {
            partition: position["partition"].clone(),
            offset: Some(position["offset"].clone()),
        })
        .collect()
}

/// Waits until a connector's own state is this one.
fn wait_connector(rest: &Rest, name: &str, state: &str) {
    eventually(&format!("{name} being {state}"), || {
        let status = rest.status(name).ok()?;
        (status["connector"]["state"] == state).then_some(())
    });
}

#[test]
fn a_connect_clusters_topics_are_taken_over_and_handed_back() {
    let broker = KafkaBroker::shared().unwrap();
    let group = Group::new(&broker);
    let files = tempfile::tempdir().unwrap();
    let (data, sunk) = (format!("{}-data", group.name), files.path().join("sunk"));
    let mut worker = connect(&broker, &group);
    let rest = worker.rest().clone();
    let names = ["runs", "pauses", "stops", "goes"];
    for name in names {
        let file = files.path().join(name);
        std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
        rest.put_connector(name, &source(&file, &data)).unwrap();
    }
    rest.put_connector(
        "sinks-1",
        &json!({"connector.class": "FileStreamSink", "tasks.max": "2", "file": sunk, "topics": data}),
    )
    .unwrap();
    let starts = json!({"name": "born-stopped", "config": source(&files.path().join("runs"), &data), "initial_state": "stopped"});
    rest.post("/connectors", &starts).unwrap().ok().unwrap();
    for name in names.iter().chain(&["sinks-1"]) {
        rest.wait_running(name).unwrap();
    }
    for name in names {
        eventually("offsets", || (!offsets_of(&rest, name).is_empty()).then_some(()));
    }
    rest.put("/connectors/pauses/pause", &Value::Null).unwrap().ok().unwrap();
    rest.put("/connectors/stops/stop", &Value::Null).unwrap().ok().unwrap();
    rest.post("/connectors/runs/restart?includeTasks=true", &Value::Null).unwrap().ok().unwrap();
    rest.put("/admin/loggers/org.apache.kafka.connect.file?scope=cluster", &json!({"level": "DEBUG"}))
        .unwrap()
        .ok()
        .unwrap();
    wait_connector(&rest, "pauses", "PAUSED");
    wait_connector(&rest, "stops", "STOPPED");
    rest.wait_running("runs").unwrap();
    rest.delete_connector("goes").unwrap();
    let gone = offsets_of(&rest, "stops");
    let expected_offsets: BTreeMap<&str, Vec<SourcePosition>> =
        [("runs", offsets_of(&rest, "runs")), ("stops", gone)].into();
    let expected: BTreeMap<String, (Value, Value, usize)> = ["runs", "pauses", "stops", "sinks-1", "born-stopped"]
        .into_iter()
        .map(|name| {
            let config = rest.get(&format!("/connectors/{name}/config")).unwrap().ok().unwrap();
            let status = rest.status(name).unwrap();
            let tasks = rest.get(&format!("/connectors/{name}/tasks")).unwrap().ok().unwrap().as_array().unwrap().len();
            (name.to_owned(), (config, status, tasks))
        })
        .collect();
    worker.stop().unwrap();

    // Taken over: everything is what Connect said.
    let ours = group.worker();
    let seen = ours.configs.snapshot();
    assert_eq!(seen.connectors.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(seen.inconsistent.is_empty());
    assert_eq!(seen.session_key.as_ref().map(|key| key.algorithm.as_str()), Some("HmacSHA256"));
    for (name, (config, status, tasks)) in &expected {
        let connector = &seen.connectors[name];
        assert_eq!(*connector.config, config_of(config), "{name}");
        assert_eq!(connector.tasks.len(), *tasks, "{name}");
        let target = match status["connector"]["state"].as_str().unwrap() {
            "RUNNING" => State::Running,
            "PAUSED" => State::Paused,
            _ => State::Stopped,
        };
        assert_eq!(connector.target, target, "{name}");
        let kept = ours.statuses.connector(name).unwrap().unwrap();
        assert_eq!(kept.worker_id, status["connector"]["worker_id"].as_str().unwrap());
    }
    assert_eq!(ours.statuses.connector("goes").unwrap(), None);
    assert_eq!(ours.statuses.topics("runs").unwrap()[0].topic, data);
    for (name, offsets) in &expected_offsets {
        assert_eq!(ours.offsets.all(name).unwrap(), *offsets, "{name}");
    }
    same_bytes(&broker, &group);

    // Changed.
    ours.configs.claim().unwrap();
    let mut changed = config_of(&expected["runs"].0);
    changed.set("note", "changed");
    let made = config_of(
        &json!({"name": "made-here", "connector.class": "FileStreamSource", "tasks.max": "1", "file": files.path().join("runs"), "topic": data}),
    );
    let tasks = vec![config_of(
        &json!({"file": files.path().join("runs"), "topic": data, "task.class": "org.apache.kafka.connect.file.FileStreamSourceTask", "batch.size": "2000"}),
    )];
    ours.configs
        .write(&[
            ConfigWrite::Connector { name: "made-here".into(), config: made.clone(), initial: Some(State::Stopped) },
            ConfigWrite::Connector { name: "runs".into(), config: changed.clone(), initial: None },
            ConfigWrite::Tasks("runs".into(), tasks),
            ConfigWrite::Target("runs".into(), State::Paused),
            ConfigWrite::Target("pauses".into(), State::Running),
            ConfigWrite::Remove("born-stopped".into()),
        ])
        .unwrap();
    ours.statuses.remove_connector("born-stopped");
    let moved = SourcePosition { offset: Some(json!({"position": 4})), ..expected_offsets["stops"][0].clone() };
    ours.offsets.put("stops", std::slice::from_ref(&moved)).unwrap();
    let first = expected_offsets["runs"][0].clone();
    ours.offsets
        .put(
            "made-here",
            &[SourcePosition { partition: first.partition.clone(), offset: Some(json!({"position": 8})) }],
        )
        .unwrap();

    // Handed back: Connect goes on from there.
    worker.restart().unwrap();
    eventually("the connectors", || {
        let names = rest.get("/connectors").ok()?.ok().ok()?;
        let mut names: Vec<String> =
            names.as_array()?.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        names.sort();
        (names == ["made-here", "pauses", "runs", "sinks-1", "stops"]).then_some(())
    });
    rest.wait_running("pauses").unwrap();
    wait_connector(&rest, "made-here", "STOPPED");
    wait_connector(&rest, "runs", "PAUSED");
    assert_eq!(config_of(&rest.get("/connectors/runs/config").unwrap().ok().unwrap()), changed);
    assert_eq!(config_of(&rest.get("/connectors/made-here/config").unwrap().ok().unwrap()), made);
    assert_eq!(offsets_of(&rest, "stops"), [moved]);
    assert_eq!(offsets_of(&rest, "made-here")[0].offset, Some(json!({"position": 8})));
    rest.put("/connectors/stops/resume", &Value::Null).unwrap().ok().unwrap();
    rest.wait_running("stops").unwrap();
    // From position 4 on: "two" and "three" come a second time.
    eventually("reading on from the offset", || {
        let sunk = std::fs::read_to_string(&sunk).ok()?;
        (sunk.matches("three").count() >= 5 && sunk.matches("one").count() == 4).then_some(())
    });
    // Its leader has fenced ours, and writes what ours reads.
    rest.put("/connectors/sinks-1/stop", &Value::Null).unwrap().ok().unwrap();
    rest.delete_connector("stops").unwrap();
    let error = refused(ours.configs.write(&[ConfigWrite::Remove("runs".into())]));
    assert_eq!(error.kind, StorageErrorKind::Fenced, "{error}");
    ours.configs.refresh(PATIENCE).unwrap();
    let seen = ours.configs.snapshot();
    assert_eq!(seen.connectors["sinks-1"].target, State::Stopped);
    assert_eq!(seen.connectors.keys().collect::<Vec<_>>(), ["made-here", "pauses", "runs", "sinks-1"]);
    worker.stop().unwrap();
    std::thread::sleep(Duration::from_millis(1));
}

/// What Connect wrote, written again by Tributary into topics of its own, is the same to the byte and in the same partitions.
fn same_bytes(broker: &KafkaBroker, connects: &Group) {
    let group = Group::new(broker);
    let ours = group.worker();
    ours.configs.claim().unwrap();
    let text = |record: &Found| record.value.clone();
    let compare = |role: &str, key: &str, expected: &Found| {
        let records = read_all(&group.bootstrap, &group.topic(role));
        let found = records.iter().rfind(|record| record.key == key).unwrap_or_else(|| panic!("no record {key}"));
        assert_eq!(found.partition, expected.partition, "{key}");
        match (&found.value, &expected.value) {
            // The order of a config's properties is that of a Java map, and means nothing.
            (Some(found), Some(expected)) if expected.contains("\"properties\"") => {
                let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                assert_eq!(json(found), json(expected));
                let mut bytes = [found.clone().into_bytes(), expected.clone().into_bytes()];
                bytes.iter_mut().for_each(|bytes| bytes.sort_unstable());
                assert_eq!(bytes[0], bytes[1], "{key}: {found} and {expected}");
            }
            (found, expected) => assert_eq!(found, expected, "{key}"),
        }
    };

    let mut kinds = std::collections::BTreeSet::new();
    for record in read_all(&connects.bootstrap, &connects.topic("config")) {
        let json: Value = record.value.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
        let key = record.key.as_str();
        let state = |name: &Value| match name.as_str().unwrap() {
            "STARTED" => State::Running,
            "PAUSED" => State::Paused,
            _ => State::Stopped,
        };
        let (kind, write) = if let Some(name) = key.strip_prefix("target-state-") {
            if json.is_null() {
                continue;
            }
            ("target", ConfigWrite::Target(name.into(), state(&json["state.v2"])))
        } else if let Some(name) = key.strip_prefix("connector-") {
            if json.is_null() {
                ("remove", ConfigWrite::Remove(name.into()))
            } else {
                let config = config_of(&json["properties"]);
                ("connector", ConfigWrite::Connector { name: name.into(), config, initial: None })
            }
        } else if let Some(task) = key.strip_prefix("task-") {
            let (name, number) = task.rsplit_once('-').unwrap();
            if number != "0" {
                continue;
            }
            ("task", ConfigWrite::Tasks(name.into(), vec![config_of(&json["properties"])]))
        } else if let Some(name) = key.strip_prefix("commit-") {
            let tasks = vec![Config::default(); json["tasks"].as_u64().unwrap() as usize];
            ("commit", ConfigWrite::Tasks(name.into(), tasks))
        } else if let Some(name) = key.strip_prefix("restart-connector-") {
            let request = tributary::herder::RestartRequest {
                include_tasks: json["include-tasks"].as_bool().unwrap(),
                only_failed: json["only-failed"].as_bool().unwrap(),
            };
            ("restart", ConfigWrite::Restart(name.into(), request))
        } else if let Some(logger) = key.strip_prefix("logger-cluster-") {
            ("logger", ConfigWrite::LoggerLevel(logger.into(), json["level"].as_str().unwrap().into()))
        } else {
            assert_eq!(key, "session-key");
            use base64::Engine as _;
            let key = SessionKey {
                key: base64::engine::general_purpose::STANDARD.decode(json["key"].as_str().unwrap()).unwrap(),
                algorithm: json["algorithm"].as_str().unwrap().into(),
                created_ms: json["creation-timestamp"].as_i64().unwrap(),
            };
            ("session-key", ConfigWrite::SessionKey(key))
        };
        kinds.insert(kind);
        ours.configs.write(&[write]).unwrap();
        compare("config", key, &record);
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");

    for record in read_all(&connects.bootstrap, &connects.topic("offset")) {
        let (connector, partition): (String, Value) = serde_json::from_str(&record.key).unwrap();
        let offset = text(&record).map(|text| serde_json::from_str(&text).unwrap());
        ours.offsets.put(&connector, &[SourcePosition { partition, offset }]).unwrap();
        compare("offset", &record.key, &record);
    }

    let mut compared = 0;
    for record in read_all(&connects.bootstrap, &connects.topic("status")) {
        let Some(value) = text(&record) else { continue };
        let json: Value = serde_json::from_str(&value).unwrap();
        if let Some(used) = record.key.strip_prefix("status-topic-") {
            let (topic, connector) = used.split_once(":connector-").unwrap();
            let used = TopicStatus {
                topic: topic.into(),
                task: json["topic"]["task"].as_u64().unwrap() as u32,
                discovered_ms: json["topic"]["discoverTimestamp"].as_i64().unwrap(),
            };
            ours.statuses.remove_topics(connector);
            ours.statuses.put_topic(connector, &used);
        } else {
            let status = StatusRecord {
                state: serde_json::from_value(json["state"].clone()).unwrap(),
                trace: json["trace"].as_str().map(str::to_owned),
                worker_id: json["worker_id"].as_str().unwrap().into(),
                generation: json["generation"].as_i64().unwrap() as i32,
                version: json["version"].as_str().map(str::to_owned),
            };
            match record.key.strip_prefix("status-task-") {
                Some(task) => {
                    let (connector, task) = task.rsplit_once('-').unwrap();
                    ours.statuses
                        .put_task(&TaskId { connector: connector.into(), task: task.parse().unwrap() }, &status);
                }
                None => ours.statuses.put_connector(record.key.strip_prefix("status-connector-").unwrap(), &status),
            }
        }
        eventually("the status", || {
            let records = read_all(&group.bootstrap, &group.topic("status"));
            let last = records.into_iter().rfind(|found| found.key == record.key)?;
            (last.value == record.value).then(|| assert_eq!(last.partition, record.partition))
        });
        compared += 1;
    }
    assert!(compared >= 10, "{compared}");
}
