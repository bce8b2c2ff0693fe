//! `tributary distributed`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::config::WorkerConfig;
use crate::distributed::DistributedWorker;
use crate::telemetry;

/// Runs a worker of a group until it is told to stop.
pub fn run(properties: &Path) -> Result<ExitCode, String> {
    let begun = Instant::now();
    let config = WorkerConfig::read(properties).map_err(|error| error.to_string())?;
    telemetry::start_logging(&config.log_level, config.log_json)?;
    let mut worker = DistributedWorker::start(config)?;
    tracing::info!("the REST API answers on {} after {:?}", worker.url(), begun.elapsed());
    let ended = worker.wait_for_signal();
    worker.shutdown();
    ended.map(|()| ExitCode::SUCCESS)
}
