//! What the worker's properties say about the group.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::wire::WireSettings;
use crate::config::{ConfigError, WorkerConfig};
use crate::log::ClientSettings;

/// How often a member tells the coordinator that it lives, at most: a rebalance is noticed within this time.
/// `heartbeat.interval.ms` makes it more often only.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// How a worker is a member of its group.
#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// `group.id`.
    pub group_id: String,
    /// How the brokers are reached.
    pub wire: WireSettings,
    /// The URL at which other workers reach this one, as `http://host:port/`. Names the worker: one that comes back with
    /// the same URL is given what it had.
    pub url: String,
    /// Labels, `name` or `name=value`: `worker.labels`, and `worker=host:port` of the URL.
    pub labels: Vec<String>,
    /// `session.timeout.ms`: after this time without a sign of life a worker is removed from the group.
    pub session_timeout: Duration,
    /// Between signs of life.
    pub heartbeat_interval: Duration,
    /// `rebalance.timeout.ms`: how long members may take to join a rebalance.
    pub rebalance_timeout: Duration,
    /// `scheduled.rebalance.max.delay.ms`, if it is set: how long a lost worker is waited for.
    pub lost_worker_delay: Option<Duration>,
    /// `worker.restart.max.delay.ms`, if it is set: how long this worker is waited for when it has left in order.
    pub restart_delay: Option<Duration>,
    /// When this process was started; the time from then on is what a restart takes.
    pub started: Instant,
    /// Where the member id is kept while the worker is in the group. After a crash the next start takes the former member
    /// out at once, instead of waiting for its session to end. The file must be this worker's alone.
    pub member_file: Option<PathBuf>,
    /// Where it is kept how long the last restart took. This worker's alone, too.
    pub restarts_file: Option<PathBuf>,
}

impl GroupSettings {
    /// The settings of a worker that others reach at `url`.
    pub fn new(config: &WorkerConfig, url: &str) -> Result<Self, ConfigError> {
        let mut errors = Vec::new();
        let group_id = config.group_id.as_deref().unwrap_or_default().trim().to_owned();
        if group_id.is_empty() {
            errors.push("Missing required configuration \"group.id\" which has no default value".to_owned());
        }
        let mut millis = |name: &str, default: Option<u64>| match config.properties.get(name).map(str::trim) {
            None => default.map(Duration::from_millis),
            Some(text) => match text.parse::<u32>() {
                Ok(millis) => Some(Duration::from_millis(millis.into())),
                Err(_) => {
                    errors
                        .push(format!("invalid value {text} for configuration {name}: write a number of milliseconds"));
                    None
                }
            },
        };
        let session_timeout = millis("session.timeout.ms", Some(10_000)).unwrap_or_default();
        let heartbeat = millis("heartbeat.interval.ms", Some(3_000)).unwrap_or_default();
        let rebalance_timeout = millis("rebalance.timeout.ms", Some(60_000)).unwrap_or_default();
        let lost_worker_delay = millis("scheduled.rebalance.max.delay.ms", None);
        let restart_delay = millis("worker.restart.max.delay.ms", None);
        if errors.is_empty() && heartbeat >= session_timeout {
            errors.push(format!(
                "heartbeat.interval.ms={} must be less than session.timeout.ms={}: usually a third of it",
                heartbeat.as_millis(),
                session_timeout.as_millis()
            ));
        }
        let wire = match config.cluster_settings().map(|settings| WireSettings::new(&named(settings, url))) {
            Ok(Ok(wire)) => Some(wire),
            Ok(Err(error)) => {
                errors.push(error.to_string());
                None
            }
            Err(error) => return Err(error),
        };
        let mut labels: Vec<String> = config.properties.list("worker.labels").into_iter().map(str::to_owned).collect();
        labels.push(format!("worker={}", host_and_port(url)));
        match wire {
            Some(wire) if errors.is_empty() => Ok(Self {
                group_id,
                wire,
                url: url.to_owned(),
                labels,
                session_timeout,
                heartbeat_interval: heartbeat.clamp(Duration::from_millis(1), HEARTBEAT),
                rebalance_timeout,
                lost_worker_delay,
                restart_delay,
                started: Instant::now(),
                member_file: Some(config.data_dir.join("group-member")),
                restarts_file: Some(config.data_dir.join("group-restarts")),
            }),
            _ => Err(ConfigError::Invalid(errors)),
        }
    }
}

/// Tools that list the group's members show their client ids: as Kafka Connect's workers, ours have the address in it.
fn named(mut settings: ClientSettings, url: &str) -> ClientSettings {
    settings.entry("client.id".to_owned()).or_insert_with(|| format!("connect-{}", host_and_port(url)));
    settings
}

fn host_and_port(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::properties;

    fn settings(more: &str) -> Result<GroupSettings, String> {
        let text = format!("bootstrap.servers=k:1\nkey.converter=x\nvalue.converter=x\ngroup.id=g\n{more}");
        let config = WorkerConfig::new(properties::parse(&text).unwrap().into_iter().collect()).unwrap();
        GroupSettings::new(&config, "http://host:8083/").map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_connects_but_for_the_heartbeat() {
        let settings = settings("").unwrap();
        assert_eq!(settings.session_timeout, Duration::from_secs(10));
        assert_eq!(settings.rebalance_timeout, Duration::from_secs(60));
        assert_eq!(settings.heartbeat_interval, HEARTBEAT);
        assert_eq!(settings.lost_worker_delay, None);
        assert_eq!(settings.labels, ["worker=host:8083"]);
        assert_eq!(settings.wire.client_id, "connect-host:8083");
    }

    #[test]
    fn keys_are_taken_and_checked() {
        let given = settings("worker.labels=zone=a, gpu\nscheduled.rebalance.max.delay.ms=300000\nworker.restart.max.delay.ms=60000\nheartbeat.interval.ms=100\nsession.timeout.ms=6000").unwrap();
        assert_eq!(given.labels, ["zone=a", "gpu", "worker=host:8083"]);
        assert_eq!(given.lost_worker_delay, Some(Duration::from_secs(300)));
        assert_eq!(given.restart_delay, Some(Duration::from_secs(60)));
        assert_eq!(given.heartbeat_interval, Duration::from_millis(100));
        let error = settings("heartbeat.interval.ms=20000").unwrap_err();
        assert!(error.contains("less than session.timeout.ms=10000"), "{error}");
        let error = settings("group.id=").unwrap_err();
        assert!(error.contains("\"group.id\""), "{error}");
    }
}
