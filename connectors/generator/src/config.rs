//! The generator's config keys, and their values parsed.

use std::sync::Arc;

use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Error, Importance, Result, Type};

pub(crate) const TOPIC: &str = "topic";
pub(crate) const SCHEMA: &str = "schema";
const FORMAT: &str = "format";
const RATE: &str = "rate";
const MAX_RECORDS: &str = "max.records";
const SEED: &str = "seed";
const KEYS: &str = "keys";
const BATCH_SIZE: &str = "batch.size";
const START: &str = "event.start.ms";
const STEP: &str = "event.step.us";
const DISORDER: &str = "event.disorder.ms";
const TIMESTAMP: &str = "record.timestamp";
/// In task configs: the task's number, from 0.
pub(crate) const TASK: &str = "generator.task";
/// In task configs: the number of tasks.
pub(crate) const TASKS: &str = "generator.tasks";

/// 2026-01-01T00:00:00Z.
const DEFAULT_START_MS: i64 = 1_767_225_600_000;

/// What the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SchemaName {
    Orders,
    Clicks,
    Payments,
}

/// How values are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Structured,
    Text,
}

/// A task's config.
#[derive(Debug, Clone)]
pub(crate) struct GeneratorConfig {
    /// The connector's name: the source partitions bear it.
    pub name: String,
    pub topic: Arc<str>,
    pub schema: SchemaName,
    pub format: Format,
    /// Records a second of all tasks together; 0: as many as go.
    pub rate: f64,
    /// Records of all tasks together; 0: without end.
    pub max_records: u64,
    pub seed: u64,
    /// Number of different keys.
    pub keys: u32,
    pub batch_size: usize,
    pub events: EventTime,
    /// Whether records bear the event's time, instead of that of their sending.
    pub event_timestamps: bool,
    pub task: u64,
    pub tasks: u64,
}

/// When the events are said to have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventTime {
    /// Of record 0, ms since the epoch.
    pub start_ms: i64,
    /// From one record to the next.
    pub step_us: u64,
    /// The most that a record's time may lie back.
    pub disorder_ms: u64,
}

pub(crate) fn definition() -> ConfigDef {
    let low = Importance::Low;
    let at_least = |least: f64| Validator::Range { min: Some(least), max: None };
    ConfigDef::new()
        .define(ConfigKey::nullable(
            TOPIC,
            Type::String,
            Importance::High,
            "The topic that the records go to. By default it bears the name of the schema.",
        ))
        .define(choice(SCHEMA, &["orders", "clicks", "payments"], Importance::High, "What the records are."))
        .define(choice(
            FORMAT,
            &["json", "structured", "text"],
            Importance::Medium,
            "How the values are given: 'json' documents without schema, 'structured' records with a Connect schema, or lines of 'text' with values separated by commas.",
        ))
        .define(
            ConfigKey::optional(
                RATE,
                Type::Double,
                "1000",
                Importance::High,
                "Records a second, of all tasks together. 0: as many as can be taken.",
            )
            .validator(at_least(0.0)),
        )
        .define(
            ConfigKey::optional(
                MAX_RECORDS,
                Type::Long,
                "0",
                Importance::Medium,
                "Records in all, of all tasks together, restarts included; then nothing more comes. 0: without end.",
            )
            .validator(at_least(0.0)),
        )
        .define(ConfigKey::optional(
            SEED,
            Type::Long,
            "1",
            Importance::Medium,
            "What the records are made from: the same seed gives the same records.",
        ))
        .define(
            ConfigKey::optional(
                KEYS,
                Type::Int,
                "10000",
                Importance::Medium,
                "How many customers or users there are. Some of them are much busier than others.",
            )
            .validator(at_least(1.0)),
        )
        .define(
            ConfigKey::optional(BATCH_SIZE, Type::Int, "2000", low, "The most records that one poll hands over.")
                .validator(Validator::Range { min: Some(1.0), max: Some(100_000.0) }),
        )
        .define(ConfigKey::optional(
            START,
            Type::Long,
            &DEFAULT_START_MS.to_string(),
            low,
            "When the event of the first record is said to have happened, in milliseconds since 1970. It is in the records' field 'ts'.",
        ))
        .define(
            ConfigKey::optional(
                STEP,
                Type::Long,
                "1000",
                low,
                "How much later each event is than the one before, in microseconds.",
            )
            .validator(at_least(0.0)),
        )
        .define(
            ConfigKey::optional(
                DISORDER,
                Type::Long,
                "0",
                low,
                "By how many milliseconds at most an event's time lies back, at random: late records for what works with event time.",
            )
            .validator(at_least(0.0)),
        )
        .define(choice(
            TIMESTAMP,
            &["send", "event"],
            low,
            "The records' Kafka timestamp: of their sending, or of the event. Beware that Kafka deletes records by their timestamp (retention.ms).",
        ))
}

/// A key with a closed set of values, the first of them by default.
fn choice(name: &str, values: &[&str], importance: Importance, documentation: &str) -> ConfigKey {
    let allowed = values.iter().map(|&value| value.to_owned()).collect();
    ConfigKey::optional(name, Type::String, values[0], importance, documentation)
        .validator(Validator::OneOf(allowed))
        .recommended(values)
}

impl GeneratorConfig {
    pub fn parse(config: &Config) -> Result<Self> {
        let values = definition().parse(config)?;
        let schema: String = values.get(SCHEMA)?;
        let topic = values.get::<Option<String>>(TOPIC)?.filter(|topic| !topic.is_empty());
        let (task, tasks) = (config.parsed(TASK, 0)?, config.parsed(TASKS, 1)?);
        if task >= tasks {
            return Err(Error::failed(format!("the task config is broken: {TASK}={task} of {TASKS}={tasks}")));
        }
        Ok(Self {
            name: config.get("name").unwrap_or("generator").to_owned(),
            topic: topic.as_ref().unwrap_or(&schema).as_str().into(),
            schema: match schema.as_str() {
                "clicks" => SchemaName::Clicks,
                "payments" => SchemaName::Payments,
                _ => SchemaName::Orders,
            },
            format: match values.get::<String>(FORMAT)?.as_str() {
                "structured" => Format::Structured,
                "text" => Format::Text,
                _ => Format::Json,
            },
            rate: values.get(RATE)?,
            max_records: values.get(MAX_RECORDS)?,
            seed: values.get::<i64>(SEED)? as u64,
            keys: values.get(KEYS)?,
            batch_size: values.get(BATCH_SIZE)?,
            events: EventTime {
                start_ms: values.get(START)?,
                step_us: values.get(STEP)?,
                disorder_ms: values.get(DISORDER)?,
            },
            event_timestamps: values.get::<String>(TIMESTAMP)? == "event",
            task,
            tasks,
        })
    }
}
