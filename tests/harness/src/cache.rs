//! The directory of things that are made once a machine: jars, the broker's image.
//!
//! An entry is either absent or complete: it is made under another name beside its place and renamed
//! there. Several processes may want the same entry at once; a file lock lets one of them make it
//! while the others wait, and the kernel drops the lock of a process that dies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{Context, Result};

/// `$TRIBUTARY_CACHE`, else `$XDG_CACHE_HOME/tributary`, else `~/.cache/tributary`; created if missing.
pub fn dir() -> Result<PathBuf> {
    let dir = root(|name| std::env::var_os(name).map(PathBuf::from))
        .context("no place for the cache: set TRIBUTARY_CACHE or HOME")?;
    fs::create_dir_all(&dir).context(format_args!("cannot create the cache {}", dir.display()))?;
    Ok(dir)
}

fn root(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    var("TRIBUTARY_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("tributary")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache/tributary")))
}

/// The directory `entry` of the cache, filled by `make` if it is not there yet.
///
/// `make` gets an empty directory; what it leaves there becomes the entry if it returns `Ok`.
pub fn entry(entry: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = dir()?;
    let place = cache.join(entry);
    if place.is_dir() {
        return Ok(place);
    }
    let _lock = lock(&cache, entry)?;
    if place.is_dir() {
        return Ok(place);
    }
    let draft = tempfile::Builder::new().prefix(&format!(".{entry}-")).tempdir_in(&cache)?;
    make(draft.path())?;
    fs::rename(draft.path(), &place).context(format_args!("cannot put {} in place", place.display()))?;
    Ok(place)
}

/// Waits until this process alone works on `name`; the lock lasts as long as the file is open.
pub fn lock(cache: &Path, name: &str) -> Result<File> {
    let path = cache.join(format!(".{name}.lock"));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .context(format_args!("cannot open {}", path.display()))?;
    file.lock().context(format_args!("cannot lock {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_place_wins() {
        let set = |name: &str| match name {
            "TRIBUTARY_CACHE" => Some(PathBuf::from("/here")),
            _ => Some(PathBuf::from("/elsewhere")),
        };
        assert_eq!(root(set), Some(PathBuf::from("/here")));
        assert_eq!(
            root(|name| (name == "HOME").then(|| PathBuf::from("/h"))),
            Some(PathBuf::from("/h/.cache/tributary"))
        );
        assert_eq!(root(|_| None), None);
    }
}
