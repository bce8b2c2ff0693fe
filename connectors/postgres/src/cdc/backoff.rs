//! Pauses between attempts, and how often somebody is told.

use std::time::{Duration, Instant};

/// The first pause; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// How often the same is said again.
const SAY: Duration = Duration::from_secs(60);

/// Pauses that grow while nothing succeeds.
#[derive(Default)]
pub(crate) struct Backoff {
    pause: Duration,
    until: Option<Instant>,
    said: Option<Instant>,
}

impl Backoff {
    /// An attempt failed: the next one is later. `true`: it is to be said.
    pub fn fail(&mut self) -> bool {
        let now = Instant::now();
        self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
        self.until = Some(now + self.pause);
        let say = self.said.is_none_or(|said| now.duration_since(said) >= SAY);
        if say {
            self.said = Some(now);
        }
        say
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether it is too early for another attempt.
    pub fn waits(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_waited_for() {
        let mut backoff = Backoff::default();
        assert!(!backoff.waits());
        assert!(backoff.fail());
        assert!(backoff.waits());
        assert!(!backoff.fail());
        backoff.reset();
        assert!(!backoff.waits());
    }
}
