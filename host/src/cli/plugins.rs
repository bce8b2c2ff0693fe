//! `tributary plugins`.

use std::process::ExitCode;

use super::arguments::PluginsCommand;
use crate::catalog;
use crate::config::WorkerConfig;

/// Prints the classes, one a line, then the problems. Opens no library.
pub fn run(command: PluginsCommand) -> Result<ExitCode, String> {
    let mut path = command.plugin_path;
    if let Some(properties) = command.properties {
        path.extend(WorkerConfig::read(&properties).map_err(|error| error.to_string())?.plugin_path);
    }
    let registry = catalog::builtin_registry();
    for class in registry.classes() {
        let info = class.info();
        println!("{:<14} {:<58} {:<8} {}", info.kind.as_connect(), info.class, info.version, info.location);
    }
    Ok(ExitCode::SUCCESS)
}
