//! What a worker remembers of its restarts, in a file of its data directory: when it left the group in order, and how long it
//! was away then. By that the group knows how long the next restart is likely to take.
//!
//! Promises nothing: a file that is not there, or makes no sense, means that nothing is known.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Who was away for longer was not restarted, but stopped, and started again some other time.
const LONGEST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Restarts {
    file: Option<PathBuf>,
    /// When it left, if it is not back yet.
    left: Option<SystemTime>,
    /// How long the last restart took.
    took: Option<Duration>,
}

impl Restarts {
    pub(super) fn read(file: Option<PathBuf>) -> Self {
        let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let millis = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.and_then(|number| number.parse().ok()).map(Duration::from_millis)
        };
        Self { file, left: millis("left").and_then(|at| UNIX_EPOCH.checked_add(at)), took: millis("took") }
    }

    /// How long the last restart took.
    pub(super) fn took(&self) -> Option<Duration> {
        self.took
    }

    /// The worker leaves now.
    pub(super) fn leave(&mut self, now: SystemTime) {
        self.left = Some(now);
        self.write();
    }

    /// The worker is a member: how long it was away, if it has left in order and was soon started again.
    pub(super) fn back(&mut self, now: SystemTime) -> Option<Duration> {
        let left = self.left.take()?;
        let away = now.duration_since(left).ok().filter(|away| *away <= LONGEST);
        self.took = away.or(self.took);
        self.write();
        away
    }

    fn write(&self) {
        let Some(file) = &self.file else { return };
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok();
        let mut text = String::new();
        for (key, value) in [("left", self.left.and_then(since)), ("took", self.took)] {
            if let Some(value) = value {
                text.push_str(&format!("{key}={}\n", value.as_millis()));
            }
        }
        if let Err(error) = std::fs::write(file, text) {
            tracing::warn!(
                "cannot write {}: {error}; how long a restart of this worker takes is estimated",
                file.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_measured_and_a_long_absence_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = Some(directory.path().join("group-restarts"));
        let at = |millis: u64| UNIX_EPOCH + Duration::from_millis(1_000_000_000_000 + millis);
        let mut restarts = Restarts::read(file.clone());
        assert_eq!((restarts.back(at(0)), restarts.took()), (None, None));
        restarts.leave(at(1_000));
        let mut restarts = Restarts::read(file.clone());
        assert_eq!(restarts.back(at(2_500)), Some(Duration::from_millis(1_500)));
        assert_eq!(restarts.back(at(3_000)), None, "told once");
        let mut restarts = Restarts::read(file.clone());
        assert_eq!(restarts.took(), Some(Duration::from_millis(1_500)));
        restarts.leave(at(10_000));
        let mut restarts = Restarts::read(file.clone());
        assert_eq!(restarts.back(at(100_000)), None);
        assert_eq!(restarts.took(), Some(Duration::from_millis(1_500)));
        std::fs::write(file.as_ref().unwrap(), "left=soon\ntook").unwrap();
        let mut restarts = Restarts::read(file);
        assert_eq!((restarts.back(at(0)), restarts.took()), (None, None));
    }
}
