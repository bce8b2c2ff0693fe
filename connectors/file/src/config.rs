//! The config keys of both connectors, and their values parsed.
//!
//! `file`, `topic` and `batch.size` are Kafka Connect's; the others have defaults under which a Connect config means the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Importance, Result, Type};

pub(crate) const FILE: &str = "file";
pub(crate) const TOPIC: &str = "topic";
pub(crate) const BATCH_SIZE: &str = "batch.size";
const MAX_LINE_BYTES: &str = "max.line.bytes";
const MAX_LINE_ACTION: &str = "max.line.action";
const ROTATION_WAIT: &str = "rotation.wait.ms";
const OFFSET_IDENTITY: &str = "offset.identity";
const SYNC: &str = "sync";
const TORN_LINE: &str = "torn.line";

const DEFAULT_BATCH_SIZE: usize = 2000;
const DEFAULT_MAX_LINE_BYTES: usize = 16 << 20;
/// Arrow's text columns count bytes in 31 bits; half of that leaves room for every other sum.
const MOST_LINE_BYTES: usize = 1 << 30;
const DEFAULT_ROTATION_WAIT_MS: u64 = 1000;

/// What the source does with a line above `max.line.bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongLines {
    Fail,
    Skip,
}

/// The source's config.
#[derive(Debug, Clone)]
pub(crate) struct SourceConfig {
    /// `None`: standard input.
    pub file: Option<PathBuf>,
    pub topic: Arc<str>,
    /// Records a poll, at least 1.
    pub batch_size: usize,
    pub max_line_bytes: usize,
    pub long_lines: LongLines,
    /// How long a file that was renamed away has to stay quiet before it is left.
    pub rotation_wait: Duration,
    /// Whether offsets name the file itself, not only its path.
    pub identity: bool,
}

impl SourceConfig {
    pub fn definition() -> ConfigDef {
        ConfigDef::new()
            .define(ConfigKey::nullable(
                FILE,
                Type::String,
                Importance::High,
                "Path of the file to read. Without it, the worker's standard input is read and no offsets are kept.",
            ))
            .define(
                ConfigKey::required(TOPIC, Type::String, Importance::High, "The topic that the lines go to.")
                    .validator(Validator::NonEmpty),
            )
            // As in Connect, any number will do.
            .define(ConfigKey::optional(
                BATCH_SIZE,
                Type::Int,
                &DEFAULT_BATCH_SIZE.to_string(),
                Importance::Low,
                "The most lines that one poll of the task hands over; less than 1 counts as 1.",
            ))
            .define(
                ConfigKey::optional(
                    MAX_LINE_BYTES,
                    Type::Int,
                    &DEFAULT_MAX_LINE_BYTES.to_string(),
                    Importance::Low,
                    "The longest line accepted, in bytes without its terminator. It bounds the memory that a file without line ends can take.",
                )
                .validator(Validator::Range { min: Some(1.0), max: Some(MOST_LINE_BYTES as f64) }),
            )
            .define(
                ConfigKey::optional(
                    MAX_LINE_ACTION,
                    Type::String,
                    "fail",
                    Importance::Low,
                    "What happens at a longer line: 'fail' the task with the line's position, or 'skip' the line, with a warning and a count.",
                )
                .validator(one_of(&["fail", "skip"]))
                .recommended(&["fail", "skip"]),
            )
            .define(
                ConfigKey::optional(
                    ROTATION_WAIT,
                    Type::Long,
                    &DEFAULT_ROTATION_WAIT_MS.to_string(),
                    Importance::Low,
                    "When another file has taken the path (log rotation): for how many milliseconds nothing may be added to the old one before it counts as finished and the new one is read.",
                )
                .validator(Validator::Range { min: Some(0.0), max: None }),
            )
            .define(
                ConfigKey::optional(
                    OFFSET_IDENTITY,
                    Type::String,
                    "none",
                    Importance::Low,
                    "Whether stored offsets also name the file behind the path: 'inode' lets a restarted task notice that the file was rotated while it was away, and finish the old one first if it is still in the directory; 'none' stores exactly what Kafka Connect does.",
                )
                .validator(one_of(&["none", "inode"]))
                .recommended(&["none", "inode"]),
            )
    }

    pub fn parse(config: &Config) -> Result<Self> {
        let values = Self::definition().parse(config)?;
        Ok(Self {
            file: file(config),
            topic: values.get::<String>(TOPIC)?.into(),
            batch_size: values.get::<i64>(BATCH_SIZE)?.max(1) as usize,
            max_line_bytes: values.get(MAX_LINE_BYTES)?,
            long_lines: match values.get::<String>(MAX_LINE_ACTION)?.as_str() {
                "skip" => LongLines::Skip,
                _ => LongLines::Fail,
            },
            rotation_wait: Duration::from_millis(values.get(ROTATION_WAIT)?),
            identity: values.get::<String>(OFFSET_IDENTITY)? == "inode",
        })
    }
}

/// How far a commit of the sink reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// To the operating system: survives the worker's death.
    None,
    /// To the disk: survives the machine's.
    Data,
}

/// What the sink does at start with a last line that has no terminator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TornLine {
    Truncate,
    Terminate,
}

/// The sink's config.
#[derive(Debug, Clone)]
pub(crate) struct SinkConfig {
    /// `None`: standard output.
    pub file: Option<PathBuf>,
    pub sync: Sync,
    pub torn_line: TornLine,
}

impl SinkConfig {
    pub fn definition() -> ConfigDef {
        ConfigDef::new()
            .define(ConfigKey::nullable(
                FILE,
                Type::String,
                Importance::High,
                "Path of the file to append to; it is created when it is not there. Without it, the records go to the worker's standard output.",
            ))
            .define(
                ConfigKey::optional(
                    SYNC,
                    Type::String,
                    "none",
                    Importance::Low,
                    "How safe records are when their offsets are committed: 'none' survives a crash of the worker, 'data' also a crash of the machine, at the price of waiting for the disk at each commit.",
                )
                .validator(one_of(&["none", "data"]))
                .recommended(&["none", "data"]),
            )
            .define(
                ConfigKey::optional(
                    TORN_LINE,
                    Type::String,
                    "truncate",
                    Importance::Low,
                    "What happens at start to a last line without its line end, which is what a crash in the middle of a write leaves: 'truncate' takes it away (its record was not committed and comes again; the bytes are logged), 'terminate' keeps it as a line of its own.",
                )
                .validator(one_of(&["truncate", "terminate"]))
                .recommended(&["truncate", "terminate"]),
            )
    }

    pub fn parse(config: &Config) -> Result<Self> {
        let values = Self::definition().parse(config)?;
        Ok(Self {
            file: file(config),
            sync: match values.get::<String>(SYNC)?.as_str() {
                "data" => Sync::Data,
                _ => Sync::None,
            },
            torn_line: match values.get::<String>(TORN_LINE)?.as_str() {
                "terminate" => TornLine::Terminate,
                _ => TornLine::Truncate,
            },
        })
    }
}

/// The path in `file`; an empty one counts as none, as in Kafka Connect.
pub(crate) fn file(config: &Config) -> Option<PathBuf> {
    // Kafka trims the values of its string keys.
    config.get(FILE).map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn one_of(values: &[&str]) -> Validator {
    Validator::OneOf(values.iter().map(|&value| value.to_owned()).collect())
}
