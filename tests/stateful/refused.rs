//! Configs that would lose or mix up state are refused, with words that say what to do.

use serde_json::{Value, json};
use tributary_harness::{Result, TributaryWorker, WorkerOptions};

fn errors(worker: &TributaryWorker, class: &str, config: &Value) -> Result<String> {
    let answer = worker.rest().put(&format!("/connector-plugins/{class}/config/validate"), config)?.ok()?;
    let mut errors = Vec::new();
    for config in answer["configs"].as_array().into_iter().flatten() {
        for error in config["value"]["errors"].as_array().into_iter().flatten() {
            errors.push(format!("{}: {}", config["value"]["name"], error.as_str().unwrap_or_default()));
        }
    }
    Ok(errors.join("\n"))
}

#[test]
fn where_state_cannot_be_kept() -> Result<()> {
    let mut worker = TributaryWorker::start_embedded()?;
    let stateful = |class: &str, more: Value| {
        let mut config = json!({
            "name": "c", "connector.class": class, "topics": "in", "transforms": "once",
            "transforms.once.type": "Deduplicate", "transforms.once.key": "v.id",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            match value {
                Value::Null => _ = config.as_object_mut().and_then(|config| config.remove(key)),
                value => config[key] = value.clone(),
            }
        }
        config
    };
    let errors = |class: &str, more| errors(&worker, class, &stateful(class, more));
    assert_eq!(errors("KafkaSink", json!({"topic": "out"}))?, "");
    assert_eq!(errors("FileStreamSink", json!({"file": "/tmp/x"}))?, "");
    let source = json!({"file": "/tmp/x", "topic": "out", "topics": null});
    let refused = errors("FileStreamSource", source.clone())?;
    assert!(refused.contains("set exactly.once.source.support=enabled on the worker"), "{refused}");
    let pattern = errors("KafkaSink", json!({"topics": null, "topics.regex": "in.*"}))?;
    assert!(pattern.contains("name the topics in topics"), "{pattern}");
    let window = errors(
        "KafkaSink",
        json!({"transforms.once.type": "Aggregate", "transforms.once.window": "tumbling", "transforms.once.aggs": "n:count()"}),
    )?;
    assert!(window.contains("window=tumbling needs size.ms"), "{window}");
    assert_eq!(errors("KafkaSink", json!({"topic": "out", "transforms.once.repartition": "none"}))?, "");
    assert_eq!(errors("KafkaSink", json!({"topic": "out", "transforms.once.repartition": "auto"}))?, "");
    assert_eq!(errors("KafkaSink", json!({"topic": "out", "state.standby.replicas": "2"}))?, "");
    for replicas in ["-1", "1.5"] {
        let refused = errors("KafkaSink", json!({"topic": "out", "state.standby.replicas": replicas}))?;
        assert!(refused.contains("Invalid value") && refused.contains("state.standby.replicas"), "{refused}");
    }
    // There is nobody who could follow.
    let config = stateful("KafkaSink", json!({"topic": "out", "state.standby.replicas": "2"}));
    let answer = worker.rest().put("/connector-plugins/KafkaSink/config/validate", &config)?.ok()?;
    assert!(answer["warnings"].to_string().contains("no effect in standalone mode"), "{answer}");
    let repartition = errors("KafkaSink", json!({"topic": "out", "transforms.once.repartition": "yes"}))?;
    assert!(repartition.contains("transforms.once.repartition") && repartition.contains("none, auto"), "{repartition}");
    worker.stop()?;

    let options = WorkerOptions::default().set("exactly.once.source.support", "enabled");
    let mut worker = TributaryWorker::start_with("embedded", options)?;
    let source_errors = |more: Value| {
        let mut config = stateful("FileStreamSource", source.clone());
        config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self::errors(&worker, "FileStreamSource", &config)
    };
    assert_eq!(source_errors(json!({"state.scope": "partition"}))?, "");
    let repartition = source_errors(json!({"transforms.once.repartition": "auto"}))?;
    assert!(repartition.contains("read that with a KafkaSink"), "{repartition}");
    let scope = source_errors(json!({"state.scope": "task"}))?;
    assert!(scope.contains("state.scope") && scope.contains("connector, partition"), "{scope}");
    worker.stop()
}
