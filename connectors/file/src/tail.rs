//! A file followed by its path: through growth, truncation and rotation.
//!
//! Promises: bytes come in order and from one file until that file is finished; a file that is not there is waited for.
//! Told apart at its end, by looking at the open file and at the path:
//! - *grown*: there is more to read;
//! - *truncated*: the open file is shorter than what was read of it (`copytruncate`, `> file`);
//! - *replaced*: the path leads to another file (`rename` and create). Files that take the path one after the other are
//!   queued in that order, so that each of them is read to its end.
//!
//! Fails: a directory or a missing permission for good, what may pass (too many open files, a network file system that is
//! away) retriably. Cannot be seen: a file truncated and grown past the old position between two looks.

use std::collections::VecDeque;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tributary_sdk::Result;

use crate::errors::{io_error, shown};

/// Files queued behind the one being read: each holds a descriptor. More rotations than this at once is a runaway.
const MOST_SUCCESSORS: usize = 64;

/// A path and the file behind it that is being read.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    current: Option<Opened>,
    successors: VecDeque<Opened>,
}

/// An open file and what tells it from others.
#[derive(Debug)]
struct Opened {
    file: File,
    id: FileId,
}

/// Device and inode: the same as long as the file is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// What became of the file, looked at when it has been read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing, or it has grown.
    None,
    /// It is shorter than what was read: its length now.
    Truncated(u64),
    /// Another file has taken the path.
    Replaced,
}

/// What [`Tail::open`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A regular file, open now; its length.
    File(u64),
    /// A pipe or a device, which has no positions: read it as a stream.
    Stream,
    /// Nothing there.
    Missing,
}

impl Tail {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), current: None, successors: VecDeque::new() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Opens what the path leads to, and stands at its start.
    pub fn open(&mut self) -> Result<Found> {
        let Some(opened) = self.open_path(&self.path)? else { return Ok(Found::Missing) };
        let metadata = self.metadata(&opened)?;
        if is_stream(&metadata) {
            return Ok(Found::Stream);
        }
        self.current = Some(opened);
        Ok(Found::File(metadata.len()))
    }

    /// Lets go of all files.
    pub fn close(&mut self) {
        self.current = None;
        self.successors.clear();
    }

    /// The identity of the file being read, as offsets name it: inode and time of birth, since inodes are used again.
    pub fn identity(&self) -> Option<String> {
        let metadata = self.current.as_ref()?.file.metadata().ok()?;
        Some(identity(&metadata))
    }

    /// Opens the file of that identity instead, wherever it is in the directory now. Whether it was found.
    pub fn open_identity(&mut self, wanted: &str) -> Result<bool> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let Ok(entries) = std::fs::read_dir(directory) else { return Ok(false) };
        for path in entries.flatten().map(|entry| entry.path()) {
            let same = |metadata: &Metadata| metadata.is_file() && identity(metadata) == wanted;
            if !std::fs::metadata(&path).is_ok_and(|metadata| same(&metadata)) {
                continue;
            }
            let Some(opened) = self.open_path(&path)? else { continue };
            // Between the look and the opening, the name may have gone to another file.
            if opened.file.metadata().is_ok_and(|metadata| same(&metadata)) {
                self.successors.extend(self.current.replace(opened));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes on reading from `position`.
    pub fn seek(&mut self, position: u64) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        match current.file.seek(SeekFrom::Start(position)) {
            Ok(_) => Ok(()),
            Err(error) => Err(io_error(&format!("cannot go to position {position} of"), &shown(&self.path), &error)),
        }
    }

    /// Reads the next bytes; 0 at the end of what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(current) = &mut self.current else { return Ok(0) };
        loop {
            match current.file.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("cannot read", &shown(&self.path), &error)),
            }
        }
    }

    /// Bytes of the current file behind `position`.
    pub fn behind(&self, position: u64) -> u64 {
        let length = self.current.as_ref().and_then(|current| current.file.metadata().ok()).map_or(0, |m| m.len());
        length.saturating_sub(position)
    }

    /// What became of the file, of which `position` bytes have been read. Cheap: two calls of the system.
    pub fn change(&mut self, position: u64) -> Result<Change> {
        let Some(current) = &self.current else { return Ok(Change::None) };
        let length = self.metadata(current)?.len();
        if length < position {
            return Ok(Change::Truncated(length));
        }
        self.look_at_path()?;
        Ok(if self.successors.is_empty() { Change::None } else { Change::Replaced })
    }

    /// Queues what the path leads to if that is another file than the last one seen there.
    pub fn look_at_path(&mut self) -> Result<()> {
        let Some(last) = self.successors.back().or(self.current.as_ref()) else { return Ok(()) };
        // Renamed and not created anew: the old file goes on.
        let Ok(metadata) = std::fs::metadata(&self.path) else { return Ok(()) };
        if FileId::of(&metadata) == last.id || self.successors.len() == MOST_SUCCESSORS {
            return Ok(());
        }
        if let Some(opened) = self.open_path(&self.path)?
            && opened.id != last.id
        {
            self.successors.push_back(opened);
        }
        Ok(())
    }

    /// Leaves the finished file for the next in line, at its start.
    pub fn advance(&mut self) {
        self.current = self.successors.pop_front();
    }

    fn open_path(&self, path: &Path) -> Result<Option<Opened>> {
        // Non-blocking, since opening a pipe would wait for its writer; on files it means nothing.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("cannot open", &shown(path), &error)),
        };
        let metadata = file.metadata().map_err(|error| io_error("cannot look at", &shown(path), &error))?;
        if metadata.is_dir() {
            let error = io::Error::from_raw_os_error(rustix::io::Errno::ISDIR.raw_os_error());
            return Err(io_error("cannot read", &shown(path), &error));
        }
        Ok(Some(Opened { id: FileId::of(&metadata), file }))
    }

    fn metadata(&self, opened: &Opened) -> Result<Metadata> {
        opened.file.metadata().map_err(|error| io_error("cannot look at", &shown(&self.path), &error))
    }
}

fn identity(metadata: &Metadata) -> String {
    let born = metadata.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{}-{}", metadata.ino(), born.map_or(0, |time| time.as_millis()))
}

fn is_stream(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_char_device() || kind.is_socket()
}
