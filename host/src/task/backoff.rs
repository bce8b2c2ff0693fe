//! Growing pauses between tries.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from a tenth of a second to five seconds.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// Begins again at the shortest pause.
    pub fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// The next pause.
    pub fn next(&self) -> Duration {
        self.0
    }

    /// Takes the next pause and doubles the one after it.
    pub fn advance(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}
