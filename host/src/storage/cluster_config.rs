//! What the config topic of a worker group says, and what is written to it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::Config;

use super::StorageError;
use crate::herder::RestartRequest;
use crate::worker::State;

/// What the config topic says, up to an offset.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The topic's next offset: everything before it is in here. -1: nothing was read yet.
    pub offset: i64,
    /// Whether this is what the worker remembers, and the topic could not be read since its start.
    pub stale: bool,
    /// By name.
    pub connectors: BTreeMap<String, ClusterConnector>,
    /// What requests between workers are signed with.
    pub session_key: Option<SessionKey>,
    /// Connectors whose last commit of task configs was not complete (a leader died while it wrote, or the topic was
    /// compacted in between): their tasks must not run until task configs are written anew.
    pub inconsistent: BTreeSet<String>,
    /// What the leader wrote before tasks of exactly-once sources started. It outlives the connector.
    pub fencing: BTreeMap<String, TaskFencing>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            offset: -1,
            stale: true,
            connectors: BTreeMap::new(),
            session_key: None,
            inconsistent: BTreeSet::new(),
            fencing: BTreeMap::new(),
        }
    }
}

impl ClusterConfig {
    /// The connectors of which the other one says something else. In one pass over both: they are looked at after every change.
    pub fn differing<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a String> {
        let mut names: BTreeSet<&String> = self.inconsistent.symmetric_difference(&other.inconsistent).collect();
        names.extend(differing(&self.connectors, &other.connectors));
        names.extend(differing(&self.fencing, &other.fencing));
        names
    }
}

/// The keys at which two maps differ.
fn differing<'a, V: PartialEq>(
    one: &'a BTreeMap<String, V>,
    other: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = &'a String> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (one.peek(), other.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((left, _)), Some((right, _))) => left.cmp(right),
            };
            match order {
                Ordering::Less => return one.next().map(|(name, _)| name),
                Ordering::Greater => return other.next().map(|(name, _)| name),
                Ordering::Equal => {
                    if let (Some((name, left)), Some((_, right))) = (one.next(), other.next())
                        && left != right
                    {
                        return Some(name);
                    }
                }
            }
        }
    })
}

/// A connector of the config topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConnector {
    /// As the user wrote it.
    pub config: Arc<Config>,
    /// Running, Paused or Stopped.
    pub target: State,
    /// Configs of its tasks, of the last complete commit; none while the connector is in [`ClusterConfig::inconsistent`].
    pub tasks: Vec<Arc<Config>>,
    /// The connector's config when that commit was made.
    pub applied: Option<Arc<Config>>,
}

/// Whether zombies of a connector's tasks are fenced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskFencing {
    /// How many tasks' producers were fenced last.
    pub task_count: Option<u32>,
    /// Whether task configs were committed since: the former tasks have to be fenced before the new ones start.
    pub pending: bool,
    /// Grows with each commit of task configs that this worker has read.
    pub generation: u32,
}

/// A key for requests between workers.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey {
    /// The secret.
    pub key: Vec<u8>,
    /// As Java names it, `HmacSHA256`.
    pub algorithm: String,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionKey({}, made at {})", self.algorithm, self.created_ms)
    }
}

/// One thing to write to the config topic.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigWrite {
    /// A connector's config, and its first target state.
    Connector {
        /// Its name.
        name: String,
        /// Its config.
        config: Config,
        /// Written before the config.
        initial: Option<State>,
    },
    /// Forget a connector.
    Remove(String),
    /// A connector's target state: Running, Paused or Stopped. Any worker may write it.
    Target(String, State),
    /// A connector's task configs, and their commit.
    Tasks(String, Vec<Config>),
    /// How many tasks' producers of an exactly-once source were fenced.
    TaskCount(String, u32),
    /// A new key.
    SessionKey(SessionKey),
    /// A request to restart.
    Restart(String, RestartRequest),
    /// A log level of the whole cluster: name of the logger, level. Any worker may write it.
    LoggerLevel(String, String),
}

impl ConfigWrite {
    /// Whether only the leader may write it.
    pub fn privileged(&self) -> bool {
        !matches!(self, Self::Target(..) | Self::LoggerLevel(..))
    }
}

/// What a record of the config topic changed. Told in the topic's order, once [`ConfigLog::snapshot`] shows it, and
/// only of records that came after the worker had read the topic to its end for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// The topic was read to its end for the first time since the start: the snapshot is no longer stale.
    Current,
    /// A connector's config is new or was written again.
    Connector(String),
    /// A connector is gone.
    Removed(String),
    /// A connector's target state is another one.
    Target(String),
    /// A connector's task configs were committed, complete or not.
    Tasks(String),
    /// Former tasks of an exactly-once source are fenced.
    Fenced(String),
    /// The session key is a new one.
    SessionKey,
    /// Somebody asks for a restart.
    Restart(String, RestartRequest),
    /// A log level for the whole cluster: name of the logger, level.
    LoggerLevel(String, String),
    /// The topic was recreated or cut off and has been read anew: compare everything.
    Replaced,
}

/// The config topic.
pub trait ConfigLog: Send + Sync {
    /// What it says as far as it was read. Does not wait.
    fn snapshot(&self) -> Arc<ClusterConfig>;
    /// Reads to the topic's present end. Waits.
    fn refresh(&self, timeout: Duration) -> Result<(), StorageError>;
    /// Makes this worker the only one that can write what is privileged; whoever did before cannot any more. Waits.
    fn claim(&self) -> Result<(), StorageError>;
    /// Writes all of it or none, and returns when [`Self::snapshot`] shows it. Waits. A leader that another one has
    /// taken the place of gets an error of kind [`Fenced`](super::StorageErrorKind::Fenced).
    fn write(&self, writes: &[ConfigWrite]) -> Result<(), StorageError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_configs_differ_where_anything_does() {
        let connector = |text: &str| ClusterConnector {
            config: Arc::new([("k", text)].into_iter().collect()),
            target: State::Running,
            tasks: Vec::new(),
            applied: None,
        };
        let with = |connectors: &[(&str, &str)]| ClusterConfig {
            connectors: connectors.iter().map(|(name, text)| ((*name).to_owned(), connector(text))).collect(),
            ..ClusterConfig::default()
        };
        let old = with(&[("a", "1"), ("b", "1"), ("d", "1"), ("f", "1")]);
        let mut new = with(&[("b", "1"), ("c", "1"), ("d", "2"), ("f", "1"), ("g", "1")]);
        let names =
            |old: &ClusterConfig, new: &ClusterConfig| old.differing(new).into_iter().cloned().collect::<String>();
        assert_eq!(names(&old, &new), "acdg");
        assert_eq!(names(&new, &old), "acdg");
        assert_eq!(names(&new, &new), "");
        let same = new.clone();
        new.inconsistent.insert("b".to_owned());
        new.fencing.insert("f".to_owned(), TaskFencing { generation: 1, ..TaskFencing::default() });
        assert_eq!(names(&same, &new), "bf");
    }
}
