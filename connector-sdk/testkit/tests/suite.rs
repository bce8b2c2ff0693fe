//! The suite on connectors in memory: good ones pass, and each broken one is caught by the behaviour it breaks.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use serde_json::json;
use tributary_sdk::arrow::array::Array;
use tributary_sdk::sink::{Failures, TopicPartitionOffset};
use tributary_sdk::*;
use tributary_testkit::suite::{self, SinkSubject, SourceSubject};
use tributary_testkit::{sink_suite, source_suite};

/// Named external systems: lines that sources read and sinks write.
static SYSTEMS: LazyLock<Mutex<BTreeMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

fn lines(name: &str) -> Vec<String> {
    SYSTEMS.lock().unwrap().get(name).cloned().unwrap_or_default()
}

/// The ways in which the connectors can be broken.
const FAULTS: [&str; 5] = ["forgetful", "deaf", "early", "blind", "leaky"];

fn def() -> ConfigDef {
    ConfigDef::new()
        .define(ConfigKey::required("name", Type::String, Importance::High, "Name of the system."))
        .define(ConfigKey::nullable("fault", Type::String, Importance::Low, "What is wrong with the connector."))
        .define(ConfigKey::nullable("password", Type::Password, Importance::High, "A secret."))
}

macro_rules! connector {
    ($trait:ident, $name:ident, $task:ident) => {
        #[derive(Default)]
        struct $name(Config);

        impl $trait for $name {
            type Task = $task;

            fn config_def() -> ConfigDef {
                def()
            }

            fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
                self.0 = config.clone();
                Ok(())
            }

            fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
                Ok(vec![self.0.clone()])
            }
        }
    };
}

connector!(SourceConnector, Lines, LinesTask);
connector!(SinkConnector, Store, StoreTask);

#[derive(Default)]
struct LinesTask {
    context: Option<Context>,
    name: String,
    fault: String,
    next: usize,
}

impl SourceTask for LinesTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = def().parse(config)?;
        self.name = parsed.get("name")?;
        self.fault = parsed.get::<Option<String>>("fault")?.unwrap_or_default();
        let offset = context.offset(&json!({ "name": self.name }))?;
        self.next = offset.and_then(|offset| offset["next"].as_u64()).unwrap_or(0) as usize;
        if self.fault == "forgetful" {
            self.next = 0;
        }
        if self.fault == "leaky" {
            context.info(format!("started with {:?}", config.0));
        }
        self.context = Some(context.clone());
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let context = self.context.as_ref().ok_or_else(|| Error::failed("not started"))?;
        let all = lines(&self.name);
        let end = all.len().min(self.next + 17);
        if self.next >= end {
            if self.fault == "deaf" {
                loop {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
            context.wait(std::time::Duration::from_millis(500));
            return Ok(());
        }
        let values: Vec<String> = all[self.next..end].to_vec();
        let mut batch = Batch::new("lines", Column::text(values.into()));
        let offset = json!({ "next": if self.fault == "early" { end + 3 } else { end } }).to_string();
        batch = batch.with_resume_point(json!({ "name": self.name }).to_string(), &offset);
        let emitted = output.emit(batch);
        self.next = end;
        if self.fault == "blind" { Ok(()) } else { emitted }
    }
}

#[derive(Default)]
struct StoreTask {
    name: String,
    fault: String,
    pending: Vec<String>,
}

impl SinkTask for StoreTask {
    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        let parsed = def().parse(config)?;
        self.name = parsed.get("name")?;
        self.fault = parsed.get::<Option<String>>("fault")?.unwrap_or_default();
        Ok(())
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        let text = batch.value.as_text().ok_or_else(|| Error::failed("only text and JSON can be stored"))?;
        for row in 0..text.len() {
            match text.is_valid(row).then(|| text.value(row)) {
                Some("bad") => failures.fail(row, "the store takes no bad"),
                Some(value) => self.pending.push(value.to_owned()),
                None => failures.fail(row, "the store takes no tombstones"),
            }
        }
        Ok(())
    }

    fn flush(&mut self, _: &[TopicPartitionOffset]) -> Result<()> {
        if self.fault != "early" {
            let pending = std::mem::take(&mut self.pending);
            SYSTEMS.lock().unwrap().entry(self.name.clone()).or_default().extend(pending);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.fault.clear();
        if self.name.is_empty() { Ok(()) } else { self.flush(&[]) }
    }
}

struct Subject {
    name: String,
    fault: &'static str,
}

impl Subject {
    fn new(fault: &'static str) -> Self {
        static NEXT: Mutex<usize> = Mutex::new(0);
        let mut next = NEXT.lock().unwrap();
        *next += 1;
        Self { name: format!("system {next}"), fault }
    }

    fn config(&self) -> Config {
        Config::from_iter([("name", self.name.as_str()), ("fault", self.fault)])
    }
}

impl SourceSubject for Subject {
    type Connector = Lines;

    fn prepare(&mut self, records: usize) -> Config {
        let lines = (0..records).map(|record| format!("line {record}")).collect();
        SYSTEMS.lock().unwrap().insert(self.name.clone(), lines);
        self.config()
    }
}

impl SinkSubject for Subject {
    type Connector = Store;

    fn prepare(&mut self) -> Config {
        SYSTEMS.lock().unwrap().remove(&self.name);
        self.config()
    }

    fn stored(&mut self) -> Vec<String> {
        lines(&self.name)
    }

    fn spoiled_batch(&self) -> Option<Batch> {
        Some(tributary_testkit::rows::text_batch("suite", ["good", "bad", "good"]))
    }
}

source_suite!(good_source, Subject::new(""));
sink_suite!(good_sink, Subject::new(""));

/// Whether a behaviour finds something wrong.
fn catches(behaviour: fn(&mut Subject), fault: &'static str) -> bool {
    assert!(FAULTS.contains(&fault));
    std::panic::catch_unwind(|| behaviour(&mut Subject::new(fault))).is_err()
}

#[test]
fn broken_sources_are_caught() {
    assert!(catches(suite::source::resumes_from_offsets, "forgetful"));
    assert!(catches(suite::source::at_least_once_under_kills, "early"));
    assert!(catches(suite::source::backpressure, "blind"));
    assert!(catches(suite::source::cancel_returns_promptly, "deaf"));
    assert!(catches(suite::source::secrets_are_not_shown, "leaky"));
}

#[test]
fn broken_sinks_are_caught() {
    assert!(catches(suite::sink::committed_is_safe, "early"));
    assert!(catches(suite::sink::at_least_once_under_kills, "early"));
}
