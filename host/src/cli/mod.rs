//! The command line: thin, each command a file.

mod arguments;
mod demo;
mod distributed;
mod dlq;
mod log_commands;
mod plugins;
mod standalone;
mod validate;

use std::process::ExitCode;

use clap::Parser;

pub use arguments::Arguments;
use arguments::Command;

/// Runs what the arguments say. Errors go to standard error, and say what to do.
pub fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Standalone { properties, connectors } => standalone::run(&properties, &connectors),
        Command::Distributed { properties } => distributed::run(&properties),
        Command::Plugins(command) => plugins::run(command),
        Command::Validate { properties, connectors } => validate::run(properties.as_deref(), &connectors),
        Command::Demo(command) => demo::run(&command),
        command @ (Command::Topics { .. } | Command::Produce { .. } | Command::Consume { .. }) => {
            log_commands::run(command)
        }
        Command::Dlq(command) => dlq::run(command),
        Command::Version => {
            println!("tributary {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("tributary: {message}");
        ExitCode::FAILURE
    })
}
