//! Makes the topics of a source connector before they are written to (`topic.creation.*`, KIP-158).
//!
//! Promises: a topic that is there stays as it is; one that is not is made by the first group that wants it; two tasks that
//! want the same topic at once both go on. How it fails: while the cluster cannot be asked, the task waits and asks again;
//! where the cluster refuses (no permission, a setting it does not know, too many replicas), the task fails and says what it
//! asked for.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::control::TaskControl;
use super::errors::TaskError;
use crate::config::TopicCreation;
use crate::log::{ClientSettings, Log, LogAdmin, LogError, NewTopic};

/// How long one question to the cluster may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes topics for one task.
pub struct TopicCreator {
    /// Where.
    pub log: Arc<dyn Log>,
    /// The connector's admin client.
    pub client: ClientSettings,
    /// What they are to be like.
    pub groups: TopicCreation,
}

impl TopicCreator {
    /// Sees to it that a topic exists. Waits; answers `false` if the task has to end first.
    pub fn ensure(&self, topic: &str, control: &TaskControl) -> Result<bool, TaskError> {
        // Topics are few and new ones rare, so no client is kept for them.
        let own = self.log.admin_with(&self.client);
        let admin = own.as_deref().unwrap_or_else(|| self.log.admin());
        let mut backoff = Backoff::default();
        loop {
            match self.create(admin, topic) {
                Ok(()) => return Ok(true),
                Err(Failure::Task(error)) => return Err(error),
                Err(Failure::Again(error)) => {
                    tracing::warn!(
                        "cannot make sure that topic {topic} exists, trying again in {:?}: {error}",
                        backoff.next()
                    );
                    control.wait(backoff.advance());
                }
            }
            if control.stopping() {
                return Ok(false);
            }
        }
    }

    fn create(&self, admin: &dyn LogAdmin, topic: &str) -> Result<(), Failure> {
        if admin.topic(topic, TIMEOUT).map_err(|error| Failure::of(error, None))?.is_some() {
            tracing::debug!("topic {topic} exists");
            return Ok(());
        }
        let (new, group) = self.groups.new_topic(topic);
        match admin.create_topic(&new, TIMEOUT) {
            Ok(true) => {
                tracing::info!("made topic {topic} by the group {group} of topic.creation.groups: {}", shown(&new))
            }
            Ok(false) => tracing::debug!("topic {topic} was made by somebody else"),
            Err(error) => return Err(Failure::of(error, Some(&new))),
        }
        Ok(())
    }
}

enum Failure {
    Again(LogError),
    Task(TaskError),
}

impl Failure {
    fn of(error: LogError, wanted: Option<&NewTopic>) -> Self {
        if error.retriable {
            return Self::Again(error);
        }
        let Some(wanted) = wanted else { return Self::Task(error.into()) };
        // Connect's words at the begin and at the end.
        Self::Task(TaskError::new(format!(
            "Task failed to create new topic {}: {error}. Ensure that the task is authorized to create topics or that the topic exists and restart the task",
            shown(wanted)
        )))
    }
}

fn shown(topic: &NewTopic) -> String {
    let number = |number: Option<i64>| number.map_or("default".to_owned(), |number| number.to_string());
    format!(
        "(name={}, numPartitions={}, replicationFactor={}, configs={:?})",
        topic.name,
        number(topic.partitions.map(i64::from)),
        number(topic.replication_factor.map(i64::from)),
        topic.settings
    )
}
