//! librdkafka's error codes as [`LogError`]s: with Kafka's name, whether it may pass, and what to do.

use rdkafka_sys::rd_kafka_resp_err_t as Code;
use rdkafka_sys::rd_kafka_resp_err_t::*;

use super::super::LogError;
use super::batch_calls::{code_name, code_text};

/// `Ok` for no error, otherwise the error of `operation`.
pub(super) fn check(code: Code, operation: impl FnOnce() -> String) -> Result<(), LogError> {
    if code == RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(from_code(code, &operation())) }
}

/// The error of `operation`.
pub(super) fn from_code(code: Code, operation: &str) -> LogError {
    let hint = hint(code).map(|hint| format!(": {hint}")).unwrap_or_default();
    LogError {
        message: format!("{operation}: {} ({}){hint}", code_text(code), code_name(code)),
        retriable: retriable(code),
        code: Some(code_name(code)),
    }
}

/// The same, but never retriable: the client is of no further use.
pub(super) fn fatal(code: Code, operation: &str) -> LogError {
    LogError { retriable: false, ..from_code(code, operation) }
}

/// A code that arrives as a bare integer.
pub(super) fn from_raw(code: i32) -> Code {
    Code::try_from(code).unwrap_or(RD_KAFKA_RESP_ERR_UNKNOWN)
}

/// Whether the same call may succeed later without anyone's doing.
pub(super) fn retriable(code: Code) -> bool {
    matches!(
        code,
        RD_KAFKA_RESP_ERR__TRANSPORT
            | RD_KAFKA_RESP_ERR__RESOLVE
            | RD_KAFKA_RESP_ERR__MSG_TIMED_OUT
            | RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
            | RD_KAFKA_RESP_ERR__TIMED_OUT
            | RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
            | RD_KAFKA_RESP_ERR__QUEUE_FULL
            | RD_KAFKA_RESP_ERR__WAIT_COORD
            | RD_KAFKA_RESP_ERR__WAIT_CACHE
            | RD_KAFKA_RESP_ERR__IN_PROGRESS
            | RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS
            | RD_KAFKA_RESP_ERR__STATE
            | RD_KAFKA_RESP_ERR__RETRY
            | RD_KAFKA_RESP_ERR__OUTDATED
            | RD_KAFKA_RESP_ERR__DESTROY
            | RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST
            | RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED
            | RD_KAFKA_RESP_ERR__NO_OFFSET
            | RD_KAFKA_RESP_ERR__UNKNOWN_BROKER
            | RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
            | RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
            | RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
            | RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE
            | RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE
            | RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION
            | RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
            | RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
            | RD_KAFKA_RESP_ERR_NOT_COORDINATOR
            | RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS
            | RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION
            | RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID
            | RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
            | RD_KAFKA_RESP_ERR_NOT_CONTROLLER
            | RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR
            | RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE
            | RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH
            | RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH
            | RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT
            | RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED
    )
}

/// Whether an error told of a whole client means that a person has to act.
pub(super) fn ends_client(code: Code) -> bool {
    matches!(
        code,
        RD_KAFKA_RESP_ERR__AUTHENTICATION
            | RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
            | RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM
            | RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
            | RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
            | RD_KAFKA_RESP_ERR__FENCED
            | RD_KAFKA_RESP_ERR__FATAL
    )
}

/// Whether an error in a record's place ends the consumer; the rest is retried inside and logged.
pub(super) fn ends_consumer(code: Code) -> bool {
    ends_client(code)
        || matches!(
            code,
            RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
                | RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
                | RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
                | RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL
                | RD_KAFKA_RESP_ERR_INVALID_GROUP_ID
                | RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED
                | RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT
                | RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION
                | RD_KAFKA_RESP_ERR__BAD_MSG
                | RD_KAFKA_RESP_ERR__BAD_COMPRESSION
                | RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE
        )
}

fn hint(code: Code) -> Option<&'static str> {
    Some(match code {
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE => {
            "raise the producer's max.request.size and the topic's max.message.bytes, or send smaller records"
        }
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED | RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => {
            "grant the client's principal access to it"
        }
        RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION => {
            "the topic has fewer partitions: add partitions, or write to another one"
        }
        RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC | RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => {
            "create the topic, or allow the broker to create it"
        }
        RD_KAFKA_RESP_ERR__TRANSPORT | RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN | RD_KAFKA_RESP_ERR__RESOLVE => {
            "check that a broker of bootstrap.servers runs and can be reached"
        }
        RD_KAFKA_RESP_ERR__AUTHENTICATION | RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED => {
            "check sasl.mechanism and sasl.jaas.config"
        }
        RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID => "another consumer runs with the same group.instance.id",
        RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => {
            "set auto.offset.reset to earliest or latest, or alter the group's offsets"
        }
        RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP => "stop the group's members first",
        _ => return None,
    })
}
