//! Subscription by regular expression.
//!
//! librdkafka matches with POSIX expressions, which know neither `\d` nor groups without capture; Connect's
//! `topics.regex` is Java's. So the pattern is matched here, against the cluster's topics, and the client is
//! subscribed to their names, again whenever the set changes. Kafka's own internal topics never match.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tributary_sdk::Pattern;

use super::super::{ClientSettings, LogError, name_matches};
use super::batch_calls::Client;

/// How often new topics are looked for, unless `metadata.max.age.ms` says otherwise.
const REFRESH: Duration = Duration::from_secs(30);
/// The wait after a failed look.
const RETRY: Duration = Duration::from_secs(2);
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

#[derive(Debug)]
pub(super) struct TopicPattern {
    regex: Pattern,
    subscribed: BTreeSet<String>,
    every: Duration,
    due: Instant,
}

impl TopicPattern {
    /// A pattern that has to match the whole name; `settings` may say how often to look for new topics.
    pub(super) fn new(pattern: &str, settings: &ClientSettings) -> Result<Self, LogError> {
        let regex = Pattern::whole(pattern).map_err(|error| {
            LogError::fatal(format!("topic pattern {pattern:?} is not a regular expression: {error}"))
        })?;
        let every =
            settings.get("metadata.max.age.ms").and_then(|v| v.parse().ok()).map_or(REFRESH, Duration::from_millis);
        Ok(Self { regex, subscribed: BTreeSet::new(), every, due: Instant::now() })
    }

    fn matches(&self, topic: &str) -> bool {
        name_matches(&self.regex, topic) && !INTERNAL.contains(&topic)
    }

    /// Subscribes to what matches now, when a look is due; how long until the next one.
    pub(super) fn refresh(&mut self, client: &mut Client) -> Result<Duration, LogError> {
        let left = self.due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Ok(left);
        }
        let wait = match client.topics(None, RETRY) {
            Ok(topics) => {
                let topics: BTreeSet<String> =
                    topics.into_iter().map(|t| t.name).filter(|name| self.matches(name)).collect();
                if topics != self.subscribed {
                    client.subscribe(&topics.iter().cloned().collect::<Vec<_>>())?;
                    self.subscribed = topics;
                }
                self.every
            }
            Err(error) => {
                client.log().broker_away(&error.message);
                RETRY
            }
        };
        self.due = Instant::now() + wait;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_only_and_no_internal_topics() {
        let pattern = TopicPattern::new(r"orders-\d+|__.*", &ClientSettings::new()).unwrap();
        assert!(pattern.matches("orders-7") && pattern.matches("__mine"));
        assert!(
            !pattern.matches("orders-7x") && !pattern.matches("my-orders-7") && !pattern.matches("__consumer_offsets")
        );
        assert!(TopicPattern::new("(", &ClientSettings::new()).unwrap_err().message.contains("topic pattern"));
    }
}
