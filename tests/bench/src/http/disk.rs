//! What the disk by itself can do: the limit of everything that answers only when it is durable.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tributary_harness::Result;

/// Bytes that are written over and over, as in SQLite's write-ahead log.
const FILE: usize = 16 << 20;

/// Writes of so many bytes a second, each made durable before the next.
pub fn commits(directory: &Path, bytes: usize, time: Duration) -> Result<f64> {
    let path = directory.join("disk.test");
    let file = File::create(&path)?;
    file.write_all_at(&vec![1; FILE], 0)?;
    file.sync_all()?;
    let chunk = vec![2; bytes];
    let begun = Instant::now();
    let mut writes = 0;
    while begun.elapsed() < time {
        file.write_all_at(&chunk, (writes * bytes % (FILE - bytes)) as u64)?;
        file.sync_data()?;
        writes += 1;
    }
    let rate = writes as f64 / begun.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}
