//! Why a task fails, and what is known of single records that fail, in Kafka Connect's words.

use tributary_sdk::Error;

use crate::config::Secrets;
use crate::log::LogError;

/// The end of a task: what users read in status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// What failed, why, and what to do.
    pub message: String,
    /// A panic's backtrace.
    pub trace: Option<String>,
    /// It passes when the task begins anew, without anybody's doing.
    pub anew: bool,
}

impl TaskError {
    /// A failure without a backtrace.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), trace: None, anew: false }
    }

    /// A plugin's failure, with the call that it answered.
    pub fn of_call(call: &str, error: Error) -> Self {
        match error {
            Error::Panicked { message, trace } => Self {
                message: format!("the plugin panicked in {call}: {message}"),
                trace: Some(trace).filter(|trace| !trace.is_empty()),
                anew: false,
            },
            other => Self::new(format!("{call} failed: {other}")),
        }
    }

    /// The same without secrets.
    pub fn without(self, secrets: &Secrets) -> Self {
        let hide = |text: String| secrets.hide(&text).into_owned();
        Self { message: hide(self.message), trace: self.trace.map(hide), anew: self.anew }
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
    /// The class of the exception that Kafka Connect would have thrown.
    pub exception: &'static str,
    /// Why.
    pub message: String,
}

impl FailedRecord {
    /// A record that a converter or a transform cannot work on.
    pub fn data(row: usize, stage: Stage, class: &str, message: String) -> Self {
        Self { row, stage, class: class.to_owned(), exception: DATA, message }
    }

    /// A record that the sink named in its answer to `put`; Connect says SinkTask, whatever the connector's class.
    pub fn put(row: usize, retriable: bool, message: String) -> Self {
        let exception = if retriable { RETRIABLE } else { CONNECT };
        let class = "org.apache.kafka.connect.sink.SinkTask".to_owned();
        Self { row, stage: Stage::TaskPut, class, exception, message }
    }

    /// A record that the log refused for good; Connect says WorkerSourceTask, whatever the producer.
    pub fn produce(row: usize, error: &LogError) -> Self {
        let class = "org.apache.kafka.connect.runtime.WorkerSourceTask".to_owned();
        let exception = kafka_exception(error);
        Self { row, stage: Stage::KafkaProduce, class, exception, message: error.message.clone() }
    }

    /// The exception as Java prints it, with a line that says where in place of its frames.
    pub fn stack_trace(&self) -> String {
        let Self { stage, class, exception, message, .. } = self;
        format!("{exception}: {message}\n\tat {class} ({})\n", stage.name())
    }
}

const DATA: &str = "org.apache.kafka.connect.errors.DataException";
const CONNECT: &str = "org.apache.kafka.connect.errors.ConnectException";
const RETRIABLE: &str = "org.apache.kafka.connect.errors.RetriableException";

/// The Java client's exception for an error of the log.
fn kafka_exception(error: &LogError) -> &'static str {
    match error.code {
        Some("MSG_SIZE_TOO_LARGE") => "org.apache.kafka.common.errors.RecordTooLargeException",
        Some("UNKNOWN_TOPIC_OR_PART" | "_UNKNOWN_TOPIC" | "_UNKNOWN_PARTITION") => {
            "org.apache.kafka.common.errors.UnknownTopicOrPartitionException"
        }
        Some("TOPIC_AUTHORIZATION_FAILED") => "org.apache.kafka.common.errors.TopicAuthorizationException",
        Some("TOPIC_EXCEPTION") => "org.apache.kafka.common.errors.InvalidTopicException",
        Some("INVALID_RECORD") => "org.apache.kafka.common.errors.InvalidRecordException",
        Some("INVALID_TIMESTAMP") => "org.apache.kafka.common.errors.InvalidTimestampException",
        Some("POLICY_VIOLATION") => "org.apache.kafka.common.errors.PolicyViolationException",
        Some("_MSG_TIMED_OUT" | "_TIMED_OUT" | "REQUEST_TIMED_OUT") => {
            "org.apache.kafka.common.errors.TimeoutException"
        }
        _ if error.retriable => "org.apache.kafka.common.errors.RetriableException",
        _ => "org.apache.kafka.common.errors.ApiException",
    }
}
