//! Requests made up from the worker's own OpenAPI document: none is answered with 500, and none is not answered.
//!
//! The seed is fixed and the number of examples bounded, so that a run is like the last one.

use serde_json::json;
use tributary_harness::{Python, Result, TributaryWorker};

/// Requests for each operation, at most.
const EXAMPLES: &str = "12";

#[test]
fn no_request_that_the_document_allows_or_forbids_is_the_servers_fault() -> Result<()> {
    let python = Python::with("fuzz", include_str!("fuzz/requirements.txt"))?;
    let worker = TributaryWorker::start_embedded()?;
    let directory = tempfile::tempdir()?;
    let document = directory.path().join("openapi.json");
    std::fs::write(&document, worker.rest().get("/openapi.json")?.ok()?.to_string())?;

    let output = python.command().args(["-m", "openapi_spec_validator"]).arg(&document).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the document is not valid: {said}");

    // Names that nobody has, and names of connectors that are there, in states in which much is allowed.
    let source = json!({"connector.class": "FileStreamSource", "topic": "fuzz", "file": directory.path().join("in")});
    let sink = json!({"connector.class": "FileStreamSink", "topics": "fuzz", "file": directory.path().join("out")});
    for (name, config) in [("source", source), ("sink", sink)] {
        let body = json!({"name": name, "config": config, "initial_state": "STOPPED"});
        worker.rest().post("/connectors", &body)?.ok()?;
    }
    for names in ["", "[parameters]\n\"path.connector\" = [\"source\", \"sink\"]\n\"path.task\" = 0\n"] {
        let config = directory.path().join("schemathesis.toml");
        std::fs::write(&config, names)?;
        let mut fuzz = python.command();
        fuzz.args(["-m", "schemathesis.cli", "--config-file"]).arg(&config).arg("run").arg(&document);
        fuzz.args(["--url", worker.rest().base(), "--seed", "20261125", "--max-examples", EXAMPLES]);
        fuzz.args(["--phases", "fuzzing,coverage", "--mode", "all", "--checks", "not_a_server_error"]);
        fuzz.args(["--request-timeout", "60", "--no-color", "--suppress-health-check", "all"]);
        if !names.is_empty() {
            fuzz.args(["--exclude-method", "DELETE"]);
        }
        let output = fuzz.current_dir(directory.path()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}", worker.with_log(said));
    }
    assert_eq!(worker.rest().get("/health")?.status, 200);
    Ok(())
}
