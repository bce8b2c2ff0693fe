//! Validation's answers. The expected counts and messages were compared with Kafka Connect 4.3.1.

use serde_json::{Value, json};

use crate::stand::Stand;

/// `key: message` for each error, and the count.
fn errors(stand: &Stand, class: &str, config: &Value) -> (u64, Vec<String>) {
    let answer = stand.json("PUT", &format!("/connector-plugins/{class}/config/validate"), config);
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let mut errors = Vec::new();
    for config in body["configs"].as_array().unwrap() {
        for error in config["value"]["errors"].as_array().unwrap() {
            errors.push(format!("{}: {}", config["value"]["name"].as_str().unwrap(), error.as_str().unwrap()));
        }
    }
    (body["error_count"].as_u64().unwrap(), errors)
}

#[test]
fn messages_are_connects() {
    let stand = Stand::new();
    let source = |more: Value| {
        let mut config = json!({"connector.class": "FileStreamSource", "name": "c", "topic": "t"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        errors(&stand, "FileStreamSource", &config)
    };
    assert_eq!(source(json!({})), (0, vec![]));
    assert_eq!(errors(&stand, "FileStreamSource", &json!({"connector.class": "FileStreamSource"})).0, 2);
    for (more, expected) in [
        (
            json!({"tasks.max": "zero"}),
            vec![
                "tasks.max: Invalid value zero for configuration tasks.max: Not a number of type INT",
                "tasks.max: Invalid value null for configuration tasks.max: Value must be non-null",
            ],
        ),
        (json!({"tasks.max": "${file:/x:y}"}), vec![]),
        (
            json!({"errors.tolerance": "some"}),
            vec![
                "errors.tolerance: Invalid value some for configuration errors.tolerance: String must be one of: none, all",
            ],
        ),
        (
            json!({"transforms": "a,a", "transforms.a.type": "Nope"}),
            vec![
                "transforms: Invalid value [a, a] for configuration transforms: Duplicate alias provided.",
                "transforms.a.type: Invalid value Nope for configuration transforms.a.type: Class Nope could not be found.",
            ],
        ),
        (
            json!({"transforms": "a"}),
            vec!["transforms.a.type: Missing required configuration \"transforms.a.type\" which has no default value."],
        ),
        (
            json!({"value.converter": "Nope"}),
            vec![
                "value.converter: Invalid value Nope for configuration value.converter: Class Nope could not be found.",
            ],
        ),
        (
            json!({"producer.override.plugin.library.paths": "/tmp"}),
            vec![
                "producer.override.plugin.library.paths: 'plugin.library.paths' cannot be overridden in the connector configuration: it would make the worker load code, run a program or call an address; set it in the worker's properties.",
            ],
        ),
        (json!({"fake.invalid": "no such file"}), vec!["file: no such file"]),
    ] {
        let (count, mut found) = source(more.clone());
        found.sort_by_key(|error| expected.iter().position(|expected| expected == error));
        assert_eq!((count, found), (expected.len() as u64, expected.iter().map(|&e| e.to_owned()).collect()), "{more}");
    }
}

#[test]
fn a_sink_reads_topics_or_a_pattern_and_not_its_dead_letters() {
    let stand = Stand::new();
    let sink = |more: Value| {
        let mut config = json!({"connector.class": "FileStreamSink", "name": "c"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        errors(&stand, "FileStreamSink", &config)
    };
    assert_eq!(sink(json!({"topics": "a,b"})), (0, vec![]));
    assert_eq!(sink(json!({})).1[0], "topics: Must configure one of topics or topics.regex");
    assert_eq!(sink(json!({"topics": "a", "topics.regex": "b"})).0, 2);
    let (_, both) = sink(json!({"topics": "a,dlq", "errors.deadletterqueue.topic.name": "dlq"}));
    assert_eq!(
        both,
        [
            "topics: The DLQ topic 'dlq' may not be included in the list of topics ('topics=[a, dlq]') consumed by the connector"
        ]
    );
    assert_eq!(sink(json!({"topics.regex": "d.*", "errors.deadletterqueue.topic.name": "dlq"})).0, 1);
}

#[test]
fn definitions_have_every_field() {
    let stand = Stand::new();
    let keys = stand.get("/connector-plugins/FileStreamSource/config").json();
    let key = |name: &str| keys.as_array().unwrap().iter().find(|key| key["name"] == name).unwrap().clone();
    assert_eq!(keys[0]["name"], "topic");
    insta::assert_json_snapshot!("tasks_max", key("tasks.max"));
    let answer = stand.json(
        "PUT",
        "/connector-plugins/FileStreamSource/config/validate",
        &json!({"connector.class": "FileStreamSource", "name": "c", "topic": "t", "tasks.max": 2}),
    );
    let body = answer.json();
    assert_eq!(body["name"], "FileStreamSource");
    let groups: Vec<&str> = body["groups"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(
        groups,
        [
            "Common",
            "Transforms",
            "Predicates",
            "Error Handling",
            "Topic Creation",
            "Exactly Once Support",
            "offsets.topic"
        ]
    );
    let value =
        body["configs"].as_array().unwrap().iter().find(|config| config["value"]["name"] == "tasks.max").unwrap();
    assert_eq!(
        value["value"],
        json!({"name": "tasks.max", "value": "2", "recommended_values": [], "errors": [], "visible": true})
    );
}

#[test]
fn the_class_in_the_path_has_to_agree() {
    let stand = Stand::new();
    let validate = |body| stand.json("PUT", "/connector-plugins/FileStreamSource/config/validate", &body);
    let answer = validate(json!({"connector.class": "FileStreamSink"}));
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (400, "Included connector type FileStreamSink does not match request type FileStreamSource")
    );
    assert_eq!(validate(json!({})).message(), "Connector config {} contains no connector type");
}

#[test]
fn the_example_configs_are_valid() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let files = |directory: std::path::PathBuf| {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    for path in files(examples.clone()) {
        let worker =
            tributary::config::WorkerConfig::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(worker.warnings, [""; 0], "{}", path.display());
    }
    let classes = tributary::catalog::classes(&tributary::catalog::builtin_registry());
    let validator = tributary::config::validation::Validator::new(std::sync::Arc::new(classes));
    for path in files(examples.join("connectors")) {
        let file = tributary::config::ConnectorFile::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(validator.validate(&file.config).unwrap().problems(), [""; 0], "{}", path.display());
    }
}
