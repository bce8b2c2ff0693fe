//! Real Kafka Connect carries lines from file to file, and the checker agrees that nothing is lost.

use serde_json::json;
use tributary_harness::checker::same_bytes;
use tributary_harness::{Checker, ConnectOptions, ConnectWorker, KafkaBroker, Lines, Result, wait};

#[test]
fn connect_copies_a_file() -> Result<()> {
    let broker = KafkaBroker::start()?;
    let mut connect = ConnectWorker::start_with(&broker, ConnectOptions::default().small())?;
    let scratch = tempfile::tempdir()?;
    let (input, output) = (scratch.path().join("in"), scratch.path().join("out"));
    let lines = Lines::new(20_000);
    lines.write(&input)?;

    let rest = connect.rest();
    let source = json!({"connector.class": "FileStreamSource", "file": input, "topic": "lines"});
    let sink = json!({"connector.class": "FileStreamSink", "file": output, "topics": "lines"});
    rest.put_connector("source", &source)?;
    rest.put_connector("sink", &sink)?;
    rest.wait_running("source")?;
    rest.wait_running("sink")?;
    wait::until("the output to be complete", wait::PATIENCE, || {
        Ok((std::fs::metadata(&output).is_ok_and(|file| file.len() == lines.bytes())).then_some(()))
    })?;
    same_bytes(&input, &output)?;
    Checker::new([&lines]).file(&output)?.exactly_once()?;
    Checker::new([&lines]).topic(&broker, "lines")?.exactly_once()?;
    assert_eq!(rest.get("/connectors/absent")?.status, 404);
    connect.stop()
}
