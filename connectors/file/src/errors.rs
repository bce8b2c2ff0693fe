//! What an input/output error means to the task: whether it may pass by itself, and what a user can do.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use tributary_sdk::Error;

/// The error for a failed `action` ("cannot read") on `what` (a path, or "standard input").
/// Retriable are those that pass without anyone changing the config or a permission.
pub(crate) fn io_error(action: &str, what: &str, error: &io::Error) -> Error {
    let errno = Errno::from_io_error(error);
    let advice = match errno {
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            ": give the worker's user the right to, then restart the task"
        }
        Some(Errno::ISDIR) => ": it is a directory; name a file",
        Some(Errno::NOTDIR) => ": a part of the path is not a directory; correct the path",
        Some(Errno::MFILE | Errno::NFILE) => ": raise the limit of open files (ulimit -n)",
        _ => "",
    };
    let message = format!("{action} {what}: {error}{advice}");
    let passing = matches!(
        errno,
        Some(
            Errno::INTR
                | Errno::AGAIN
                | Errno::IO
                | Errno::NOSPC
                | Errno::DQUOT
                | Errno::NOMEM
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::BUSY
                | Errno::STALE
                | Errno::TIMEDOUT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::NXIO
        )
    );
    if passing { Error::retriable(message) } else { Error::failed(message) }
}

/// A path as messages show it.
pub(crate) fn shown(path: &Path) -> String {
    format!("file {}", path.display())
}
