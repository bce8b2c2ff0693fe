//! The folder: a file for each transaction, which is renamed from `prepared` to `committed`, or to `aborted`.
//!
//! What must not happen (a commit of what was aborted, an abort of what was committed, a token that comes twice) is written down in `wrong`, for
//! the test to find: the worker would not notice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tributary_sdk::{Error, Result};

const PREPARED: &str = "prepared";
const COMMITTED: &str = "committed";
const ABORTED: &str = "aborted";
const WRONG: &str = "wrong";

/// An open folder.
pub struct Store(PathBuf);

fn failed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::failed(format!("{what}: {error}"))
}

/// A token as a file's name.
fn escaped(token: &str) -> String {
    token.replace('%', "%25").replace('/', "%2F")
}

fn unescaped(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}

impl Store {
    /// Opens a folder, and makes what it needs.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        for part in [PREPARED, COMMITTED, ABORTED] {
            fs::create_dir_all(folder.join(part)).map_err(failed("making the store"))?;
        }
        Ok(Self(folder))
    }

    /// Fails while the store is away.
    pub fn reach(&self) -> Result<()> {
        if self.0.join("away").exists() { Err(Error::retriable("the store is away")) } else { Ok(()) }
    }

    /// Makes lines durable under a token, and not visible.
    pub fn prepare(&self, token: &str, lines: &[String]) -> Result<()> {
        let failed = failed("preparing");
        let name = escaped(token);
        if [PREPARED, COMMITTED, ABORTED].iter().any(|part| self.0.join(part).join(&name).exists()) {
            self.wrong(&format!("the token {token} comes twice"))?;
        }
        // Two tasks never write the same one.
        let unfinished = self.0.join(format!("unfinished-{name}"));
        let mut file = File::create(&unfinished).map_err(&failed)?;
        file.write_all((lines.join("\n") + "\n").as_bytes()).map_err(&failed)?;
        file.sync_all().map_err(&failed)?;
        fs::rename(&unfinished, self.0.join(PREPARED).join(&name)).map_err(&failed)?;
        self.sync(PREPARED)
    }

    /// Makes visible what is prepared; fine where it is already.
    pub fn commit(&self, token: &str) -> Result<()> {
        self.reach()?;
        if !self.moves(token, COMMITTED)? && !self.0.join(COMMITTED).join(escaped(token)).exists() {
            self.wrong(&format!("the token {token} was to be committed, and is lost"))?;
        }
        Ok(())
    }

    /// Drops what is prepared; fine where it is not there.
    pub fn abort(&self, token: &str) -> Result<()> {
        self.reach()?;
        if !self.moves(token, ABORTED)? && self.0.join(COMMITTED).join(escaped(token)).exists() {
            self.wrong(&format!("the token {token} was to be aborted, and is committed"))?;
        }
        Ok(())
    }

    /// Tokens of what is prepared.
    pub fn prepared(&self) -> Result<Vec<String>> {
        self.reach()?;
        let names = fs::read_dir(self.0.join(PREPARED)).map_err(failed("listing what is prepared"))?;
        Ok(names.flatten().map(|entry| unescaped(&entry.file_name().to_string_lossy())).collect())
    }

    /// All lines that are visible, each as often as it is there.
    pub fn lines(&self) -> Result<Vec<String>> {
        let failed = failed("reading lines");
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.0.join(COMMITTED)).map_err(&failed)? {
            let text = fs::read_to_string(entry.map_err(&failed)?.path()).map_err(&failed)?;
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(lines)
    }

    /// How many transactions were aborted.
    pub fn aborted(&self) -> usize {
        fs::read_dir(self.0.join(ABORTED)).map_or(0, Iterator::count)
    }

    /// What must not happen, and did.
    pub fn wrongs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(WRONG)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Whether it was prepared; by now it is in that part.
    fn moves(&self, token: &str, part: &str) -> Result<bool> {
        let name = escaped(token);
        match fs::rename(self.0.join(PREPARED).join(&name), self.0.join(part).join(&name)) {
            Ok(()) => {
                self.sync(part)?;
                self.sync(PREPARED)?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("moving a transaction")(error)),
        }
    }

    fn sync(&self, part: &str) -> Result<()> {
        File::open(self.0.join(part)).and_then(|folder| folder.sync_all()).map_err(failed("syncing the store"))
    }

    fn wrong(&self, what: &str) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(self.0.join(WRONG));
        file.and_then(|mut file| writeln!(file, "{what}")).map_err(failed("writing down what is wrong"))
    }
}
