//! The lock on the data directory. The operating system releases it when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::storage::{StorageError, StorageErrorKind};

/// Held as long as the store is open.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Locks `directory` for this process, or says which process has it.
    pub fn take(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join("worker.lock");
        let failed = |error: std::io::Error| {
            StorageError::new(
                StorageErrorKind::Unwritable,
                format!(
                    "cannot lock the data directory with {}: {error}; make it writable or set another data.dir",
                    path.display()
                ),
            )
        };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let owner = match file.read_to_string(&mut pid) {
                    Ok(_) if !pid.trim().is_empty() => format!("the worker with pid {}", pid.trim()),
                    _ => "another worker".to_owned(),
                };
                return Err(StorageError::new(
                    StorageErrorKind::InUse,
                    format!(
                        "the data directory {} is in use by {owner}; stop it, or set another data.dir",
                        directory.display()
                    ),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
