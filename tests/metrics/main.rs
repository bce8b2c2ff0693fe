//! What `/metrics` shows, against what the tasks really did.

use std::collections::HashMap;
use std::fs;

use serde_json::json;
use tributary_harness::{Result, TributaryWorker, WorkerOptions, wait};

/// Samples by series, read as Prometheus reads them.
fn samples(text: &str) -> HashMap<String, f64> {
    let mut samples = HashMap::new();
    let mut typed = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(!typed.contains(&name), "{name} comes twice");
            typed.push(name);
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let name = series.split('{').next().unwrap_or_default();
            assert_eq!(typed.last(), Some(&name), "{line} does not stand under its type");
            let number = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(samples.insert(series.to_owned(), number).is_none(), "{series} comes twice");
        }
    }
    samples
}

#[test]
fn metrics_count_what_the_tasks_did() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let input = directory.path().join("input");
    let lines: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    fs::write(&input, lines)?;
    let options = WorkerOptions::default().set("offset.flush.interval.ms", "200");
    let worker = TributaryWorker::start_with("embedded", options)?;
    let rest = worker.rest();
    rest.put_connector("in", &json!({"connector.class": "FileStreamSource", "file": input, "topic": "lines"}))?;
    // Every record of this one fails: they are lines of text.
    rest.put_connector(
        "out",
        &json!({
            "connector.class": "FileStreamSink", "topics": "lines", "file": directory.path().join("output"),
            "value.converter": "org.apache.kafka.connect.json.JsonConverter", "errors.tolerance": "all",
            "transforms": "host", "transforms.host.type": "org.apache.kafka.connect.transforms.InsertField$Value",
            "transforms.host.static.field": "h", "transforms.host.static.value": "v",
        }),
    )?;
    rest.put_connector("bro\"ken", &json!({"connector.class": "FileStreamSink", "topics": "x", "file": "/nowhere/x"}))
        .ok();
    worker.wait_running("in")?;
    worker.wait_running("out")?;
    let metrics = wait::until("all records counted", wait::PATIENCE, || {
        let answer = rest.get("/metrics")?;
        let text = answer.body.as_str().unwrap_or_default().to_owned();
        let read = samples(&text);
        let series = "kafka_connect_task_error_metrics_total_records_skipped{connector=\"out\",task=\"0\"}";
        let committed = "tributary_task_last_commit_timestamp_seconds{connector=\"in\",task=\"0\"}";
        Ok((read.get(series) == Some(&1000.0) && read.contains_key(committed)).then_some(read))
    })?;
    let value = |series: &str| *metrics.get(series).unwrap_or_else(|| panic!("there is no {series}"));
    let source = "connector=\"in\",task=\"0\"";
    let sink = "connector=\"out\",task=\"0\"";
    for (series, expected) in [
        (format!("kafka_connect_source_task_metrics_source_record_poll_total{{{source}}}"), 1000.0),
        (format!("kafka_connect_source_task_metrics_source_record_write_total{{{source}}}"), 1000.0),
        (format!("kafka_connect_source_task_metrics_source_record_active_count{{{source}}}"), 0.0),
        (format!("kafka_connect_sink_task_metrics_sink_record_read_total{{{sink}}}"), 1000.0),
        (format!("kafka_connect_sink_task_metrics_sink_record_send_total{{{sink}}}"), 0.0),
        (format!("kafka_connect_task_error_metrics_total_record_errors{{{sink}}}"), 1000.0),
        (format!("kafka_connect_connector_task_metrics_status{{{sink},status=\"running\"}}"), 1.0),
        (
            format!(
                "kafka_connect_connector_transform_metrics_transform_class{{{sink},transform=\"host\",transform_class=\"org.apache.kafka.connect.transforms.InsertField$Value\"}}"
            ),
            1.0,
        ),
        ("kafka_connect_connect_worker_metrics_connector_running_task_count{connector=\"in\"}".to_owned(), 1.0),
    ] {
        assert_eq!(value(&series), expected, "{series}");
    }
    assert!(value("kafka_connect_connect_worker_metrics_connector_count") >= 2.0);
    assert!(value("kafka_connect_connect_worker_metrics_task_startup_success_total") >= 2.0);
    assert!(value(&format!("kafka_connect_connector_task_metrics_batch_size_max{{{source}}}")) >= 1.0);
    assert!(value(&format!("kafka_connect_connector_task_metrics_running_ratio{{{source}}}")) > 0.5);
    assert!(value(&format!("kafka_connect_connector_task_metrics_offset_commit_success_percentage{{{source}}}")) > 0.5);
    assert!(value("process_resident_memory_bytes") > 1e6);
    Ok(())
}
