//! Secrets are nowhere but in the tasks that need them.
//!
//! A plugin puts what it is configured with into everything that it says. Unusual secrets come to it through each config
//! provider; connectors succeed and fail with it in every way; then every answer of the REST API, the log at its most
//! talkative, and every file of the data directory, in which the topics are, too, is searched for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tributary_harness::{Context, Error, Result, TributaryWorker, WorkerOptions, tributary, wait};
// The library is built because of this.
use tributary_plugin_leaky as _;

/// A part of each secret that is the same however the secret is escaped.
const MARKS: [&str; 5] = ["zQ7file", "zQ7dirONE", "zQ7dirTWO", "zQ7env", "zQ7worker"];

const FILE: &str = "p\"a\\s$1 {x} w\u{f6}rd 'zQ7file";
const DIRECTORY: &str = "-----BEGIN KEY-----\nMIIzQ7dirONEx\nMIIzQ7dirTWOx==\n-----END KEY-----\n";
const ENVIRONMENT: &str = "env&sec ret=%41+\u{3a9} zQ7env";

/// Where a connector fails, and how.
const WAYS: [(&str, &str); 12] = [
    ("nowhere", "error"),
    ("connector.start", "error"),
    ("connector.start", "panic"),
    ("task_configs", "error"),
    ("task_configs", "panic"),
    ("start", "error"),
    ("start", "panic"),
    ("poll", "error"),
    ("poll", "panic"),
    ("poll", "retry"),
    ("put", "error"),
    ("put", "panic"),
];

#[test]
fn secrets_of_providers_are_shown_nowhere() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut worker = worker(scratch.path())?;
    let secret = format!("${{file:{}:pass}}", scratch.path().join("s.properties").display());
    let plain = format!("${{dir:{}:key}}|${{env:LEAKY_SECRET}}", scratch.path().join("keys").display());
    let config = |class: &str, (place, way): (&str, &str)| {
        json!({
            "name": "validated",
            "connector.class": format!("com.example.Leaky{class}"),
            "secret": secret,
            "plain": plain,
            "leak.in": place,
            "leak.by": way,
            "errors.restart.policy": "never",
        })
    };
    let mut names = Vec::new();
    let mut create = |name: String, mut config: Value| -> Result<()> {
        config["name"] = json!(name);
        worker.rest().put_connector(&name, &config)?;
        names.push(name);
        Ok(())
    };
    for (at, way) in WAYS.into_iter().enumerate() {
        create(format!("source-{at}"), config("Source", way))?;
        let mut sink = config("Sink", way);
        sink["topics"] = json!("leaky");
        create(format!("sink-{at}"), sink)?;
    }
    // The reason why a record is refused goes into the dead letters' headers and, tolerated, into the log.
    let mut letters = config("Sink", ("record", "error"));
    for (key, value) in [
        ("topics", "leaky"),
        ("errors.tolerance", "all"),
        ("errors.log.enable", "true"),
        ("errors.deadletterqueue.topic.name", "letters"),
        ("errors.deadletterqueue.topic.replication.factor", "1"),
        ("errors.deadletterqueue.context.headers.enable", "true"),
    ] {
        letters[key] = json!(value);
    }
    create("letters".into(), letters)?;
    create(
        "refused".into(),
        config("Sink", ("record", "error"))
            .as_object()
            .map(|sink| {
                let mut sink = sink.clone();
                sink.insert("topics".into(), json!("leaky"));
                Value::Object(sink)
            })
            .unwrap_or_default(),
    )?;

    let mut answers = Vec::new();
    // Validation fails in the plugin's words.
    let mut refused = config("Source", ("validate", "error"));
    let validated = worker.rest().put("/connector-plugins/LeakySource/config/validate", &refused)?;
    assert_eq!(validated.body["error_count"], 1, "{validated:?}");
    answers.push(validated.body.to_string());
    refused["name"] = json!("invalid");
    let answer = worker.rest().post("/connectors", &json!({"name": "invalid", "config": refused}))?;
    assert_eq!(answer.status, 400, "{answer:?}");
    answers.push(answer.body.to_string());

    settle(&worker, "source-0", "RUNNING")?;
    settle(&worker, "sink-0", "RUNNING")?;
    for at in [5, 6, 7, 8] {
        settle(&worker, &format!("source-{at}"), "FAILED")?;
    }
    for at in [5, 6, 10, 11] {
        settle(&worker, &format!("sink-{at}"), "FAILED")?;
    }
    settle(&worker, "refused", "FAILED")?;
    wait::until("dead letters", wait::PATIENCE, || {
        let topics = worker.rest().get("/connectors/letters/status")?.ok()?;
        Ok((topics["tasks"][0]["state"] == "RUNNING").then_some(()))
    })?;

    for path in [
        "/",
        "/connectors",
        "/connectors?expand=info&expand=status",
        "/connector-plugins?connectorsOnly=false",
        "/health",
    ] {
        answers.push(worker.rest().get(path)?.body.to_string());
    }
    for name in &names {
        for path in ["", "/config", "/status", "/tasks", "/tasks/0/status", "/topics", "/offsets"] {
            answers.push(worker.rest().get(&format!("/connectors/{name}{path}"))?.body.to_string());
        }
        answers.push(worker.rest().put(&format!("/connectors/{name}/stop"), &json!(null))?.body.to_string());
        let offsets = json!({"offsets": [{"partition": {"p": 1}, "offset": {"o": 1}}]});
        answers.push(worker.rest().patch(&format!("/connectors/{name}/offsets"), &offsets)?.body.to_string());
    }
    // The messages are there, and say what was meant.
    let all = answers.join("\n");
    assert!(
        all.contains("login with ${file:") && all.contains("${env:LEAKY_SECRET}"),
        "nothing of the plugin is shown"
    );
    worker.stop()?;
    let log = worker.log();
    for call in ["connector.start", "task_configs", "start", "poll", "put"] {
        assert!(log.contains(&format!("{call}: login with ${{file:")), "no line of {call} in the log");
    }
    assert!(log.contains("TRACE"), "the log is not at its most talkative");

    let mut leaks = Vec::new();
    for answer in &answers {
        leaks.extend(found("an answer", answer.as_bytes()));
    }
    leaks.extend(log.lines().flat_map(|line| found("the log", line.as_bytes())));
    let mut files = Vec::new();
    collect(&worker.dir().join("data"), &mut files)?;
    assert!(files.len() >= 2, "the data directory has no files: {files:?}");
    for file in files {
        leaks.extend(found(&file.display().to_string(), &fs::read(&file)?));
    }
    if leaks.is_empty() {
        return Ok(());
    }
    leaks.truncate(20);
    Err(Error::new(format!("secrets are shown:\n{}", leaks.join("\n"))))
}

/// A password in plain text is in the config and in nothing else.
#[test]
fn passwords_in_plain_text_are_in_the_config_alone() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut worker = worker(scratch.path())?;
    let password = "t\u{fd}ped \"zQ7typed";
    let mut answers = Vec::new();
    for (name, place, way) in [("fine", "nowhere", "error"), ("error", "poll", "error"), ("panic", "start", "panic")] {
        let config = json!({
            "connector.class": "com.example.LeakySource", "secret": password, "leak.in": place, "leak.by": way,
            "errors.restart.policy": "never",
        });
        worker.rest().put_connector(name, &config)?;
        settle(&worker, name, if name == "fine" { "RUNNING" } else { "FAILED" })?;
        assert_eq!(worker.rest().get(&format!("/connectors/{name}/config"))?.body["secret"], password);
        answers.push(worker.rest().put("/connector-plugins/LeakySource/config/validate", &config)?.body.to_string());
        answers.push(worker.rest().get(&format!("/connectors/{name}/status"))?.body.to_string());
        answers.push(worker.rest().get("/connectors?expand=status")?.body.to_string());
    }
    assert!(answers.iter().any(|answer| answer.contains("login with [hidden]")), "{answers:?}");
    worker.stop()?;
    answers.push(worker.log());
    let leaks: Vec<&String> = answers.iter().filter(|answer| answer.contains("zQ7typed")).collect();
    if leaks.is_empty() { Ok(()) } else { Err(Error::new(format!("a password is shown: {leaks:?}"))) }
}

fn worker(scratch: &Path) -> Result<TributaryWorker> {
    // A properties file has escapes of its own.
    fs::write(scratch.join("s.properties"), format!("pass={}\n", FILE.replace('\\', "\\\\")))?;
    fs::create_dir(scratch.join("keys"))?;
    fs::write(scratch.join("keys/key"), DIRECTORY)?;
    let plugins = scratch.join("plugins");
    install(&plugins.join("leaky"))?;
    let provider = |name: &str| format!("org.apache.kafka.common.config.provider.{name}ConfigProvider");
    let options = WorkerOptions::default()
        .set("plugin.path", &plugins.display().to_string())
        .set("log.level", "trace")
        .set("offset.flush.interval.ms", "200")
        .set("config.providers", "file,dir,env")
        .set("config.providers.file.class", &provider("File"))
        .set("config.providers.file.param.allowed.paths", &scratch.display().to_string())
        .set("config.providers.dir.class", &provider("Directory"))
        .set("config.providers.env.class", &provider("EnvVar"))
        .set("config.providers.env.param.allowlist.pattern", "LEAKY_.*")
        .set("producer.sasl.jaas.config", "zQ7worker-password")
        .env("LEAKY_SECRET", ENVIRONMENT);
    TributaryWorker::start_with("embedded", options)
}

/// Puts the leaky plugin with its manifest into a directory of plugin.path.
fn install(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let library = directory.join("libtributary_plugin_leaky.so");
    let built = std::env::current_exe()?.with_file_name("libtributary_plugin_leaky.so");
    fs::copy(&built, &library).context(format_args!("{} was not built with the tests", built.display()))?;
    let manifest = Command::new(tributary::binary()?).args(["plugins", "manifest"]).arg(&library).output()?;
    if manifest.status.success() {
        return Ok(());
    }
    Err(Error::new(String::from_utf8_lossy(&manifest.stderr).into_owned()))
}

/// Waits until the first task of a connector is in a state.
fn settle(worker: &TributaryWorker, name: &str, state: &str) -> Result<()> {
    let settled = wait::until(&format!("{name} to be {state}"), wait::PATIENCE, || {
        let status = worker.rest().status(name)?;
        if status["tasks"][0]["state"] == state { Ok(Some(())) } else { Err(Error::new(status.to_string())) }
    });
    settled.map_err(|error| worker.with_log(error.to_string()))
}

/// The secrets in a text, each with what stands around it.
fn found(place: &str, text: &[u8]) -> Vec<String> {
    let around = |mark: &&str| {
        let at = text.windows(mark.len()).position(|window| window == mark.as_bytes())?;
        let around = &text[at.saturating_sub(150)..(at + 40).min(text.len())];
        Some(format!("{place}: …{}…", String::from_utf8_lossy(around)))
    };
    MARKS.iter().filter_map(around).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_none_or(|end| end != "so") {
            files.push(path);
        }
    }
    Ok(())
}
