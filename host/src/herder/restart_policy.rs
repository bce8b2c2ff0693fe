//! When what failed is started again by itself: `errors.restart.*` of a connector's config.
//!
//! Kafka Connect leaves failed tasks to whoever watches them. Here a failed connector or task is started again after a pause
//! that doubles with each attempt, up to a bound; after a time without failures the count begins anew. A restart by hand does too.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use tributary_sdk::Config;
use tributary_sdk::config_def::{ConfigDef, ConfigKey, Importance, Type, Validator, Width};

const POLICY: &str = "errors.restart.policy";
const MAX_ATTEMPTS: &str = "errors.restart.max.attempts";
const INITIAL: &str = "errors.restart.backoff.initial.ms";
const MAX: &str = "errors.restart.backoff.max.ms";
const RESET: &str = "errors.restart.reset.after.ms";

/// A connector's restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Whether anything is restarted at all.
    pub enabled: bool,
    /// At most so many times in a row; `None`: without end.
    pub max_attempts: Option<u32>,
    /// The first pause.
    pub initial: Duration,
    /// The longest pause.
    pub max: Duration,
    /// After this time without failure the count begins anew.
    pub reset_after: Duration,
}

/// The keys, as validation and documentation show them.
pub fn restart_config_def() -> ConfigDef {
    let group = "Error Handling";
    let at_least = |min: f64| Validator::Range { min: Some(min), max: None };
    let key = |name, kind, default, documentation, order, width, display| {
        ConfigKey::optional(name, kind, default, Importance::Medium, documentation).ui(group, order, width, display)
    };
    ConfigDef::new()
        .define(
            key(
                POLICY,
                Type::String,
                "on-failure",
                "Whether a connector or task that failed is started again by itself: 'on-failure' does, after a pause; 'never' leaves it FAILED until it is restarted over REST, as Kafka Connect does.",
                7,
                Width::Short,
                "Restart Policy",
            )
            .validator(Validator::OneOf(vec!["on-failure".to_owned(), "never".to_owned()])),
        )
        .define(
            key(
                MAX_ATTEMPTS,
                Type::Int,
                "-1",
                "How many times in a row a failed connector or task is started again before it is left FAILED; -1 is without end.",
                8,
                Width::Short,
                "Maximum Restarts",
            )
            .validator(at_least(-1.0)),
        )
        .define(
            key(
                INITIAL,
                Type::Long,
                "1000",
                "Milliseconds between a failure and the first restart. The pause doubles with each further attempt and varies by a fifth, so that what failed together does not come back together.",
                9,
                Width::Short,
                "First Pause Before a Restart",
            )
            .validator(at_least(0.0)),
        )
        .define(
            key(MAX, Type::Long, "300000", "The longest pause before a restart, in milliseconds.", 10, Width::Short, "Longest Pause Before a Restart")
                .validator(at_least(0.0)),
        )
        .define(
            key(
                RESET,
                Type::Long,
                "600000",
                "After so many milliseconds without a failure the attempts are counted from the beginning.",
                11,
                Width::Short,
                "Time After Which Restarts Are Forgotten",
            )
            .validator(at_least(0.0)),
        )
}

impl RestartPolicy {
    /// The policy of a config; values that validation would have refused count as defaults.
    pub fn of(config: &Config) -> Self {
        let millis = |key, default| Duration::from_millis(config.parsed(key, default).unwrap_or(default));
        Self {
            enabled: config.get(POLICY).is_none_or(|policy| policy.trim() != "never"),
            max_attempts: u32::try_from(config.parsed(MAX_ATTEMPTS, -1_i64).unwrap_or(-1)).ok(),
            initial: millis(INITIAL, 1_000),
            max: millis(MAX, 300_000),
            reset_after: millis(RESET, 600_000),
        }
    }

    /// The pause before the attempt that follows `attempts` others; `jitter` is from 0 to 1.
    fn pause(&self, attempts: u32, jitter: f64) -> Duration {
        let doubled = self.initial.saturating_mul(2_u32.saturating_pow(attempts.min(30)));
        doubled.min(self.max).mul_f64(0.9 + 0.2 * jitter)
    }
}

/// The restarts of one connector or task so far.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    /// Restarts in a row by the policy.
    pub attempts: u32,
    /// When the next one is due.
    pub due: Option<Instant>,
    failed_at: Option<Instant>,
}

impl Restarts {
    /// It failed at `now`: plans the next restart, if there is to be one.
    pub fn failed(&mut self, policy: &RestartPolicy, now: Instant) {
        self.failed_with(policy, now, rand::rngs::StdRng::from_os_rng().random());
    }

    fn failed_with(&mut self, policy: &RestartPolicy, now: Instant, jitter: f64) {
        if self.failed_at.is_some_and(|last| now.duration_since(last) >= policy.reset_after.max(policy.max)) {
            self.attempts = 0;
        }
        self.failed_at = Some(now);
        let allowed = policy.enabled && policy.max_attempts.is_none_or(|max| self.attempts < max);
        self.due = allowed.then(|| now + policy.pause(self.attempts, jitter));
    }

    /// The planned restart begins.
    pub fn begin(&mut self) {
        self.due = None;
        self.attempts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(pairs: &[(&str, &str)]) -> RestartPolicy {
        RestartPolicy::of(&pairs.iter().copied().collect())
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_begin_anew_after_quiet() {
        let policy = policy(&[(MAX, "5000"), (RESET, "60000")]);
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..5 {
            restarts.failed_with(&policy, now, 0.5);
            pauses.push(restarts.due.unwrap().duration_since(now).as_millis());
            now = restarts.due.unwrap();
            restarts.begin();
        }
        assert_eq!(pauses, [1000, 2000, 4000, 5000, 5000]);
        restarts.failed_with(&policy, now + Duration::from_secs(61), 0.5);
        assert_eq!(restarts.attempts, 0);
    }

    #[test]
    fn attempts_end_and_never_means_never() {
        let policy_two = policy(&[(MAX_ATTEMPTS, "2")]);
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for expected in [true, true, false] {
            restarts.failed_with(&policy_two, now, 0.0);
            assert_eq!(restarts.due.is_some(), expected);
            restarts.begin();
        }
        let mut restarts = Restarts::default();
        restarts.failed_with(&policy(&[(POLICY, "never")]), now, 0.0);
        assert!(restarts.due.is_none());
    }

    #[test]
    fn defaults_agree_with_the_definition() {
        let defaults: Config = restart_config_def()
            .keys
            .into_iter()
            .map(|key| match key.default {
                tributary_sdk::config_def::DefaultValue::Value(default) => (key.name, default),
                other => panic!("{} has the default {other:?}", key.name),
            })
            .collect();
        assert_eq!(RestartPolicy::of(&defaults), policy(&[]));
    }
}
