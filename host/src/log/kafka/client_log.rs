//! What librdkafka says about itself, passed on to `tracing` under the target `librdkafka`.
//!
//! Promises: a broker that is away fills no log. Connection failures come from several threads and many
//! times a second; each client says so at most once in ten seconds, with what to do about it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often one client may say that a broker is away.
const QUIET: Duration = Duration::from_secs(10);

/// The log side of one client; called from librdkafka's own threads.
#[derive(Debug)]
pub(super) struct ClientLog {
    client: String,
    brokers: String,
    connection: Mutex<Limiter>,
}

#[derive(Debug, Default)]
struct Limiter {
    last: Option<Instant>,
    suppressed: u64,
}

impl Limiter {
    /// `Some(n)` when a line may be written, after `n` that were not.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < QUIET) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl ClientLog {
    pub(super) fn new(client: impl Into<String>, brokers: impl Into<String>) -> Self {
        Self { client: client.into(), brokers: brokers.into(), connection: Mutex::default() }
    }

    /// The client's name, for log lines and errors.
    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// One log line of librdkafka with its syslog level and facility.
    pub(super) fn line(&self, level: i32, facility: &str, text: &str) {
        // Names of settings that only the other kind of client reads: Connect hands one set to all.
        if facility == "CONFWARN" {
            tracing::debug!(target: "librdkafka", client = self.client, facility, "{text}");
            return;
        }
        if matches!(facility, "FAIL" | "ERROR" | "MAXPOLL" | "REQTMOUT") && level <= 5 {
            return self.broker_away(text);
        }
        match level {
            0..=3 => tracing::error!(target: "librdkafka", client = self.client, facility, "{text}"),
            4 => tracing::warn!(target: "librdkafka", client = self.client, facility, "{text}"),
            5 | 6 => tracing::info!(target: "librdkafka", client = self.client, facility, "{text}"),
            _ => tracing::debug!(target: "librdkafka", client = self.client, facility, "{text}"),
        }
    }

    /// A failure that librdkafka retries by itself.
    pub(super) fn broker_away(&self, reason: &str) {
        let admitted = self.connection.lock().unwrap_or_else(|e| e.into_inner()).admit(Instant::now());
        if let Some(suppressed) = admitted {
            tracing::warn!(
                target: "librdkafka",
                client = self.client,
                brokers = self.brokers,
                suppressed,
                "{reason}; retrying: check that a broker of bootstrap.servers runs and can be reached"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_and_a_count_of_the_rest() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        assert_eq!(limiter.admit(start), Some(0));
        assert_eq!(limiter.admit(start + Duration::from_secs(1)), None);
        assert_eq!(limiter.admit(start + Duration::from_secs(9)), None);
        assert_eq!(limiter.admit(start + Duration::from_secs(11)), Some(2));
    }
}
