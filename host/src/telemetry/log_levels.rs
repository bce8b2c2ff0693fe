//! Levels by logger, as `/admin/loggers` shows and changes them.
//!
//! A logger is a module of the worker, written with dots (`tributary.herder`) or colons; `root` is everything. Java names that
//! Connect users set mean the modules that do the same here. A level holds for a logger and all below it, until one of those
//! has its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// The logger above all others.
const ROOT: &str = "root";

/// What writes log lines here: the worker, and the connectors through it.
const MODULES: [&str; 2] = ["tributary", "plugin"];

/// Java packages and what does their work here.
const JAVA: &[(&str, &str)] = &[
    ("org.apache.kafka.connect.runtime.rest", "tributary.rest"),
    ("org.apache.kafka.connect.runtime.distributed", "tributary.herder"),
    ("org.apache.kafka.connect.runtime.standalone", "tributary.herder"),
    ("org.apache.kafka.connect.runtime.isolation", "tributary.plugin"),
    ("org.apache.kafka.connect.runtime", "tributary.worker"),
    ("org.apache.kafka.connect.storage", "tributary.storage"),
    ("org.apache.kafka.connect.file", "plugin"),
    ("org.apache.kafka.connect.transforms", "tributary.transform"),
    ("org.apache.kafka.connect", "tributary"),
    ("org.apache.kafka.clients", "tributary.log"),
];

/// A logger's level.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct LoggerLevel {
    /// TRACE, DEBUG, INFO, WARN, ERROR or OFF.
    pub level: String,
    /// When it was set over REST, milliseconds since the epoch; null if it was not.
    pub last_modified: Option<i64>,
}

/// The loggers with levels of their own. Cheap to clone.
#[derive(Clone)]
pub struct Loggers(Arc<Inner>);

struct Inner {
    levels: Mutex<BTreeMap<String, (LevelFilter, Option<i64>)>>,
    apply: Box<dyn Fn(Targets) + Send + Sync>,
}

impl Loggers {
    /// The loggers of `directives` (valid ones); `apply` puts changed levels to work.
    pub fn new(directives: &str, apply: impl Fn(Targets) + Send + Sync + 'static) -> Self {
        let mut levels = BTreeMap::new();
        levels.insert(ROOT.to_owned(), (LevelFilter::OFF, None));
        let targets: Targets = directives.parse().unwrap_or_default();
        if let Some(level) = targets.default_level() {
            levels.insert(ROOT.to_owned(), (level, None));
        }
        for (target, level) in targets.iter() {
            levels.insert(target.replace("::", "."), (level, None));
        }
        Self(Arc::new(Inner { levels: Mutex::new(levels), apply: Box::new(apply) }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (LevelFilter, Option<i64>)>> {
        self.0.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every logger that has a level of its own.
    pub fn all(&self) -> BTreeMap<String, LoggerLevel> {
        self.lock().iter().map(|(name, (level, set))| (name.clone(), shown(*level, *set))).collect()
    }

    /// A logger's level: its own, or that of the nearest above it. `None` for a name that means no module of the worker.
    pub fn level(&self, name: &str) -> Option<LoggerLevel> {
        let levels = self.lock();
        if let Some((level, set)) = levels.get(&canonical(name)) {
            return Some(shown(*level, *set));
        }
        let mut above = canonical(name);
        if !MODULES.contains(&above.split('.').next().unwrap_or_default()) {
            return None;
        }
        while let Some(dot) = above.rfind('.') {
            above.truncate(dot);
            if let Some((level, _)) = levels.get(&above) {
                return Some(shown(*level, None));
            }
        }
        levels.get(ROOT).map(|(level, _)| shown(*level, None))
    }

    /// Sets a level (log4j's names) for a logger and all below it; the names of those that changed. `None`: no such level.
    pub fn set(&self, name: &str, level: &str) -> Option<Vec<String>> {
        let level = parse(level)?;
        let name = canonical(name);
        let now = Some(chrono::Utc::now().timestamp_millis());
        let mut levels = self.lock();
        let is_new = !levels.contains_key(&name);
        levels.entry(name.clone()).or_insert((level, None));
        let below = format!("{name}.");
        let mut changed = Vec::new();
        for (logger, value) in levels.iter_mut() {
            let meant = name == ROOT || *logger == name || logger.starts_with(&below);
            // As in Connect, what has the level already does not change.
            if meant && (value.0 != level || is_new && *logger == name) {
                *value = (level, now);
                changed.push(logger.clone());
            }
        }
        let mut targets = Targets::new();
        for (logger, (level, _)) in levels.iter() {
            targets = if logger == ROOT {
                targets.with_default(*level)
            } else {
                targets.with_target(logger.replace('.', "::"), *level)
            };
        }
        (self.0.apply)(targets);
        Some(changed)
    }
}

fn shown(level: LevelFilter, last_modified: Option<i64>) -> LoggerLevel {
    LoggerLevel { level: level.to_string().to_uppercase(), last_modified }
}

/// The worker's name of a logger.
fn canonical(name: &str) -> String {
    let name = name.replace("::", ".");
    let java = JAVA
        .iter()
        .find(|(java, _)| name == *java || name.strip_prefix(java).is_some_and(|rest| rest.starts_with('.')));
    java.map_or(name, |(_, ours)| (*ours).to_owned())
}

fn parse(level: &str) -> Option<LevelFilter> {
    Some(match level.to_ascii_uppercase().as_str() {
        "OFF" => LevelFilter::OFF,
        "FATAL" | "ERROR" => LevelFilter::ERROR,
        "WARN" => LevelFilter::WARN,
        "INFO" => LevelFilter::INFO,
        "DEBUG" => LevelFilter::DEBUG,
        "TRACE" | "ALL" => LevelFilter::TRACE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_inherited_set_and_applied() {
        let applied = Arc::new(Mutex::new(Targets::new()));
        let loggers = Loggers::new("info,tributary::rest=debug", {
            let applied = applied.clone();
            move |targets| *applied.lock().unwrap() = targets
        });
        let level = |name: &str| loggers.level(name).map(|level| level.level);
        assert_eq!(level("root").as_deref(), Some("INFO"));
        assert_eq!(level("tributary.rest.server").as_deref(), Some("DEBUG"));
        assert_eq!(level("tributary::herder").as_deref(), Some("INFO"));
        assert_eq!(level("org.apache.kafka.connect.runtime.rest").as_deref(), Some("DEBUG"));
        assert_eq!(level("com.example"), None);

        let changed = loggers.set("org.apache.kafka.connect", "trace");
        assert_eq!(changed, Some(vec!["tributary".to_owned(), "tributary.rest".to_owned()]));
        assert_eq!(level("tributary.herder").as_deref(), Some("TRACE"));
        let targets = applied.lock().unwrap().clone();
        assert!(targets.would_enable("tributary::herder", &tracing::Level::TRACE));
        assert!(!targets.would_enable("hyper", &tracing::Level::DEBUG));

        assert_eq!(loggers.set("root", "WARN").map(|changed| changed.len()), Some(3));
        assert_eq!(level("tributary.rest").as_deref(), Some("WARN"));
        assert_eq!(loggers.set("root", "LOUD"), None);
        assert!(loggers.all().values().all(|level| level.last_modified.is_some()));
    }
}
