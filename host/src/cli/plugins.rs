//! `tributary plugins`.

use std::process::ExitCode;

use super::arguments::{PluginsAction, PluginsCommand};
use crate::catalog;
use crate::config::WorkerConfig;
use crate::plugin::{listing, write_manifest};

/// Prints the classes and what cannot be used, and opens no library; or writes a library's manifest.
pub fn run(command: PluginsCommand) -> Result<ExitCode, String> {
    if let Some(PluginsAction::Manifest { library }) = command.action {
        let manifest = write_manifest(&library).map_err(|error| error.to_string())?;
        println!("{}", manifest.display());
        return Ok(ExitCode::SUCCESS);
    }
    let mut path = command.plugin_path;
    if let Some(properties) = command.properties {
        path.extend(WorkerConfig::read(&properties).map_err(|error| error.to_string())?.plugin_path);
    }
    let registry = catalog::builtin_registry().scan(&path, &std::env::temp_dir());
    print!("{}", listing(&registry));
    Ok(if registry.problems().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
