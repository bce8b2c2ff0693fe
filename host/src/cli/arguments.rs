//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A native connector host: Kafka Connect's REST, configs and topics, without the JVM.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a standalone worker until SIGTERM or Ctrl-C.
    Standalone {
        /// The worker's properties, with Kafka Connect's names.
        properties: PathBuf,
        /// Connectors to create or update at start: JSON as REST takes it, or properties.
        connectors: Vec<PathBuf>,
    },
    /// List the classes that a worker knows, and what is wrong with plugins that it cannot use.
    Plugins(PluginsCommand),
    /// Check connector files without running anything; the exit code is 1 if one is wrong.
    Validate {
        /// The worker's properties: plugin.path and the default converters come from there.
        #[arg(long, value_name = "FILE")]
        properties: Option<PathBuf>,
        /// Connector files.
        #[arg(required = true)]
        connectors: Vec<PathBuf>,
    },
    /// Print the version.
    Version,
}

#[derive(Debug, Args)]
pub(super) struct PluginsCommand {
    /// Directories of plugins, as in the worker's plugin.path.
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    pub plugin_path: Vec<PathBuf>,
    /// Take plugin.path from these worker properties.
    #[arg(long, value_name = "FILE")]
    pub properties: Option<PathBuf>,
}
