//! Topics of the worker's own: dead letters, state, what a sink writes.

use std::time::Duration;

use super::control::TaskControl;
use super::errors::TaskError;
use crate::log::{Log, NewTopic};

/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(15);

/// Makes the topic where there is none. Waits for a cluster that is away, until the task has to stop: then the answer is `false`.
pub fn ensure_topic(log: &dyn Log, topic: &NewTopic, control: &TaskControl) -> Result<bool, TaskError> {
    let mut pause = Duration::from_millis(300);
    loop {
        let outcome = match log.admin().topic(&topic.name, ASK) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => log.admin().create_topic(topic, ASK).map(|created| {
                if created {
                    tracing::info!("created topic {}", topic.name);
                }
            }),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                control.counters.set_retrying(None);
                return Ok(true);
            }
            Err(error) if error.retriable => {
                let reason = format!("topic {} cannot be looked up: {error}", topic.name);
                tracing::warn!("{reason}");
                control.counters.set_retrying(Some(&reason));
                if control.wait(pause) {
                    return Ok(false);
                }
                pause = (pause * 2).min(Duration::from_secs(10));
            }
            Err(error) => {
                return Err(TaskError::new(format!(
                    "topic {} does not exist and could not be created: {error}; create it",
                    topic.name
                )));
            }
        }
    }
}
