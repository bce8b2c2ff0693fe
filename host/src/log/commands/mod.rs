//! What `tributary topics`, `produce` and `consume` do, on either log. The command line only fills in the
//! options.
//!
//! Each writes its result to `out` and its progress nowhere; an error names what was being done. A reader
//! of `out` that has gone (`tributary consume … | head`) ends the command without an error.

mod consume;
mod format;
mod produce;
mod topics;

pub use consume::{ConsumeOptions, Start, consume};
pub use format::Format;
pub use produce::{ProduceOptions, Produced, produce};
pub(crate) use topics::table;
pub use topics::{TopicsOptions, topics};

use std::io;
use std::time::Duration;

use super::LogError;

/// How long a command waits for the cluster's answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// `Ok(false)` when the reader of our output has gone.
fn still_read(result: io::Result<()>) -> Result<bool, LogError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(LogError::fatal(format!("writing the output: {error}"))),
    }
}
