//! A file of users, roles or keys that is read again when it changes, so that access can be given and taken without a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A parsed file. What is read must be right at the start; a later version that is not is logged, and the one before stays.
pub(super) struct WatchedFile<T> {
    property: &'static str,
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    current: Mutex<Current<T>>,
}

struct Current<T> {
    value: Arc<T>,
    version: Option<(SystemTime, u64)>,
    looked: Instant,
}

impl<T> WatchedFile<T> {
    /// Reads the file that `property` names.
    pub fn open(property: &'static str, path: &str, parse: fn(&str) -> Result<T, String>) -> Result<Self, String> {
        let path = PathBuf::from(path.trim());
        let version = version(&path);
        let value = Arc::new(load(property, &path, parse)?);
        let current = Mutex::new(Current { value, version, looked: Instant::now() });
        Ok(Self { property, path, parse, current })
    }

    /// As the file says now.
    pub fn get(&self) -> Arc<T> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let version = version(&self.path);
            if version != current.version {
                current.version = version;
                match load(self.property, &self.path, self.parse) {
                    Ok(value) => {
                        tracing::info!("{} has changed and was read again", self.path.display());
                        current.value = Arc::new(value);
                    }
                    Err(error) => tracing::error!("{error}; what it said before stays in force"),
                }
            }
        }
        current.value.clone()
    }
}

fn version(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn load<T>(property: &str, path: &std::path::Path, parse: fn(&str) -> Result<T, String>) -> Result<T, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{property}: cannot read {}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{property}: {}: {error}", path.display()))
}
