//! A commit that a source's plugin has asked for: it is answered when what was open at that time is committed.

use std::time::{Duration, Instant};

/// How long after a commit that failed nothing more is tried on request.
const BACKOFF: Duration = Duration::from_secs(1);

/// What was open when the plugin asked.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// Batches that were in the queue and still are.
    queued: usize,
    /// The newest batch that was taken off it; tokens grow.
    newest: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Asked {
    open: Option<Open>,
    /// The newest batch that was taken off the queue.
    newest: u64,
    not_before: Option<Instant>,
}

impl Asked {
    /// The plugin asks, while so many batches are in the queue.
    pub fn ask(&mut self, queued: usize) {
        self.open = Some(Open { queued, newest: self.newest });
    }

    /// A batch was taken off the queue.
    pub fn popped(&mut self, token: u64) {
        self.newest = self.newest.max(token);
        if let Some(open) = self.open.as_mut().filter(|open| open.queued > 0) {
            (open.queued, open.newest) = (open.queued - 1, self.newest);
        }
    }

    /// Whether somebody waits for an answer that may be possible soon.
    pub fn is_eager(&self, now: Instant) -> bool {
        self.open.is_some() && self.may(now)
    }

    /// Whether to commit now. `committable`: there is something; `oldest`: the oldest batch that is being delivered.
    pub fn is_due(&self, committable: bool, oldest: Option<u64>, now: Instant) -> bool {
        self.open.is_some_and(|open| committable || open.is_done(oldest)) && self.may(now)
    }

    /// Everything that is done is committed.
    pub fn committed(&mut self, oldest: Option<u64>) {
        self.not_before = None;
        self.open = self.open.filter(|open| !open.is_done(oldest));
    }

    /// It was not.
    pub fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + BACKOFF);
    }

    fn may(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }
}

impl Open {
    fn is_done(self, oldest: Option<u64>) -> bool {
        self.queued == 0 && oldest.is_none_or(|oldest| oldest > self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_what_was_open_when_it_came() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.popped(1);
        assert!(!asked.is_due(true, Some(1), now));
        asked.ask(1);
        assert!(!asked.is_due(false, Some(1), now), "nothing is done yet");
        // However much follows: the queue is never empty, and something is always being delivered.
        asked.popped(2);
        asked.popped(3);
        assert!(asked.is_due(true, Some(2), now), "one is done");
        asked.committed(Some(2));
        assert!(asked.is_eager(now), "the other is not");
        assert!(asked.is_due(true, Some(3), now));
        asked.committed(Some(3));
        asked.popped(4);
        assert!(!asked.is_eager(now) && !asked.is_due(true, Some(4), now), "it is answered");
    }

    #[test]
    fn without_anything_open_it_is_answered_at_once() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.ask(0);
        assert!(asked.is_due(false, None, now));
        asked.committed(None);
        assert!(!asked.is_due(false, None, now));
    }

    #[test]
    fn a_commit_that_failed_is_tried_again_after_a_while() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.ask(0);
        asked.failed(now);
        assert!(!asked.is_due(true, None, now) && !asked.is_eager(now));
        assert!(asked.is_due(true, None, now + BACKOFF));
        asked.committed(None);
        assert!(!asked.is_due(true, None, now + BACKOFF));
    }
}
