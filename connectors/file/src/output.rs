//! The file that the sink appends to.
//!
//! Promises: a write is whole or not there at all. What a failed write left is cut off again, so that the batch can be
//! written anew; what a crash left in the middle of a line is mended at the next start. Several tasks may append to one
//! file: writes, cuts and mending hold the file's advisory lock.
//!
//! Fails: retriably at a full disk, with the space that is free, and at a pipe without a reader; for good at a missing
//! permission, a directory, or a file whose end is no text. Pipes and devices cannot be cut: a write that failed halfway
//! is for good there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use tributary_sdk::{Context, Error, Result};

use crate::config::TornLine;
use crate::errors::{io_error, shown};

/// How far back from the end a line end has to be found: beyond that, the file is none that this sink wrote.
const MOST_TORN_BYTES: u64 = 64 << 20;
/// Bytes of a cut line that go to the log.
const LOGGED_BYTES: usize = 1024;
/// What a pipe that reports itself ready takes without blocking.
const PIPE_PIECE: usize = 4096;
const LOCK_WAIT: Duration = Duration::from_millis(5);
/// Tries for the lock before the write is put off.
const LOCK_TRIES: usize = 400;
/// How long to wait at a time for a pipe to take more.
const PIPE_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// An open file, pipe or device.
#[derive(Debug)]
pub(crate) struct OutputFile {
    file: File,
    /// `None`: standard output.
    path: Option<PathBuf>,
    name: String,
    /// It has positions and can be cut.
    regular: bool,
    /// A cut that failed: the length to go back to before anything else is written.
    uncut: Option<u64>,
}

impl OutputFile {
    /// Standard output, past the buffer of [`std::io::Stdout`].
    pub fn stdout() -> Result<Self> {
        let name = "standard output";
        let error = |error| io_error("cannot write to", name, &error);
        let file: File = io::stdout().as_fd().try_clone_to_owned().map_err(error)?.into();
        // Even when it leads to a regular file, others write to it as well: nothing is cut.
        Ok(Self { file, path: None, name: name.to_owned(), regular: false, uncut: None })
    }

    /// Opens or creates the file, and mends its last line.
    pub fn open(context: &Context, path: &Path, torn_line: TornLine) -> Result<Self> {
        let name = shown(path);
        let error = |error| io_error("cannot open or create", &name, &error);
        // Non-blocking, since opening a pipe would wait for its reader; on files it means nothing.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let open = |read| OpenOptions::new().read(read).append(true).create(true).custom_flags(flags).open(path);
        // Reading is for the mending only; a pipe must not be opened so, and some files may be written but not read.
        let is_file = std::fs::metadata(path).map_or(true, |metadata| metadata.is_file());
        let file = match open(is_file) {
            Err(denied) if is_file && denied.kind() == io::ErrorKind::PermissionDenied => open(false),
            opened => opened,
        }
        .map_err(error)?;
        let regular = file.metadata().map_err(error)?.is_file();
        let mut output = Self { file, path: Some(path.to_owned()), name, regular, uncut: None };
        if regular {
            let locked = output.lock(context)?;
            let mended = output.mend(context, torn_line);
            output.unlock(locked);
            mended?;
        }
        Ok(output)
    }

    /// Appends `bytes`, all or nothing.
    pub fn append(&mut self, context: &Context, bytes: &[u8]) -> Result<()> {
        if !self.regular {
            return self.pour(context, bytes);
        }
        let locked = self.lock(context)?;
        let written = self.append_locked(bytes);
        self.unlock(locked);
        written
    }

    /// Waits until everything written is on the disk.
    pub fn sync(&self) -> Result<()> {
        match self.file.sync_data() {
            // Pipes and some devices have nothing to sync.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                Err(io_error("cannot sync", &self.name, &error))
            }
            _ => Ok(()),
        }
    }

    /// Whether the path does not lead to this file any more: it was renamed or removed.
    pub fn is_gone(&self) -> bool {
        let Some(path) = self.path.as_deref().filter(|_| self.regular) else { return false };
        let Ok(open) = self.file.metadata() else { return false };
        match std::fs::metadata(path) {
            Ok(there) => (there.dev(), there.ino()) != (open.dev(), open.ino()),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn append_locked(&mut self, bytes: &[u8]) -> Result<()> {
        let length = match self.uncut {
            Some(length) => length,
            None => self.file.metadata().map_err(|error| io_error("cannot look at", &self.name, &error))?.len(),
        };
        if self.uncut.is_some() {
            self.cut(length)?;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return self.roll_back(length, bytes.len(), &io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.roll_back(length, bytes.len(), &error),
            }
        }
        Ok(())
    }

    /// Takes back what of a failed write got through, and says what happened.
    fn roll_back(&mut self, length: u64, wanted: usize, error: &io::Error) -> Result<()> {
        let free =
            free_space(&self.file).map_or(String::new(), |free| format!(" ({free} bytes are free on its file system)"));
        let mended = match self.cut(length) {
            Ok(()) => "nothing of the batch was kept",
            Err(_) => "what of the batch got through is cut off before the next write",
        };
        let failure = io_error(&format!("cannot write {wanted} bytes to"), &self.name, error);
        let message = format!("{failure}{free}; {mended}");
        Err(if failure.is_retriable() { Error::retriable(message) } else { Error::failed(message) })
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        self.uncut = Some(length);
        self.file.set_len(length).map_err(|error| {
            Error::retriable(format!("cannot cut a half-written batch off {} at position {length}: {error}", self.name))
        })?;
        self.uncut = None;
        Ok(())
    }

    /// Ends the file with a whole line.
    fn mend(&mut self, context: &Context, torn_line: TornLine) -> Result<()> {
        let failed = |name: &str, error: io::Error| io_error("cannot read the end of", name, &error);
        let length = self.file.metadata().map_err(|error| failed(&self.name, error))?.len();
        let torn = match torn_tail(&mut self.file, length) {
            Ok(torn) => torn,
            // Open for writing only.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => {
                context.warn(format!("{} may be written but not read: its last line is not checked", self.name));
                return Ok(());
            }
            Err(error) => return Err(failed(&self.name, error)),
        };
        let name = &self.name;
        match (torn, torn_line) {
            (Torn::Nothing, _) => Ok(()),
            (Torn::Endless, TornLine::Truncate) => Err(Error::failed(format!(
                "the last {MOST_TORN_BYTES} bytes of {name} have no line end: this sink did not write it; \
                 name another file, or set torn.line=terminate to append to this one"
            ))),
            (Torn::Line(bytes), TornLine::Truncate) => {
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(LOGGED_BYTES)]).into_owned();
                context.warn(format!(
                    "the last line of {name} has no end, as after a crash: taking its {} bytes away; its record comes again. \
                     They were: {shown:?}",
                    bytes.len()
                ));
                self.cut(length - bytes.len() as u64)
            }
            (Torn::Line(_) | Torn::Endless, TornLine::Terminate) => {
                context.warn(format!("the last line of {name} has no end: ending it"));
                self.append_locked(b"\n")
            }
        }
    }

    /// Writes to what cannot be cut, piece by piece as the other side takes it, so that a stopped task does not hang.
    fn pour(&mut self, context: &Context, bytes: &[u8]) -> Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let error = match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&PIPE_WAIT)) {
                _ if context.cancelled() => io::Error::new(io::ErrorKind::TimedOut, "the task was stopped"),
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Err(error) => error.into(),
                Ok(_) => match self.file.write(&bytes[written..bytes.len().min(written + PIPE_PIECE)]) {
                    Ok(count) => {
                        written += count;
                        continue;
                    }
                    Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                        continue;
                    }
                    Err(error) => error,
                },
            };
            let failure = io_error(&format!("cannot write {} bytes to", bytes.len()), &self.name, &error);
            if written == 0 {
                return Err(failure);
            }
            return Err(Error::failed(format!(
                "{failure}; {written} bytes had gone and cannot be taken back: after a restart the batch comes again"
            )));
        }
        Ok(())
    }

    /// Takes the file's lock; `false` on file systems that have none.
    fn lock(&self, context: &Context) -> Result<bool> {
        for _ in 0..LOCK_TRIES {
            match self.file.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::Error(_)) => return Ok(false),
                Err(TryLockError::WouldBlock) if context.wait(LOCK_WAIT) => break,
                Err(TryLockError::WouldBlock) => {}
            }
        }
        Err(Error::retriable(format!("{} is locked by another process: waiting for it to let go", self.name)))
    }

    fn unlock(&self, locked: bool) {
        if locked {
            // Cannot fail for a lock that is held; closing the file would release it anyway.
            let _ = self.file.unlock();
        }
    }
}

/// What follows the last line end.
enum Torn {
    Nothing,
    Line(Vec<u8>),
    /// More than any line.
    Endless,
}

fn torn_tail(file: &mut File, length: u64) -> io::Result<Torn> {
    let mut size = 4096;
    loop {
        let size_now = length.min(size);
        file.seek(SeekFrom::Start(length - size_now))?;
        let mut tail = Vec::with_capacity(size_now as usize);
        Read::by_ref(file).take(size_now).read_to_end(&mut tail)?;
        match memchr::memrchr(b'\n', &tail) {
            Some(at) if at + 1 == tail.len() => return Ok(Torn::Nothing),
            Some(at) => return Ok(Torn::Line(tail.split_off(at + 1))),
            None if size_now == length && length == 0 => return Ok(Torn::Nothing),
            None if size_now == length && length <= MOST_TORN_BYTES => return Ok(Torn::Line(tail)),
            None if size_now >= MOST_TORN_BYTES => return Ok(Torn::Endless),
            None => size *= 16,
        }
    }
}

fn free_space(file: &File) -> Option<u64> {
    let stats = rustix::fs::fstatvfs(file).ok()?;
    Some(stats.f_bavail * stats.f_frsize)
}
