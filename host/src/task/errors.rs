//! Why a task fails, and what happens to single records that fail (`errors.*`).

use std::time::{Duration, Instant};

use tributary_sdk::{Config, Error};

use crate::log::LogError;

/// The end of a task: what users read in status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// What failed, why, and what to do.
    pub message: String,
    /// A panic's backtrace.
    pub trace: Option<String>,
}

impl TaskError {
    /// A failure without a backtrace.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), trace: None }
    }

    /// A plugin's failure, with the call that it answered.
    pub fn of_call(call: &str, error: Error) -> Self {
        match error {
            Error::Panicked { message, trace } => Self {
                message: format!("the plugin panicked in {call}: {message}"),
                trace: Some(trace).filter(|trace| !trace.is_empty()),
            },
            other => Self::new(format!("{call} failed: {other}")),
        }
    }

    /// The `trace` of Connect's status.
    pub fn to_trace(&self) -> String {
        self.trace.as_ref().map_or_else(|| self.message.clone(), |trace| format!("{}\n{trace}", self.message))
    }
}

impl From<LogError> for TaskError {
    fn from(error: LogError) -> Self {
        Self::new(error.message)
    }
}

/// Where a record failed, by Connect's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Stage {
    KeyConverter,
    ValueConverter,
    HeaderConverter,
    Transformation,
    TaskPut,
    KafkaProduce,
}

impl Stage {
    /// The name in logs and dead-letter headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyConverter => "KEY_CONVERTER",
            Self::ValueConverter => "VALUE_CONVERTER",
            Self::HeaderConverter => "HEADER_CONVERTER",
            Self::Transformation => "TRANSFORMATION",
            Self::TaskPut => "TASK_PUT",
            Self::KafkaProduce => "KAFKA_PRODUCE",
        }
    }
}

/// One record that failed.
#[derive(Debug, Clone)]
pub struct FailedRecord {
    /// Row in the batch as it was polled or read.
    pub row: usize,
    /// Where.
    pub stage: Stage,
    /// The class that refused it.
    pub class: String,
    /// Why.
    pub message: String,
}

/// `errors.tolerance` and `errors.log.*`.
#[derive(Debug, Clone, Default)]
pub struct ErrorPolicy {
    /// Failed records are skipped (and dead-lettered, where a topic is configured) instead of failing the task.
    pub tolerate: bool,
    /// Each tolerated failure is logged.
    pub log: bool,
    /// How long a record that may be accepted later is tried again, in ms; -1: without end.
    pub retry_timeout_ms: i64,
    /// Longest pause between two tries, in ms.
    pub retry_delay_max_ms: u64,
}

impl ErrorPolicy {
    /// Reads the connector's config.
    pub fn from_config(config: &Config) -> tributary_sdk::Result<Self> {
        Ok(Self {
            tolerate: config.get("errors.tolerance").is_some_and(|value| value.trim().eq_ignore_ascii_case("all")),
            log: config.get("errors.log.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
            retry_timeout_ms: config.parsed("errors.retry.timeout", 0)?,
            retry_delay_max_ms: config.parsed("errors.retry.delay.max.ms", 60_000)?,
        })
    }

    /// When to give up on a record that may be accepted later; `None`: never.
    pub fn retry_deadline(&self) -> Option<Instant> {
        u64::try_from(self.retry_timeout_ms).ok().map(|ms| Instant::now() + Duration::from_millis(ms))
    }

    /// Tolerates a failure (logging it if asked), or makes it the task's. `place` says which record it is.
    pub fn judge(&self, failed: &FailedRecord, place: &str) -> Result<(), TaskError> {
        let FailedRecord { stage, class, message, .. } = failed;
        let stage = stage.name();
        if self.tolerate {
            if self.log {
                tracing::error!(stage, class, place, "skipped a record: {message}");
            }
            return Ok(());
        }
        Err(TaskError::new(format!(
            "Tolerance exceeded in error handler: record at {place} failed in stage {stage} ({class}): {message}; \
             set errors.tolerance=all to skip such records, with errors.deadletterqueue.topic.name to keep them"
        )))
    }
}
