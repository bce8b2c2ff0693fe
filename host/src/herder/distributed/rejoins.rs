//! When the group is asked to rebalance because connectors or tasks have come or gone.
//!
//! Changes are collected for a moment first. A single change is assigned at once, and so are the task configs that follow on
//! it; in a burst (a client that creates one connector after the other) rebalances keep growing distances, up to
//! [`FARTHEST`], since each one is work for all workers and for the coordinator, and delays what the client does next.

use std::time::{Duration, Instant};

/// Distance to the last rebalance: doubled for each one that follows on another, up to the second one.
const NEAREST: Duration = Duration::from_millis(20);
const FARTHEST: Duration = Duration::from_millis(160);
/// After so long without one the distances begin anew.
const CALM: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rejoins {
    due: Option<Instant>,
    /// When the group rebalanced last, for whatever reason.
    last: Option<Instant>,
    /// How many rebalances have followed on each other.
    row: u32,
}

impl Rejoins {
    /// Something has changed that the last rebalance did not know of; changes are collected for `after` at least.
    pub fn wish(&mut self, now: Instant, after: Duration) {
        let distance = |last: Instant| last + (NEAREST * 2u32.pow(self.row.min(8))).min(FARTHEST);
        let earliest = self.last.filter(|_| self.row > 0).map(distance);
        self.due.get_or_insert_with(|| earliest.map_or(now + after, |earliest| earliest.max(now + after)));
    }

    /// The last rebalance knew of everything.
    pub fn no_wish(&mut self) {
        self.due = None;
    }

    /// The group has rebalanced.
    pub fn rebalanced(&mut self, now: Instant) {
        let follows = self.last.is_some_and(|last| now.saturating_duration_since(last) < CALM);
        self.row = if follows { self.row + 1 } else { 0 };
        self.last = Some(now);
    }

    /// When the group is to be asked.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the group is to be asked now; only once.
    pub fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_millis(20);

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn single_changes_are_assigned_at_once_and_bursts_in_growing_steps() {
        let start = Instant::now();
        let mut rejoins = Rejoins::default();
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..6 {
            rejoins.wish(now, AFTER);
            let due = rejoins.due().unwrap();
            assert!(!rejoins.take_due(due - millis(1)));
            assert!(rejoins.take_due(due));
            waits.push((due - now).as_millis());
            now = due;
            rejoins.rebalanced(now);
        }
        assert_eq!(waits, [20, 20, 40, 80, 160, 160]);
        // After a calm time all is as at first.
        now += CALM;
        rejoins.wish(now, AFTER);
        rejoins.rebalanced(now);
        rejoins.no_wish();
        rejoins.wish(now, AFTER);
        assert_eq!(rejoins.due(), Some(now + AFTER));
    }
}
