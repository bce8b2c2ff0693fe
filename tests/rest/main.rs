//! The REST API, with the real Kafka Connect as the judge.

mod answers;
mod scenario;

use serde_json::json;
use tributary_harness::{ConnectOptions, ConnectWorker, KafkaBroker, Result, TributaryWorker};

use scenario::Scenario;

/// Where Tributary's answers are meant to be others, or are not yet what they should be.
const KNOWN: &[(&str, &str)] = &[
    ("POST /connectors: status 400 instead of 500", "an unknown initial state is the client's mistake"),
    ("POST /connectors: /tasks has 1 elements instead of 0", "the answer waits for the tasks"),
    ("PUT /connectors/b/config: /tasks has 1 elements instead of 0", "the answer waits for the tasks"),
    ("GET /connectors/a/tasks: /0/config/task.class is missing", "open: Connect adds the class of the task"),
    (
        "PUT /connector-plugins/FileStreamSource/config/validate: /configs/key.converter.plugin.version/",
        "each plugin has a version of its own",
    ),
    (
        "PUT /connector-plugins/FileStreamSource/config/validate: /configs/value.converter.plugin.version/",
        "each plugin has a version of its own",
    ),
    (
        "PUT /connector-plugins/FileStreamSource/config/validate: /configs/header.converter.plugin.version/",
        "each plugin has a version of its own",
    ),
    (
        "PUT /connector-plugins/FileStreamSource/config/validate: /configs/connector.plugin.version/",
        "each plugin has a version of its own",
    ),
    (
        "GET /connector-plugins/FileStreamSource/config: /connector.plugin.version/",
        "each plugin has a version of its own",
    ),
    (
        "GET /connector-plugins/FileStreamSink/config: /connector.plugin.version/",
        "each plugin has a version of its own",
    ),
];

/// Every step is sent to both workers; every answer of Tributary's has to contain Connect's.
#[test]
fn answers_are_those_of_connect() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let connect = ConnectWorker::start_with(&broker, ConnectOptions::default().small())?;
    let tributary = TributaryWorker::start(&broker)?;
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("input");
    std::fs::write(&file, "a\nb\n")?;

    let mut scenario = Scenario::new(connect.rest(), tributary.rest());
    steps(&mut scenario, &json!(file))?;
    scenario.finish(KNOWN)
}

fn steps(s: &mut Scenario, file: &serde_json::Value) -> Result<()> {
    let source = json!({"connector.class": "FileStreamSource", "tasks.max": "1", "file": file, "topic": "rest"});
    let sink = json!({"connector.class": "FileStreamSink", "topics": "rest", "file": format!("{}.out", file.as_str().unwrap_or_default())});

    s.get("/")?;
    s.get("/connectors")?;
    s.get("/health")?;
    s.get("/connectors/absent")?;
    s.get("/connectors/absent/status")?;
    s.get("/connectors/absent/config")?;
    s.get("/connectors/absent/tasks")?;
    s.get("/nowhere")?;
    s.delete("/connectors/absent")?;
    s.put("/connectors/absent/pause", json!(null))?;
    s.post("/connectors/absent/restart", json!(null))?;

    // What is refused.
    s.post("/connectors", json!({"name": "a", "config": {"topic": "rest"}}))?;
    s.post("/connectors", json!({"name": "a", "config": {"connector.class": "NoSuchConnector", "topic": "rest"}}))?;
    s.post("/connectors", json!({"name": "a", "config": {"connector.class": "FileStreamSource"}}))?;
    s.post(
        "/connectors",
        json!({"name": "a", "config": {"name": "b", "connector.class": "FileStreamSource", "topic": "rest"}}),
    )?;
    s.post("/connectors", json!({"name": "a", "config": source, "initial_state": "SLEEPING"}))?;

    // A connector's life.
    s.post("/connectors", json!({"name": "a", "config": source}))?;
    s.settle("a", "RUNNING")?;
    s.post("/connectors", json!({"name": "a", "config": source}))?;
    s.get("/connectors")?;
    s.get("/connectors?expand=status")?;
    s.get("/connectors?expand=info")?;
    s.get("/connectors?expand=status&expand=info")?;
    s.get("/connectors?expand=nonsense")?;
    s.get("/connectors/a")?;
    s.get("/connectors/a/config")?;
    s.get("/connectors/a/status")?;
    s.get("/connectors/a/tasks")?;
    s.get("/connectors/a/tasks/0/status")?;
    s.get("/connectors/a/tasks/7/status")?;
    s.put("/connectors/a/config", source.clone())?;
    s.settle("a", "RUNNING")?;
    s.patch("/connectors/a/config", json!({"batch.size": "100", "tasks.max": null}))?;
    s.settle("a", "RUNNING")?;
    s.get("/connectors/a/config")?;
    s.patch("/connectors/absent/config", json!({"batch.size": "100"}))?;
    s.put("/connectors/a/pause", json!(null))?;
    s.settle("a", "PAUSED")?;
    s.get("/connectors/a/status")?;
    s.put("/connectors/a/resume", json!(null))?;
    s.settle("a", "RUNNING")?;
    s.post("/connectors/a/restart", json!(null))?;
    s.settle("a", "RUNNING")?;
    s.post("/connectors/a/restart?includeTasks=true&onlyFailed=true", json!(null))?;
    s.post("/connectors/a/tasks/0/restart", json!(null))?;
    s.settle("a", "RUNNING")?;
    s.post("/connectors/a/tasks/7/restart", json!(null))?;
    s.put("/connectors/a/stop", json!(null))?;
    s.settle_stopped("a")?;
    s.get("/connectors/a/status")?;
    s.get("/connectors/a/tasks")?;
    s.delete("/connectors/a")?;
    s.get("/connectors/a")?;

    // Made by PUT, and in another state than RUNNING.
    s.put("/connectors/b/config", sink.clone())?;
    s.settle("b", "RUNNING")?;
    s.get("/connectors/b")?;
    s.get("/connectors/b/status")?;
    s.delete("/connectors/b")?;
    s.post("/connectors", json!({"name": "c", "config": sink, "initial_state": "stopped"}))?;
    s.settle_stopped("c")?;
    s.get("/connectors/c/status")?;
    s.delete("/connectors/c")?;

    // Plugins.
    s.get_subset("/connector-plugins")?;
    s.put("/connector-plugins/FileStreamSource/config/validate", source.clone())?;
    s.put(
        "/connector-plugins/FileStreamSource/config/validate",
        json!({"connector.class": "FileStreamSource", "tasks.max": "many"}),
    )?;
    s.put(
        "/connector-plugins/FileStreamSink/config/validate",
        json!({"connector.class": "FileStreamSource", "topic": "rest"}),
    )?;
    s.put("/connector-plugins/NoSuchConnector/config/validate", source)?;
    s.get_subset("/connector-plugins/FileStreamSource/config")?;
    s.get_subset("/connector-plugins/FileStreamSink/config")?;
    s.get("/connector-plugins/NoSuchConnector/config")
}
