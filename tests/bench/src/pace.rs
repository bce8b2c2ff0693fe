//! How quickly work goes once it goes at all.
//!
//! A client takes its time before the first record moves: it connects, joins a group, asks for a producer
//! id (half a second in librdkafka, unless it is lucky). That is shown apart and is no part of the
//! rate, which would otherwise depend on how long a run is.

use std::time::Instant;

use serde_json::{Value, json};
use tributary_harness::{Context, Result};

/// Watches one run.
#[derive(Debug)]
pub struct Watch {
    start: Instant,
    /// Seconds, and the share that was done then.
    first: Option<(f64, f64)>,
}

/// What the watch showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Seconds until the first records had moved.
    pub first: f64,
    /// How much of the work they were.
    share: f64,
    /// Seconds until all had moved.
    seconds: f64,
}

impl Watch {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: Instant::now(), first: None }
    }

    /// Takes down that `done` of `all` is done. Only the first time that it is more than nothing counts.
    pub fn see(&mut self, done: u64, all: u64) {
        if self.first.is_none() && done > 0 {
            self.first = Some((self.start.elapsed().as_secs_f64(), done as f64 / all as f64));
        }
    }

    /// Stops now.
    pub fn stop(&self) -> Pace {
        let seconds = self.start.elapsed().as_secs_f64();
        let (first, share) = self.first.unwrap_or((seconds, 1.0));
        Pace { first, share, seconds }
    }
}

impl Pace {
    /// Records a second from the first ones on; over all the time where most came at once.
    pub fn rate(&self, records: u64) -> f64 {
        if self.share > 0.5 {
            return records as f64 / self.seconds;
        }
        records as f64 * (1.0 - self.share) / (self.seconds - self.first)
    }

    /// For another process.
    pub fn to_json(self) -> Value {
        json!({"first": self.first, "share": self.share, "seconds": self.seconds})
    }

    /// From another process.
    pub fn from_json(json: &Value) -> Result<Self> {
        let number = |key: &str| json[key].as_f64().context(format_args!("there is no {key} in {json}"));
        Ok(Self { first: number("first")?, share: number("share")?, seconds: number("seconds")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_before_the_first_record_is_no_part_of_the_rate() {
        let pace = Pace { first: 1.0, share: 0.1, seconds: 10.0 };
        assert!((pace.rate(1000) - 100.0).abs() < 1e-9);
        let at_once = Pace { first: 2.0, share: 1.0, seconds: 2.0 };
        assert!((at_once.rate(1000) - 500.0).abs() < 1e-9);
        assert_eq!(Pace::from_json(&pace.to_json()).unwrap(), pace);
    }
}
