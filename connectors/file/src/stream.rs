//! Input without positions: standard input, pipes and devices.
//!
//! Promises: bytes in order, and waiting that a stopped task ends at once. Nothing can be read twice, so no offsets are
//! given and what was read but not delivered when the worker dies is lost, as in Kafka Connect.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use tributary_sdk::Result;

use crate::errors::{io_error, shown};

/// An open stream.
#[derive(Debug)]
pub(crate) struct Stream {
    file: File,
    name: String,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The writing side is closed; in a named pipe, another writer may come.
    End,
}

impl Stream {
    /// Standard input, read past the buffer of [`std::io::Stdin`]: what that holds could not be waited for.
    pub fn stdin() -> Result<Self> {
        let name = "standard input";
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|error| io_error("cannot read", name, &error))?;
        Ok(Self { file: stdin.into(), name: name.to_owned() })
    }

    /// A named pipe or device.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = file.map_err(|error| io_error("cannot open", &shown(path), &error))?;
        Ok(Self { file, name: shown(path) })
    }

    /// Reads what is there, waiting for it at most `patience`.
    pub fn read(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Got> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
        let ready = match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => ready > 0,
            Err(rustix::io::Errno::INTR) => false,
            Err(error) => return Err(io_error("cannot wait for", &self.name, &error.into())),
        };
        if !ready {
            return Ok(Got::Nothing);
        }
        match self.file.read(buffer) {
            Ok(0) => Ok(Got::End),
            Ok(count) => Ok(Got::Bytes(count)),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Ok(Got::Nothing)
            }
            Err(error) => Err(io_error("cannot read", &self.name, &error)),
        }
    }
}
