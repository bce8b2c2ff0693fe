//! What a process costs, as the kernel counts it in `/proc`.

use std::fs;
use std::time::Duration;

use crate::{Context, Result};

/// Processor time and memory of one process, all its threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time since its start. The kernel counts in steps of 10 ms.
    pub cpu: Duration,
    /// Bytes resident now.
    pub rss: u64,
    /// The most bytes that were ever resident, or since [`Usage::reset_peak`].
    pub peak_rss: u64,
    /// Threads now.
    pub threads: u64,
}

impl Usage {
    /// Reads the usage of a living process.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = read(pid, "stat")?;
        let status = read(pid, "status")?;
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Self {
            cpu: cpu(&stat).context(format_args!("cannot read /proc/{pid}/stat"))?,
            rss: field("VmRSS:") * 1024,
            peak_rss: field("VmHWM:") * 1024,
            threads: field("Threads:"),
        })
    }

    /// Starts the peak anew from what is resident now.
    pub fn reset_peak(pid: u32) -> Result<()> {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")
            .context(format_args!("cannot reset the peak of process {pid}"))
    }
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).context(format_args!("process {pid} is gone"))
}

/// Fields 14 and 15 of `stat`: user and system time in ticks. Linux fixes the tick at 1/100 s for
/// user space on every architecture.
fn cpu(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses, which may itself hold spaces and ")".
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = after_name.next()?.parse().ok()?;
    let system: u64 = after_name.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_behind_an_awkward_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 3 0 1000 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1750)));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss > 0 && usage.peak_rss >= usage.rss && usage.threads > 0);
    }
}
