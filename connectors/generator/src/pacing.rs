//! How many records are due.
//!
//! Promises the rate over any stretch of time in which records are taken, and no more than [`BURST_MS`] of it at once: what
//! was missed in a pause, or because the worker pushed back, is not made up for.

/// The most that is due at once, in milliseconds of the rate.
const BURST_MS: f64 = 1000.0;

/// Counts what is due by the worker's clock.
#[derive(Debug)]
pub(crate) struct Pacing {
    /// Records a millisecond; 0: all that are asked for.
    per_ms: f64,
    due: f64,
    /// When `due` was true, ms since the epoch.
    since: i64,
}

impl Pacing {
    /// A `rate` a second, from `now` on.
    pub fn new(rate: f64, now: i64) -> Self {
        Self { per_ms: rate / 1000.0, due: 0.0, since: now }
    }

    /// Takes up to `most` records that are due. 0: none is yet.
    pub fn take(&mut self, most: usize, now: i64) -> usize {
        if self.per_ms == 0.0 {
            return most;
        }
        // A clock that is set back makes nothing due.
        let passed = (now - self.since).max(0) as f64;
        self.since = now;
        // A rate below one a second still comes to its one record.
        self.due = (self.due + passed * self.per_ms).min((BURST_MS * self.per_ms).max(1.0));
        let taken = (self.due as usize).min(most);
        self.due -= taken as f64;
        taken
    }

    /// Milliseconds until a batch is worth handing over: the next record at a low rate, a hundredth of a second at a high one.
    pub fn wait_ms(&self) -> u64 {
        if self.per_ms == 0.0 {
            return 0;
        }
        ((1.0 - self.due).max(0.0) / self.per_ms).ceil().clamp(10.0, 1000.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept() {
        for rate in [0.5, 3.0, 1000.0, 250_000.0] {
            let (mut now, mut taken) = (5_000, 0);
            let mut pacing = Pacing::new(rate, now);
            while now < 125_000 {
                taken += pacing.take(2000, now);
                now += if pacing.due >= 1.0 { 1 } else { pacing.wait_ms() as i64 };
            }
            let expected = rate * 120.0;
            assert!((taken as f64 - expected).abs() <= expected * 0.01 + 1.0, "{taken} records at {rate} a second");
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pacing = Pacing::new(100.0, 0);
        assert_eq!(pacing.take(1_000_000, 3_600_000), 100);
        assert_eq!(pacing.take(1_000_000, 3_600_000), 0);
        assert_eq!(pacing.take(1_000_000, 1_800_000), 0);
    }

    #[test]
    fn without_a_rate_everything_is_due() {
        let mut pacing = Pacing::new(0.0, 0);
        assert_eq!((pacing.take(7, 0), pacing.wait_ms()), (7, 0));
    }
}
