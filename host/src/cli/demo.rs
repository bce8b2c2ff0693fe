//! `tributary demo`: the whole path on the embedded log, for a first look.
//!
//! Two sources (generated payments, and a file that it writes first), a transform each, two topics, two sinks. Everything is
//! in one directory, which it makes, marks, and replaces the next time; it never touches a directory that it did not make.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tributary_sdk::Config;

use super::arguments::DemoCommand;
use crate::config::{ConnectorFile, WorkerConfig};
use crate::standalone::StandaloneWorker;
use crate::telemetry;
use crate::worker::{State, TaskId};

const MARK: &str = ".made-by-tributary-demo";
/// A demo that makes no progress for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The connectors, in the order in which records pass them, with what the progress display calls them.
const STEPS: [(&str, &str); 4] = [
    ("payments-in", "generator → topic payments"),
    ("lines-in", "input.txt → topic lines"),
    ("payments-out", "topic payments → payments.jsonl"),
    ("lines-out", "topic lines → lines.jsonl"),
];

/// Runs the demo.
pub fn run(command: &DemoCommand) -> Result<ExitCode, String> {
    telemetry::start_logging("warn", false)?;
    prepare(&command.dir, command.records)
        .map_err(|error| format!("cannot prepare {}: {error}", command.dir.display()))?;
    let dir = command.dir.canonicalize().map_err(|error| format!("{}: {error}", command.dir.display()))?;
    let worker = start(&dir)?;
    let begun = Instant::now();
    for (name, config) in connectors(&dir, command.records) {
        worker.put(ConnectorFile { name, config, initial_state: None })?;
    }
    let finished = watch(&worker, command.records);
    let summary = finished.map(|times| summary(&worker, &dir, command, &times, begun.elapsed()));
    match summary {
        Ok(text) => println!("{text}"),
        Err(message) => {
            worker.shutdown();
            return Err(message);
        }
    }
    if !command.exit {
        println!("\nThe worker keeps running; stop it with Ctrl-C.");
        worker.wait_for_signal();
    }
    worker.shutdown();
    Ok(ExitCode::SUCCESS)
}

/// An empty directory with the input file.
fn prepare(dir: &Path, lines: u64) -> std::io::Result<()> {
    if dir.exists() && dir.read_dir()?.next().is_some() {
        if !dir.join(MARK).exists() {
            return Err(std::io::Error::other(
                "it is there, not empty, and not of an earlier demo; give another one with --dir",
            ));
        }
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join(MARK), "")?;
    let mut input = BufWriter::new(std::fs::File::create(dir.join("input.txt"))?);
    for line in 0..lines {
        writeln!(
            input,
            "{line:09} the quick brown fox jumps over the lazy dog and runs on along the river bank tonight"
        )?;
    }
    input.flush()
}

fn start(dir: &Path) -> Result<StandaloneWorker, String> {
    let properties = |port: &str| -> Config {
        let data = dir.join("data").display().to_string();
        [
            ("bootstrap.servers", "embedded"),
            ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
            ("value.converter.schemas.enable", "false"),
            ("offset.flush.interval.ms", "500"),
            ("data.dir", &data),
            ("listeners", &format!("http://127.0.0.1:{port}")),
        ]
        .into_iter()
        .collect()
    };
    let config = |port| WorkerConfig::new(properties(port)).map_err(|error| error.to_string());
    // Connect's own port if it is free, any other if not.
    StandaloneWorker::start(config("8083")?).or_else(|_| StandaloneWorker::start(config("0")?))
}

fn connectors(dir: &Path, records: u64) -> Vec<(String, Config)> {
    let file = |name: &str| dir.join(name).display().to_string();
    let source = |alias: &str| {
        json!({
            "transforms": "demo",
            "transforms.demo.type": "org.apache.kafka.connect.transforms.InsertField$Value",
            "transforms.demo.static.field": "source",
            "transforms.demo.static.value": alias,
        })
    };
    let mut payments = source("generator");
    payments.as_object_mut().expect("an object").extend(object(json!({
        "connector.class": "io.tributary.GeneratorSource",
        "topic": "payments", "schema": "payments", "rate": "0", "max.records": records.to_string(), "seed": "42",
    })));
    let mut lines = source("input.txt");
    lines.as_object_mut().expect("an object").extend(object(json!({
        "connector.class": "FileStreamSource",
        "file": file("input.txt"), "topic": "lines",
        "transforms": "line,demo",
        "transforms.line.type": "org.apache.kafka.connect.transforms.HoistField$Value",
        "transforms.line.field": "line",
    })));
    let sink = |topic: &str| json!({"connector.class": "FileStreamSink", "topics": topic, "file": file(&format!("{topic}.jsonl"))});
    let configs = [payments, lines, sink("payments"), sink("lines")];
    let named = |((name, _), config): ((&str, &str), Value)| {
        let mut config: Config = object(config)
            .into_iter()
            .map(|(key, value)| (key, value.as_str().expect("configs are texts").to_owned()))
            .collect();
        config.set("name", name);
        (name.to_owned(), config)
    };
    STEPS.into_iter().zip(configs).map(named).collect()
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
}

/// Shows progress until every step has passed all records; the time that each took.
fn watch(worker: &StandaloneWorker, records: u64) -> Result<[Duration; 4], String> {
    let display = MultiProgress::new();
    let style = ProgressStyle::with_template("{msg:34} {bar:28} {human_pos:>9} records {per_sec:>16}")
        .map_err(|error| error.to_string())?;
    let bars =
        STEPS.map(|(_, label)| display.add(ProgressBar::new(records).with_style(style.clone()).with_message(label)));
    let begun = Instant::now();
    let mut times = [Duration::ZERO; 4];
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let mut all = 0;
        for (step, (name, _)) in STEPS.iter().enumerate() {
            if let Some(view) = worker.herder().view().connector(name) {
                let failed = view.tasks.iter().map(|task| &task.instance).find(|task| task.state == State::Failed);
                if let Some(failed) = failed {
                    return Err(format!("{name} failed: {}", failed.trace.as_deref().unwrap_or("without a reason")));
                }
            }
            let id = TaskId { connector: (*name).to_owned(), task: 0 };
            let out = worker.runner().progress(&id).map_or(0, |progress| progress.records_out);
            bars[step].set_position(out);
            if out >= records && times[step].is_zero() {
                times[step] = begun.elapsed();
                bars[step].abandon();
            }
            all += out;
        }
        if times.iter().all(|time| !time.is_zero()) {
            return Ok(times);
        }
        if all != last {
            (last, moved) = (all, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return Err(format!(
                "no record has moved for {PATIENCE:?}; look at {}/connectors?expand=status",
                worker.url()
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn summary(
    worker: &StandaloneWorker,
    dir: &Path,
    command: &DemoCommand,
    times: &[Duration; 4],
    took: Duration,
) -> String {
    let mut text = format!("\n{} records through each of two topics in {took:.1?}:\n", command.records);
    for ((_, label), time) in STEPS.iter().zip(times) {
        text += &format!("  {label:34} {:>9.0} records/s\n", command.records as f64 / time.as_secs_f64());
    }
    let first = |name: &str| {
        let path = dir.join(name);
        let line = std::fs::File::open(&path).ok().and_then(|file| {
            use std::io::BufRead;
            std::io::BufReader::new(file).lines().next()?.ok()
        });
        format!("  {}\n    {}\n", path.display(), line.unwrap_or_default())
    };
    text += &format!("\nWritten:\n{}{}", first("payments.jsonl"), first("lines.jsonl"));
    let url = worker.url();
    let data = dir.join("data");
    text += &format!("\nREST API: {url}\nTry:\n  curl -s '{url}/connectors?expand=status'\n");
    text + &format!("  tributary consume --data-dir {} payments --count 3", data.display())
}
