//! Dead letters, read and sent on again: what `tributary dlq` does, on either log. The command line only fills in the options.
//!
//! Works on the topics of Kafka Connect as well: the headers are the same. Letters whose context headers were not enabled can be
//! shown and replayed, but say nothing of themselves.

mod filter;
mod letter;
mod list;
mod replay;
mod scan;
mod show;

pub use filter::Filter;
pub use list::{Known, list};
pub use replay::{ReplayOptions, Replayed, replay};
pub use show::{ShowOptions, show};

use std::io;
use std::time::Duration;

use crate::log::LogError;

/// How long a command waits for the cluster's answer.
const TIMEOUT: Duration = Duration::from_secs(15);

fn written(result: io::Result<()>) -> Result<(), LogError> {
    result.map_err(|error| LogError::fatal(format!("writing the output: {error}")))
}

#[cfg(test)]
mod tests;
