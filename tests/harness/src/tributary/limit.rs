//! Little room for a worker: a limit on the size of files, or a disk of its own that is soon full.
//!
//! Both are set by a shell that then becomes the worker, so they end with it and leave nothing behind.

use std::path::Path;
use std::process::{Command, Stdio};

/// Directory, in the worker's own, that the small disk is mounted on.
pub(super) const SMALL_DISK: &str = "disk";

/// What a worker has little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No file grows past this many bytes, rounded down to blocks of 512; a write past it fails with
    /// `EFBIG`, having written what fits. It holds for the worker's database, too.
    FileSize(u64),
    /// A disk of this many bytes at [`small_disk`](super::TributaryWorker::small_disk); a write past it
    /// fails with `ENOSPC`. Not everybody may mount one: see [`Limit::is_possible`].
    SmallDisk(u64),
}

impl Limit {
    /// Whether this process may set such a limit. In a container even root may not mount.
    pub fn is_possible(self) -> bool {
        match self {
            Self::FileSize(_) => true,
            Self::SmallDisk(_) => {
                let (program, args) = self.wrap(Path::new("true"), &std::env::temp_dir());
                let quiet = || Stdio::null();
                let status = Command::new(program).args(args).stdout(quiet()).stderr(quiet()).status();
                status.is_ok_and(|status| status.success())
            }
        }
    }

    /// The command that sets the limit and becomes `binary`, whose arguments follow.
    pub(super) fn wrap(self, binary: &Path, disk: &Path) -> (&'static str, Vec<String>) {
        let (binary, disk) = (binary.display().to_string(), disk.display().to_string());
        match self {
            Self::FileSize(bytes) => {
                /// `ulimit -f` counts in blocks of this many bytes in every POSIX shell.
                const BLOCK: u64 = 512;
                // Were the signal not ignored, the first write past the limit would kill the worker.
                let script = r#"trap "" XFSZ; ulimit -S -f "$0"; exec "$@""#;
                ("sh", vec!["-c".into(), script.into(), (bytes / BLOCK).to_string(), binary])
            }
            Self::SmallDisk(bytes) => {
                // In a mount namespace of its own, which ends with its last process.
                let script = r#"mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@""#;
                let args = ["-m", "sh", "-c", script, &format!("size={bytes}"), &disk, &binary];
                ("unshare", args.map(String::from).to_vec())
            }
        }
    }
}
