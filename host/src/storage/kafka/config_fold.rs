//! What the records of the config topic add up to, by Kafka Connect's rules.
//!
//! Task configs wait for their commit, which counts them: a commit that finds fewer (its leader died while writing, and
//! compaction took what it would have replaced) leaves the connector inconsistent, without tasks, until a complete one comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tributary_sdk::Config;

use super::compacted_topic::{Applied, Fold, Notify, Record};
use super::config_records::ConfigRecord;
use super::warnings::Warnings;
use crate::storage::sqlite::ImageChange;
use crate::storage::{ClusterConfig, ClusterConnector, ConfigChange, SessionKey, TaskFencing};
use crate::worker::State;

/// Of the rows of the image.
pub(super) const FORMAT: u32 = 1;
/// The image's row of the session key; the others begin with `c`.
const SESSION_ROW: &[u8] = b"session-key";

/// Told of what changed, once the snapshot shows it. Must not wait.
pub type ConfigListener = Arc<dyn Fn(&[ConfigChange]) + Send + Sync>;

/// What is known of one connector, which may be only its target state or its task configs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none", with = "config")]
    config: Option<Arc<Config>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<State>,
    /// Committed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "configs")]
    tasks: BTreeMap<u32, Arc<Config>>,
    #[serde(default)]
    count: u32,
    /// Not committed yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "configs")]
    deferred: BTreeMap<u32, Arc<Config>>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "config")]
    applied: Option<Arc<Config>>,
    #[serde(default)]
    inconsistent: bool,
    #[serde(default)]
    fencing: TaskFencing,
}

impl Entry {
    /// The tasks that may run; `None` if their configs are not complete.
    fn complete(&self) -> Option<Vec<Arc<Config>>> {
        if self.inconsistent {
            return None;
        }
        (0..self.count).map(|task| self.tasks.get(&task).cloned()).collect()
    }

    fn is_empty(&self) -> bool {
        self.config.is_none()
            && self.target.is_none()
            && self.deferred.is_empty()
            && self.fencing == TaskFencing::default()
    }

    fn remove(&mut self) {
        let (target, fencing) = (self.target, self.fencing);
        *self = Self { target, fencing, ..Self::default() };
    }
}

/// The fold.
pub(super) struct ConfigFold {
    topic: String,
    entries: BTreeMap<String, Entry>,
    session_key: Option<SessionKey>,
    changed: BTreeSet<String>,
    session_changed: bool,
    changes: Vec<ConfigChange>,
    /// Whether changes are told.
    live: bool,
    current: Arc<ClusterConfig>,
    snapshot: Arc<RwLock<Arc<ClusterConfig>>>,
    listener: ConfigListener,
    pub(super) warnings: Warnings,
}

impl ConfigFold {
    pub(super) fn new(topic: &str, snapshot: Arc<RwLock<Arc<ClusterConfig>>>, listener: ConfigListener) -> Self {
        Self {
            topic: topic.to_owned(),
            entries: BTreeMap::new(),
            session_key: None,
            changed: BTreeSet::new(),
            session_changed: false,
            changes: Vec::new(),
            live: false,
            current: Arc::default(),
            snapshot,
            listener,
            warnings: Warnings::default(),
        }
    }

    fn entry(&mut self, connector: &str) -> &mut Entry {
        self.changed.insert(connector.to_owned());
        self.entries.entry(connector.to_owned()).or_default()
    }

    fn tell(&mut self, change: ConfigChange) {
        if self.live {
            self.changes.push(change);
        }
    }

    fn take(&mut self, record: ConfigRecord) {
        match record {
            ConfigRecord::Target(name, state) => {
                let entry = self.entry(&name);
                let before = entry.target;
                // A connector always has a target state.
                entry.target = state.or_else(|| entry.config.is_some().then_some(State::Running));
                // A removed one is told of with the connector's removal, and an early one with its config.
                if state.is_some() && before != state && entry.config.is_some() {
                    self.tell(ConfigChange::Target(name));
                }
            }
            ConfigRecord::Connector(name, None) => {
                let entry = self.entry(&name);
                let there = entry.config.is_some();
                entry.remove();
                if there {
                    self.tell(ConfigChange::Removed(name));
                }
            }
            ConfigRecord::Connector(name, Some(config)) => {
                let entry = self.entry(&name);
                entry.config = Some(Arc::new(config));
                entry.target.get_or_insert(State::Running);
                self.tell(ConfigChange::Connector(name));
            }
            ConfigRecord::Task(name, task, config) => {
                self.entry(&name).deferred.insert(task, Arc::new(config));
            }
            ConfigRecord::Commit(name, count) => {
                let entry = self.entry(&name);
                let Some(config) = entry.config.clone() else {
                    // The connector was deleted before these were written, and compaction removed its traces.
                    return entry.remove();
                };
                let complete = (0..count).all(|task| entry.deferred.contains_key(&task));
                entry.inconsistent = !complete;
                if complete {
                    // Those beyond the count are of an earlier commit that had more tasks.
                    entry.tasks.append(&mut entry.deferred);
                    entry.tasks.retain(|task, _| *task < count);
                    entry.applied = Some(config);
                    entry.fencing.generation += 1;
                }
                entry.deferred.clear();
                entry.count = count;
                entry.fencing.pending = true;
                self.tell(ConfigChange::Tasks(name));
            }
            ConfigRecord::TaskCount(name, count) => {
                let fencing = &mut self.entry(&name).fencing;
                (fencing.task_count, fencing.pending) = (Some(count), false);
                self.tell(ConfigChange::Fenced(name));
            }
            ConfigRecord::SessionKey(key) => {
                self.session_key = Some(key);
                self.session_changed = true;
                self.tell(ConfigChange::SessionKey);
            }
            ConfigRecord::Restart(name, request) => self.tell(ConfigChange::Restart(name, request)),
            ConfigRecord::LoggerLevel(logger, level) => self.tell(ConfigChange::LoggerLevel(logger, level)),
        }
    }

    /// Brings the snapshot up to date with the entries that changed, or makes it anew.
    fn refresh(&mut self, anew: bool, positions: &BTreeMap<i32, i64>, stale: bool) {
        let (mut next, changed) = if anew {
            (ClusterConfig::default(), self.entries.keys().cloned().collect())
        } else {
            (ClusterConfig::clone(&self.current), self.changed.clone())
        };
        for name in &changed {
            next.inconsistent.remove(name);
            next.connectors.remove(name);
            next.fencing.remove(name);
            let Some(entry) = self.entries.get(name) else { continue };
            if entry.fencing != TaskFencing::default() {
                next.fencing.insert(name.clone(), entry.fencing);
            }
            let Some(config) = &entry.config else { continue };
            let tasks = entry.complete();
            if tasks.is_none() {
                next.inconsistent.insert(name.clone());
            }
            let connector = ClusterConnector {
                config: config.clone(),
                target: entry.target.unwrap_or(State::Running),
                tasks: tasks.unwrap_or_default(),
                applied: entry.applied.clone(),
            };
            next.connectors.insert(name.clone(), connector);
        }
        next.offset = positions.get(&0).copied().unwrap_or(-1);
        next.stale = stale;
        next.session_key.clone_from(&self.session_key);
        self.current = Arc::new(next);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = self.current.clone();
    }
}

impl Fold for ConfigFold {
    fn apply(&mut self, record: &Record<'_>) {
        match ConfigRecord::parse(record.key, record.value) {
            Ok(parsed) => self.take(parsed),
            Err(nonsense) => self.warnings.skip(&self.topic, record.partition, record.offset, &nonsense),
        }
    }

    fn take_rows(&mut self) -> Vec<ImageChange> {
        let mut rows = Vec::new();
        for name in std::mem::take(&mut self.changed) {
            let entry = self.entries.get(&name).filter(|entry| !entry.is_empty());
            let row = entry.map(|entry| serde_json::to_vec(entry).expect("strings and numbers are valid JSON"));
            if row.is_none() {
                self.entries.remove(&name);
            }
            rows.push((format!("c{name}").into_bytes(), row));
        }
        if std::mem::take(&mut self.session_changed)
            && let Some(key) = &self.session_key
        {
            let row = (&key.key, &key.algorithm, key.created_ms);
            rows.push((SESSION_ROW.to_vec(), Some(serde_json::to_vec(&row).expect("valid JSON"))));
        }
        rows
    }

    fn restore(&mut self, key: &[u8], row: &[u8]) -> Result<(), String> {
        if key == SESSION_ROW {
            let (key, algorithm, created_ms) = serde_json::from_slice(row).map_err(|error| error.to_string())?;
            self.session_key = Some(SessionKey { key, algorithm, created_ms });
            return Ok(());
        }
        let name = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix('c')).ok_or("a row without a name")?;
        self.entries.insert(name.to_owned(), serde_json::from_slice(row).map_err(|error| error.to_string())?);
        self.changed.insert(name.to_owned());
        Ok(())
    }

    /// The snapshot stays as it was until the topic was read anew.
    fn clear(&mut self) {
        self.changed.clear();
        self.entries.clear();
        self.changes.clear();
        self.session_key = None;
        self.live = false;
        self.current = Arc::default();
    }

    fn publish(&mut self, applied: &Applied) -> Option<Notify> {
        // What was read on the way to the end was not published.
        self.refresh(!self.live, &applied.positions, !self.live && !applied.became_current);
        if applied.became_current {
            self.live = true;
            self.changes = vec![if applied.replaced { ConfigChange::Replaced } else { ConfigChange::Current }];
        }
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return None;
        }
        let listener = self.listener.clone();
        Some(Box::new(move || listener(&changes)))
    }
}

mod config {
    use super::{Arc, Config, Deserialize, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(config: &Option<Arc<Config>>, to: S) -> Result<S::Ok, S::Error> {
        config.as_ref().map(|config| &config.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Arc<Config>>, D::Error> {
        Ok(Option::deserialize(from)?.map(|config| Arc::new(Config(config))))
    }
}

mod configs {
    use super::{Arc, BTreeMap, Config, Deserialize};

    type Configs = BTreeMap<u32, Arc<Config>>;

    pub(super) fn serialize<S: serde::Serializer>(configs: &Configs, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(configs.iter().map(|(task, config)| (task, &config.0)))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Configs, D::Error> {
        let configs = BTreeMap::<u32, BTreeMap<String, String>>::deserialize(from)?;
        Ok(configs.into_iter().map(|(task, config)| (task, Arc::new(Config(config)))).collect())
    }
}
