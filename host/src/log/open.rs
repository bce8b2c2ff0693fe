//! Which log `bootstrap.servers` names.

use std::path::Path;
use std::sync::Arc;

use super::kafka::KafkaLog;
use super::{ClientSettings, Log, LogError};

/// The value of `bootstrap.servers` that names the embedded log.
pub const EMBEDDED: &str = "embedded";

/// Opens the log of `bootstrap.servers`: the embedded one under `data_dir`, or a Kafka cluster. `settings` hold for
/// all clients of the cluster. No broker is contacted yet.
pub fn open_log(bootstrap: &str, settings: &ClientSettings, data_dir: &Path) -> Result<Arc<dyn Log>, LogError> {
    match bootstrap.trim() {
        "" => Err(LogError::fatal("bootstrap.servers is empty: give host:port of a Kafka broker, or `embedded`")),
        EMBEDDED => Err(LogError::fatal(format!("the embedded log of {} is not there yet", data_dir.display()))),
        servers => Ok(Arc::new(KafkaLog::new(servers, settings))),
    }
}
