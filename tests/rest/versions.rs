//! Several versions of one plugin: the one that is asked for runs, the API shows which there are, and refuses others.

use std::path::Path;

use serde_json::{Value, json};
use tributary_harness::{Result, TributaryWorker, WorkerOptions, wait};

use crate::stamps;

const VERSIONS: [&str; 3] = ["7001.0.0", "7002.0.0", "7010.0.0"];
const SOURCE: &str = "com.example.StampsSourceConnector";

fn worker(plugins: &Path) -> Result<TributaryWorker> {
    for version in VERSIONS {
        stamps::install(plugins, version)?;
    }
    TributaryWorker::start_with("embedded", WorkerOptions::default().set("plugin.path", &plugins.display().to_string()))
}

fn with(mut config: Value, key: &str, version: Option<&str>) -> Value {
    if let Some(version) = version {
        config[key] = version.into();
    }
    config
}

#[test]
fn the_version_that_is_asked_for_runs() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let worker = worker(&directory.path().join("plugins"))?;
    let rest = worker.rest();
    let out = |name: &str| directory.path().join(format!("out-{name}"));
    let text = "org.apache.kafka.connect.storage.StringConverter";
    let source = |name: &str, version: Option<&str>| {
        let config = json!({"connector.class": "StampsSource", "topic": name, "value.converter": text});
        with(config, "connector.plugin.version", version)
    };
    let sink = |name: &str| json!({"connector.class": "FileStreamSink", "topics": name, "file": out(name), "value.converter": text});
    let stamp = |mut config: Value, version: Option<&str>| {
        config["transforms"] = "s".into();
        config["transforms.s.type"] = "com.example.Stamp".into();
        with(config, "transforms.s.plugin.version", version)
    };
    let wait_for = |name: &str, lines: &[&str]| {
        let expected: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let read = || std::fs::read_to_string(out(name)).unwrap_or_default();
        wait::until(&format!("{name}: {lines:?}"), wait::PATIENCE, || Ok((read() == expected).then_some(())))
            .map_err(|error| worker.with_log(format!("{error}, not {:?}", read())))
    };

    for (name, connector, transform, expected) in [
        ("newest", None, None, "7010.0.0 7010.0.0"),
        ("latest", Some("latest"), Some("latest"), "7010.0.0 7010.0.0"),
        ("exact", Some("7001.0.0"), Some("7002.0.0"), "7001.0.0 7002.0.0"),
        ("ranges", Some("(,7010)"), Some("[7001,7002),[7003,7009]"), "7002.0.0 7001.0.0"),
    ] {
        rest.put_connector(&format!("{name}-source"), &source(name, connector))?;
        rest.put_connector(&format!("{name}-sink"), &stamp(sink(name), transform))?;
        wait_for(name, &[expected])?;
        let status = rest.status(&format!("{name}-source"))?;
        let ran = expected.split(' ').next();
        assert_eq!((status["connector"]["version"].as_str(), status["tasks"][0]["version"].as_str()), (ran, ran));
    }

    // As in Connect, a transform without a version is that of the connector's own plugin, if it has one.
    rest.put_connector("beside-source", &stamp(source("beside", Some("7001.0.0")), None))?;
    rest.put_connector("beside-sink", &sink("beside"))?;
    wait_for("beside", &["7001.0.0 7001.0.0"])?;
    rest.put_connector("beside-source", &stamp(source("beside", Some("7001.0.0")), Some("[7002,)")))?;
    wait_for("beside", &["7001.0.0 7001.0.0", "7001.0.0 7010.0.0"])?;
    // And another version of the connector takes over from it.
    rest.put_connector("beside-source", &stamp(source("beside", Some("7002.0.0")), None))?;
    wait_for("beside", &["7001.0.0 7001.0.0", "7001.0.0 7010.0.0", "7002.0.0 7002.0.0"])?;
    assert_eq!(rest.status("beside-source")?["connector"]["version"], "7002.0.0");
    Ok(())
}

#[test]
fn versions_are_shown_and_others_refused() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let worker = worker(directory.path())?;
    let rest = worker.rest();
    let versions_of = |path: &str, class: &str| -> Result<Vec<String>> {
        let all = rest.get(path)?.ok()?;
        let own = all.as_array().into_iter().flatten().filter(|plugin| plugin["class"] == class);
        Ok(own.map(|plugin| plugin["version"].as_str().unwrap_or_default().to_owned()).collect())
    };
    assert_eq!(versions_of("/connector-plugins", SOURCE)?, VERSIONS);
    assert_eq!(versions_of("/connector-plugins?connectorsOnly=false", "com.example.Stamp")?, VERSIONS);

    // Each version has a definition of its own, which says its version.
    for (asked, found) in [
        ("", "7010.0.0"),
        ("?version=latest", "7010.0.0"),
        ("?version=7001.0.0", "7001.0.0"),
        ("?version=%5B7001,7010)", "7002.0.0"),
    ] {
        for class in [SOURCE, "StampsSource"] {
            let keys = rest.get(&format!("/connector-plugins/{class}/config{asked}"))?.ok()?;
            let own = keys.as_array().into_iter().flatten().find(|key| key["name"] == "topic");
            assert_eq!(own.map(|key| &key["documentation"]), Some(&found.into()), "{class}{asked}");
        }
    }
    let unknown = |class: &str, range: &str| {
        let there = VERSIONS.join(", ");
        format!("Plugin {class} not found that matches the version range {range}, available versions: [{there}]")
    };
    let answer = rest.get("/connector-plugins/StampsSource/config?version=9")?;
    assert_eq!((answer.status, &answer.body["message"]), (400, &unknown(SOURCE, "[9,9]").into()));
    let answer = rest.get("/connector-plugins/StampsSource/config?version=%5B9")?;
    assert_eq!((answer.status, &answer.body["message"]), (400, &"Invalid version specification: [9".into()));

    // The definition that a config is checked against is that of its version, too.
    let config = |key: &str, version: &str| {
        let mut config = json!({
            "name": "x", "connector.class": SOURCE, "topic": "t",
            "transforms": "s", "transforms.s.type": "com.example.Stamp",
        });
        config[key] = version.into();
        config
    };
    let validated = |config: &Value| rest.put("/connector-plugins/StampsSource/config/validate", config)?.ok();
    let of = |answer: &Value, key: &str, what: &str| {
        let all = answer["configs"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|info| info["value"]["name"] == key).map_or(Value::Null, |info| info[what].clone())
    };
    let answer = validated(&config("connector.plugin.version", "(,7002.0.0]"))?;
    assert_eq!(answer["error_count"], 0);
    assert_eq!(of(&answer, "topic", "definition")["documentation"], "7002.0.0");
    let own = of(&answer, "connector.plugin.version", "value");
    assert_eq!((&own["value"], &own["recommended_values"]), (&"(,7002.0.0]".into(), &json!(VERSIONS)));
    assert_eq!(of(&answer, "transforms.s.plugin.version", "value")["recommended_values"], json!(VERSIONS));

    for (keys, class) in [
        (["connector.class", "connector.plugin.version"], SOURCE),
        (["transforms.s.type", "transforms.s.plugin.version"], "com.example.Stamp"),
    ] {
        let refused = config(keys[1], "[8000,)");
        let answer = validated(&refused)?;
        let message = unknown(class, "[8000,)");
        for key in keys {
            assert_eq!(of(&answer, key, "value")["errors"], json!([message]), "{key}");
        }
        let answer = rest.put("/connectors/x/config", &refused)?;
        assert!(answer.status == 400 && answer.body["message"].as_str().is_some_and(|told| told.contains(&message)));
        assert_eq!(rest.get("/connectors/x")?.status, 404);
    }
    Ok(())
}
