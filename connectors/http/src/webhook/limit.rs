//! Requests a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket that fills with so many tokens a second, and holds the tokens of one second.
pub(super) struct Limit {
    rate: f64,
    state: Mutex<(f64, Instant)>,
}

impl Limit {
    pub fn new(rate: f64) -> Self {
        Self { rate, state: Mutex::new((rate.max(1.0), Instant::now())) }
    }

    /// Takes a token; else the time until there is one.
    pub fn take(&self) -> Result<(), Duration> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, at) = *state;
        let filled = (tokens + now.saturating_duration_since(at).as_secs_f64() * self.rate).min(self.rate.max(1.0));
        if filled >= 1.0 {
            *state = (filled - 1.0, now);
            return Ok(());
        }
        *state = (filled, now);
        Err(Duration::from_secs_f64((1.0 - filled) / self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_at_once_and_then_the_rate() {
        let limit = Limit::new(10.0);
        let start = Instant::now();
        assert_eq!((0..20).filter(|_| limit.take_at(start).is_ok()).count(), 10);
        let wait = limit.take_at(start).unwrap_err();
        assert!(wait <= Duration::from_millis(101), "{wait:?}");
        let later = start + Duration::from_millis(510);
        assert_eq!((0..20).filter(|_| limit.take_at(later).is_ok()).count(), 5);
    }
}
