//! Which log `bootstrap.servers` names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::embedded::EmbeddedLog;
use super::kafka::KafkaLog;
use super::{ClientSettings, Log, LogError};

/// The value of `bootstrap.servers` that names the embedded log.
pub const EMBEDDED: &str = "embedded";

/// The embedded log's file in a worker's data directory.
pub fn embedded_file(data_dir: &Path) -> PathBuf {
    data_dir.join("log.db")
}

/// Opens the log of `bootstrap.servers` for a worker: the embedded one under `data_dir`, as its owner, or a Kafka
/// cluster. `settings` hold for all clients of the cluster. No broker is contacted yet.
pub fn open_log(bootstrap: &str, settings: &ClientSettings, data_dir: &Path) -> Result<Arc<dyn Log>, LogError> {
    match bootstrap.trim() {
        EMBEDDED => Ok(Arc::new(EmbeddedLog::open_with(&embedded_file(data_dir), settings)?)),
        servers => kafka(servers, settings),
    }
}

/// The same for a tool that runs beside the worker: the embedded log is opened without its groups, whether a
/// worker owns it or not.
pub fn attach_log(bootstrap: &str, settings: &ClientSettings, data_dir: &Path) -> Result<Arc<dyn Log>, LogError> {
    match bootstrap.trim() {
        EMBEDDED => Ok(Arc::new(EmbeddedLog::attach(&embedded_file(data_dir))?)),
        servers => kafka(servers, settings),
    }
}

fn kafka(servers: &str, settings: &ClientSettings) -> Result<Arc<dyn Log>, LogError> {
    if servers.is_empty() {
        return Err(LogError::fatal("bootstrap.servers is empty: give host:port of a Kafka broker, or `embedded`"));
    }
    Ok(Arc::new(KafkaLog::new(servers, settings)))
}
