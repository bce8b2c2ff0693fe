//! Waiting for something to become true, with an end.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long a server may take to start or to come back on a machine that is busy with other work.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks `probe` until it gives a value. The pause between two questions grows from 5 ms to 100 ms.
///
/// `what` completes the sentence "waited 90 s for …"; the last error of the probe is added.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let last = match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => String::new(),
            Err(error) => format!("; last: {error}"),
        };
        if start.elapsed() >= limit {
            return Err(Error::new(format!("waited {} s for {what}{last}", limit.as_secs_f32())));
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}
