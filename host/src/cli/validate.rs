//! `tributary validate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::catalog;
use crate::config::validation::Validator;
use crate::config::{ConnectorFile, WorkerConfig};

/// Checks each file and prints what is wrong with it.
pub fn run(properties: Option<&Path>, connectors: &[PathBuf]) -> Result<ExitCode, String> {
    let worker = properties.map(WorkerConfig::read).transpose().map_err(|error| error.to_string())?;
    let plugin_path = worker.as_ref().map_or(&[][..], |worker| &worker.plugin_path);
    let registry = catalog::builtin_registry().scan(plugin_path, &std::env::temp_dir());
    let mut validator = Validator::new(Arc::new(catalog::classes(&registry)));
    if let Some(worker) = &worker {
        validator = validator.on_worker(worker);
    }
    let mut wrong = 0;
    for path in connectors {
        let (problems, warnings) = match ConnectorFile::read(path) {
            Err(error) => (vec![error.to_string()], Vec::new()),
            Ok(file) => match validator.validate(&file.config) {
                Err(error) => (vec![error.to_string()], Vec::new()),
                Ok(infos) => (infos.problems(), infos.warnings),
            },
        };
        println!("{}: {}", path.display(), if problems.is_empty() { "valid" } else { "invalid" });
        for problem in &problems {
            println!("  {problem}");
        }
        for warning in &warnings {
            println!("  warning: {}", warning.message);
        }
        wrong += usize::from(!problems.is_empty());
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
