//! Clients that others wrote for Kafka Connect, unmodified, do what people do with them.

use std::process::Command;

use tributary_harness::jars::ClassPath;
use tributary_harness::java::java;
use tributary_harness::{Error, Python, Result, TributaryWorker};

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
