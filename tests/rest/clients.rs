//! Clients that others wrote for Kafka Connect, unmodified, do what people do with them.

use std::process::Command;

use serde_json::json;
use tributary_harness::jars::ClassPath;
use tributary_harness::java::java;
use tributary_harness::{Error, Python, Result, TributaryWorker, wait};

/// A worker with nothing on it, and a directory with a file to read.
fn stage() -> Result<(TributaryWorker, tempfile::TempDir)> {
    let worker = TributaryWorker::start_embedded()?;
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("in"), "one\ntwo\n")?;
    Ok((worker, directory))
}

fn content(mut client: Command, worker: &TributaryWorker) -> Result<()> {
    let output = client.output()?;
    if output.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(worker.with_log(format!("the client ended with {}:\n{out}{err}", output.status)))
}

#[test]
fn clients_in_python_are_content() -> Result<()> {
    let python = Python::with("clients", include_str!("clients/requirements.txt"))?;
    let (worker, directory) = stage()?;
    let mut client = python.command();
    client.args(["-c", include_str!("clients/workflow.py"), worker.rest().base()]).arg(directory.path());
    content(client, &worker)
}

/// A watcher that brings back failed connectors by itself: here the only thing that does.
#[test]
fn the_watcher_brings_back_what_failed() -> Result<()> {
    let python = Python::with("watcher", include_str!("clients/watcher-requirements.txt"))?;
    let (worker, directory) = stage()?;
    let place = directory.path().join("later");
    let source =
        json!({"connector.class": "FileStreamSource", "file": directory.path().join("in"), "topic": "watched"});
    let sink = json!({
        "connector.class": "FileStreamSink",
        "file": place.join("out"),
        "topics": "watched",
        "errors.restart.policy": "never",
    });
    let rest = worker.rest();
    rest.put_connector("fine", &source)?;
    for name in ["watched-sink", "other-sink"] {
        rest.put_connector(name, &sink)?;
    }
    let failed = || {
        let states = |name: &str| Ok::<_, Error>(rest.status(name)?["tasks"][0]["state"] == "FAILED");
        Ok((states("watched-sink")? && states("other-sink")?).then_some(()))
    };
    wait::until("the sinks to fail for want of a directory", wait::PATIENCE, failed)?;
    std::fs::create_dir(&place)?;

    let port = rest.base().rsplit(':').next().unwrap_or_default();
    let config = directory.path().join("watcher.yaml");
    std::fs::write(&config, include_str!("clients/watcher.yaml").replace("$port", port))?;
    let log = directory.path().join("watcher.log");
    let mut watcher = python.command();
    watcher.args(["-m", "kafka_connect_watcher.cli", "-c"]).arg(&config);
    let output = std::fs::File::create(&log)?;
    watcher.env("AWS_EMF_ENVIRONMENT", "local").stdout(output.try_clone()?).stderr(output);
    let mut watcher = watcher.spawn()?;
    let outcome = wait::until("the watcher to bring the sink back", wait::PATIENCE, || {
        let running = rest.status("watched-sink")?["tasks"][0]["state"] == "RUNNING";
        Ok((running && std::fs::read_to_string(place.join("out")).is_ok_and(|text| text == "one\ntwo\n")).then_some(()))
    });
    let _ = watcher.kill();
    let _ = watcher.wait();
    outcome.map_err(|error| {
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        worker.with_log(format!("{error}; {}; the watcher: {told}", rest.status("watched-sink").unwrap_or_default()))
    })?;
    assert_eq!(rest.status("watched-sink")?["connector"]["state"], "RUNNING");
    // What it was not told to watch is as it was.
    assert_eq!(rest.status("other-sink")?["tasks"][0]["state"], "FAILED");
    Ok(())
}

#[test]
fn the_client_in_java_is_content() -> Result<()> {
    let (worker, directory) = stage()?;
    let script = directory.path().join("Workflow.bsh");
    std::fs::write(&script, include_str!("clients/Workflow.bsh"))?;
    let mut client = Command::new(java()?.program);
    client
        .args(["-cp", &ClassPath::RestClient.resolve()?])
        .arg(format!("-Durl={}", worker.rest().base()))
        .arg(format!("-Ddirectory={}", directory.path().display()))
        .arg("bsh.Interpreter")
        .arg(&script);
    let output = client.output()?;
    let out = String::from_utf8_lossy(&output.stdout);
    // BeanShell ends well however its script ends.
    if out.trim().ends_with("content") {
        return Ok(());
    }
    let err = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(worker.with_log(format!("the client is not content:\n{out}{err}")).to_string()))
}
