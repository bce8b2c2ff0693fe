//! When to try again: growing pauses with jitter, or as long as the server asks for.

use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::RETRY_AFTER;
use rand::Rng;

/// Pauses between tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// The pause after try number `tries`, from 1: it doubles with each, and a half of it is chance, so that many clients do not come
    /// back together.
    pub fn pause(&self, tries: u32) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1).min(30)));
        let full = doubled.min(self.longest);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

/// What `Retry-After` asks for: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };
        for (tries, full) in [(1, 100), (2, 200), (3, 400), (6, 2000), (60, 2000)] {
            for _ in 0..50 {
                let pause = backoff.pause(tries).as_millis();
                assert!((full / 2..=full).contains(&pause), "{tries}: {pause}");
            }
        }
    }

    #[test]
    fn servers_ask_for_time_in_two_ways() {
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((98..=100).contains(&after(&soon).unwrap().as_secs()));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
