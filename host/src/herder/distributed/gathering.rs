//! How long writes that no user waits for wait, so that one transaction takes more of them.

use std::time::{Duration, Instant};

/// Alone: for the next request of a client that has just had its answer.
const ALONE: Duration = Duration::from_millis(4);
/// Requests that follow one another closer than this are a burst: a script that creates one connector after the other.
const BURST: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug, Default)]
pub struct Gathering {
    last_request: Option<Instant>,
    in_burst: bool,
}

impl Gathering {
    /// A user's request is written.
    pub fn requested(&mut self, now: Instant) {
        self.in_burst = self.last_request.is_some_and(|last| now.saturating_duration_since(last) < BURST);
        self.last_request = Some(now);
    }

    /// Whether the next request is to be expected.
    fn in_burst(&self, now: Instant) -> bool {
        self.in_burst && self.last_request.is_some_and(|last| now.saturating_duration_since(last) < BURST)
    }

    /// When something that came up now is written at the latest.
    pub fn due(&self, now: Instant) -> Instant {
        let burst_ends = self.last_request.filter(|_| self.in_burst(now)).map(|last| last + BURST);
        burst_ends.unwrap_or(now).max(now + ALONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_burst_of_requests_the_next_one_is_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gathering = Gathering::default();
        assert_eq!(gathering.due(at(0)), at(4));
        gathering.requested(at(0));
        assert_eq!(gathering.due(at(3)), at(7), "one request is no burst");
        gathering.requested(at(20));
        assert_eq!(gathering.due(at(23)), at(70), "the next one may come until then");
        assert_eq!(gathering.due(at(69)), at(73));
        assert_eq!(gathering.due(at(100)), at(104), "it came to its end");
        gathering.requested(at(200));
        assert_eq!(gathering.due(at(203)), at(207));
    }
}
