//! Makes sure of an internal topic before it is used: there, compacted, and with as many partitions as it may have.
//!
//! As in Kafka Connect, what the brokers do not allow to do or to look at is taken as being right: a worker without the
//! right to create topics uses what is there, and one that may not read a topic's settings trusts them.

use std::time::{Duration, Instant};

use super::settings::{InternalTopic, TopicRole};
use crate::log::{Log, LogError, TopicIdentity};
use crate::storage::{StorageError, StorageErrorKind};

/// How long one question may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a new topic may take to appear, and brokers that are starting may take to have replicas enough.
const SETTLE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// How long a tombstone stays in a compacted topic where its settings do not tell: Kafka's default.
const TOMBSTONES: Duration = Duration::from_secs(24 * 60 * 60);

/// A topic that may be used.
pub(super) struct Prepared {
    pub identity: TopicIdentity,
    /// How long a tombstone can be read after it was written: an image that is older may have missed some.
    pub tombstones: Duration,
}

/// Creates the topic if need be and checks it. `closing` ends the waiting.
pub(super) fn prepare(
    log: &dyn Log,
    topic: &InternalTopic,
    closing: &dyn Fn() -> bool,
) -> Result<Prepared, StorageError> {
    let deadline = Instant::now() + SETTLE;
    let mut tombstones = TOMBSTONES;
    let identity = match log.admin().topic_identity(&topic.name, REQUEST) {
        Ok(Some(identity)) => {
            tombstones = verify_compaction(log, topic)?;
            identity
        }
        Ok(None) => {
            create(log, topic, deadline, closing)?;
            appear(log, topic, deadline, closing)?
        }
        Err(error) if forbidden(&error) => {
            return Err(misconfigured(format!(
                "{error}: the worker has to describe, read and write topic {} ({})",
                topic.name,
                topic.role.property()
            )));
        }
        Err(error) => return Err(classified(error)),
    };
    if topic.role == TopicRole::Config && identity.partitions > 1 {
        // Connect's own words.
        return Err(misconfigured(format!(
            "Topic '{}' supplied via the '{}' property is required to have a single partition in order to guarantee consistency of connector configurations, but found {} partitions.",
            topic.name,
            topic.role.property(),
            identity.partitions
        )));
    }
    Ok(Prepared { identity, tombstones })
}

fn create(
    log: &dyn Log,
    topic: &InternalTopic,
    deadline: Instant,
    closing: &dyn Fn() -> bool,
) -> Result<(), StorageError> {
    loop {
        match log.admin().create_topic(&topic.to_create(), REQUEST) {
            Ok(true) => {
                tracing::info!(topic = topic.name, "created the topic for {}", topic.role.purpose());
                return Ok(());
            }
            // Somebody else was quicker.
            Ok(false) => return verify_compaction(log, topic).map(drop),
            Err(error) if forbidden(&error) => {
                tracing::debug!("{error}: it is taken to be there, or to be created by the broker");
                return Ok(());
            }
            Err(error) if error.code == Some("INVALID_REPLICATION_FACTOR") => {
                if Instant::now() >= deadline || closing() {
                    return Err(misconfigured(format!(
                        "{error}; there are fewer brokers than {}replication.factor={}: start more, or set it to at most their number",
                        topic.role.prefix(),
                        topic.replication_factor
                    )));
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) if error.retriable => return Err(classified(error)),
            Err(error) => {
                return Err(misconfigured(format!(
                    "Unable to create topic(s) '{}': {error}; check {}*",
                    topic.name,
                    topic.role.prefix()
                )));
            }
        }
    }
}

/// Waits until a topic that was just created is known.
fn appear(
    log: &dyn Log,
    topic: &InternalTopic,
    deadline: Instant,
    closing: &dyn Fn() -> bool,
) -> Result<TopicIdentity, StorageError> {
    loop {
        match log.admin().topic_identity(&topic.name, REQUEST) {
            Ok(Some(identity)) if identity.partitions > 0 => return Ok(identity),
            Err(error) if !error.retriable => return Err(classified(error)),
            _ if Instant::now() >= deadline || closing() => {
                return Err(StorageError::new(
                    StorageErrorKind::Away,
                    format!(
                        "Could not look up partition metadata for topic '{}' in the allotted period. This could indicate a connectivity issue, unavailable topic partitions, or if this is your first use of the topic it may have taken too long to create.",
                        topic.name
                    ),
                ));
            }
            _ => std::thread::sleep(PAUSE),
        }
    }
}

/// How long tombstones live in it; an error if it is not compacted.
fn verify_compaction(log: &dyn Log, topic: &InternalTopic) -> Result<Duration, StorageError> {
    let settings = match log.admin().topic_settings(&topic.name, REQUEST) {
        Ok(settings) => settings,
        Err(error) if error.retriable => return Err(classified(error)),
        Err(error) => {
            tracing::info!("{error}: cannot verify that topic {} is compacted, and take it to be", topic.name);
            return Ok(TOMBSTONES);
        }
    };
    let tombstones = settings.get("delete.retention.ms").and_then(|millis| millis.trim().parse().ok());
    let tombstones = tombstones.map_or(TOMBSTONES, Duration::from_millis);
    let Some(policy) = settings.get("cleanup.policy") else { return Ok(tombstones) };
    let mut policies: Vec<String> =
        policy.split(',').map(|part| part.trim().to_ascii_lowercase()).filter(|part| !part.is_empty()).collect();
    policies.sort();
    policies.dedup();
    if policies.is_empty() || policies == ["compact"] {
        return Ok(tombstones);
    }
    // Connect's own words.
    let (name, property, purpose) = (&topic.name, topic.role.property(), topic.role.purpose());
    Err(misconfigured(format!(
        "Topic '{name}' supplied via the '{property}' property is required to have 'cleanup.policy=compact' to guarantee consistency and durability of {purpose}, but found the topic currently has 'cleanup.policy={}'. Continuing would likely result in eventually losing {purpose} and problems restarting this Connect cluster in the future. Change the '{property}' property in the Connect worker configurations to use a topic with 'cleanup.policy=compact'.",
        policies.join(",")
    )))
}

fn forbidden(error: &LogError) -> bool {
    matches!(
        error.code,
        Some(
            "TOPIC_AUTHORIZATION_FAILED"
                | "CLUSTER_AUTHORIZATION_FAILED"
                | "_UNSUPPORTED_FEATURE"
                | "UNSUPPORTED_VERSION"
        )
    )
}

fn misconfigured(message: String) -> StorageError {
    StorageError::new(StorageErrorKind::Misconfigured, message)
}

/// An error of the log as one of a store.
pub(super) fn classified(error: LogError) -> StorageError {
    let kind = match error.code {
        _ if error.retriable => StorageErrorKind::Away,
        Some(code) if crate::log::is_fenced(code) => StorageErrorKind::Fenced,
        _ => StorageErrorKind::Misconfigured,
    };
    StorageError::new(kind, error.message)
}
