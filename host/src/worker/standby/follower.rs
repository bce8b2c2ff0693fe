//! The thread of a follower.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session::{Session, Stop};
use super::wish::Wish;
use crate::task::control::TaskControl;
use crate::worker::environment::Environment;

/// The first and the longest pause after an error.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long there may be nothing to follow before that is told.
const UNTOLD: Duration = Duration::from_secs(60);

/// Follows the state of a connector's tasks.
pub struct Follower {
    environment: Arc<Environment>,
    connector: String,
    wish: Arc<Wish>,
}

impl Follower {
    /// To be run on a thread of its own.
    pub fn new(environment: Arc<Environment>, connector: &str, wish: Arc<Wish>) -> Self {
        Self { environment, connector: connector.to_owned(), wish }
    }

    /// Whose state it is.
    pub fn connector(&self) -> &str {
        &self.connector
    }

    /// Runs until nothing is to be followed.
    pub fn run(self) {
        let mut pause = AGAIN.0;
        let mut told = None;
        let mut idle_since = None;
        while let Some(spec) = self.wish.spec() {
            // Its secrets are hidden in what is told of errors.
            let control = TaskControl::default();
            let ran = Session::open(&self.environment, &self.wish, &spec, &control).and_then(|mut session| {
                let begun = Instant::now();
                idle_since = None;
                let ran = session.run();
                // What goes wrong again and again goes wrong soon.
                if begun.elapsed() > AGAIN.1 {
                    (pause, told) = (AGAIN.0, None);
                }
                // What is committed may be saved whatever has happened.
                session.close();
                ran
            });
            self.wish.show(|progress| (progress.shards, progress.to_read) = (0, None));
            let message = match ran {
                Ok(()) | Err(Stop::Again) => continue,
                Err(Stop::Later(reason)) => {
                    tracing::debug!(connector = self.connector, "the state is followed later: {reason}");
                    let since = *idle_since.get_or_insert_with(Instant::now);
                    (since.elapsed() >= UNTOLD).then_some(reason)
                }
                Err(Stop::Failed(message)) => Some(control.secrets().hide(&message).into_owned()),
            };
            if message.is_some() && message != told {
                // Once for each reason.
                let message = message.as_deref().unwrap_or_default();
                let connector = &self.connector;
                tracing::warn!(
                    connector,
                    "the state of tasks on other workers is followed again in {pause:?}: {message}"
                );
                told = Some(message.to_owned());
            }
            self.wish.show(|progress| progress.retrying = message);
            self.wish.wait(pause);
            pause = (pause * 2).min(AGAIN.1);
        }
        tracing::info!(connector = self.connector, "the state of tasks on other workers is not followed any more");
    }
}
