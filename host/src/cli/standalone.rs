//! `tributary standalone`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::config::{ConnectorFile, WorkerConfig};
use crate::standalone::StandaloneWorker;
use crate::telemetry;

/// Runs a worker until it is told to stop.
pub fn run(properties: &Path, connectors: &[PathBuf]) -> Result<ExitCode, String> {
    let begun = Instant::now();
    let config = WorkerConfig::read(properties).map_err(|error| error.to_string())?;
    // A file that cannot be read is an error before anything is started.
    let connectors = connectors.iter().map(|path| ConnectorFile::read(path)).collect::<Result<Vec<_>, _>>();
    let connectors = connectors.map_err(|error| error.to_string())?;
    telemetry::start_logging(&config.log_level, config.log_json)?;
    let worker = StandaloneWorker::start(config)?;
    tracing::info!("the REST API answers on {} after {:?}", worker.url(), begun.elapsed());
    for connector in connectors {
        if let Err(message) = worker.put(connector) {
            worker.shutdown();
            return Err(message);
        }
    }
    worker.wait_for_signal();
    worker.shutdown();
    Ok(ExitCode::SUCCESS)
}
