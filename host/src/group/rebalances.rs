//! How often the group was rebalanced and how long that took, as this member saw it.

use std::time::Duration;

use super::Lease;

/// Rebalances of a worker's life. Times are of the lease's clock, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebalances {
    /// When the one began that is under way.
    begun: Option<u64>,
    /// Ended with an assignment.
    pub completed: u64,
    total: u64,
    longest: u64,
    last: Option<u64>,
}

impl Rebalances {
    pub(super) fn begin(&mut self, now: u64) {
        self.begun.get_or_insert(now);
    }

    pub(super) fn complete(&mut self, now: u64) {
        let took = self.begun.take().map_or(0, |begun| now.saturating_sub(begun));
        self.completed += 1;
        self.total += took;
        self.longest = self.longest.max(took);
        self.last = Some(now);
    }

    /// How long one took on the average; zero before the first.
    pub fn average(&self) -> Duration {
        Duration::from_nanos(self.total / self.completed.max(1))
    }

    /// How long the longest took.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// How long ago the last one ended; `None` before the first.
    pub fn since_last(&self) -> Option<Duration> {
        self.last.map(|last| Duration::from_nanos(Lease::clock().saturating_sub(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_summed_up() {
        let mut rebalances = Rebalances::default();
        assert_eq!((rebalances.average(), rebalances.since_last()), (Duration::ZERO, None));
        for (begun, ended) in [(1_000, 5_000), (10_000, 12_000)] {
            rebalances.begin(begun);
            // The same one: another member came while it was under way.
            rebalances.begin(begun + 500);
            rebalances.complete(ended);
        }
        assert_eq!(rebalances.completed, 2);
        assert_eq!(rebalances.average(), Duration::from_nanos(3_000));
        assert_eq!(rebalances.longest(), Duration::from_nanos(4_000));
        assert!(rebalances.since_last().is_some());
    }
}
