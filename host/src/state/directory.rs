//! Where the files are.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Holders, Shard, StateError};

/// The state files of a worker, and who has them open. Clones are the same.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    root: PathBuf,
    holders: Arc<Holders>,
}

impl StateDirectory {
    /// `<data.dir>/state`.
    pub fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.join("state"), holders: Arc::default() }
    }

    /// Who has which files open.
    pub fn holders(&self) -> &Arc<Holders> {
        &self.holders
    }

    /// The folder of a connector.
    pub fn connector(&self, connector: &str) -> PathBuf {
        self.root.join(file_name(connector))
    }

    pub(super) fn shard(&self, connector: &str, shard: Shard) -> Result<PathBuf, StateError> {
        let folder = self.connector(connector);
        std::fs::create_dir_all(&folder).map_err(|error| {
            StateError::new(format!(
                "cannot make the folder {}: {error}; state needs data.dir to be writable",
                folder.display()
            ))
        })?;
        Ok(folder.join(format!("{shard}.db")))
    }

    /// Makes the connector's files those of one changelog topic: if they are of another one, which had the same name, they are
    /// deleted. Called before a task opens its first shard; tasks of a connector may call at the same time.
    pub fn claim(&self, connector: &str, topic_id: &str) -> Result<(), StateError> {
        self.claim_as(connector, topic_id, false).map(drop)
    }

    /// The same for a follower, which deletes nothing while a task has the connector's state. The number tells later whether the files
    /// were deleted since.
    pub fn claim_to_follow(&self, connector: &str, topic_id: &str) -> Result<u64, StateError> {
        self.claim_as(connector, topic_id, true)
    }

    fn claim_as(&self, connector: &str, topic_id: &str, follows: bool) -> Result<u64, StateError> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if follows && self.holders.is_purging(connector) {
            return Err(StateError::retriable(format!("the state of connector {connector} is being deleted")));
        }
        let folder = self.connector(connector);
        let file = folder.join("topic");
        let known = std::fs::read_to_string(&file).ok();
        if known.as_deref() == Some(topic_id) {
            return Ok(self.holders.epoch(connector));
        }
        // Files without it are what an interrupted purge has left.
        let files = || std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
        if known.is_some() || files() {
            if follows && self.holders.has_task(connector) {
                return Err(StateError::retriable(format!(
                    "the changelog of connector {connector} is not the one that its task on this worker has"
                )));
            }
            tracing::info!(connector, "the saved state belongs to a changelog topic that is no more, and is deleted");
            self.purge(connector)?;
        }
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, topic_id));
        written.map_err(|error| StateError::new(format!("cannot write {}: {error}", file.display())))?;
        Ok(self.holders.epoch(connector))
    }

    /// Deletes all state of a connector on this worker. Its tasks have to be stopped; a follower closes its files.
    pub fn purge(&self, connector: &str) -> Result<(), StateError> {
        let _closed = self.holders.purge(connector);
        let folder = self.connector(connector);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StateError::retriable(format!("cannot delete the state in {}: {error}", folder.display())))
            }
            _ => Ok(()),
        }
    }
}

/// Any text as a file name: letters, digits, `-` and `_` as they are, the rest in percent notation, so that two names stay two. The
/// dot is escaped, too: neither `..` nor a name that ends in `.db` means something else.
fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte as char),
            // Capitals are escaped as well: some file systems do not tell them apart.
            _ => _ = write!(name, "%{byte:02x}"),
        }
    }
    // The longest name that file systems take.
    if name.len() > 200 {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(text.as_bytes());
        name.truncate(100);
        digest.iter().take(16).for_each(|byte| _ = write!(name, "{byte:02x}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_connectors_are_file_names_and_stay_apart() {
        assert_eq!(file_name("orders-1_x"), "orders-1_x");
        assert_eq!(file_name("../a B"), "%2e%2e%2fa%20%42");
        assert_ne!(file_name(&"ä".repeat(255)), file_name(&"ä".repeat(254)));
        assert!(file_name(&"ä".repeat(255)).len() <= 200);
    }

    #[test]
    fn files_of_another_topic_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path());
        state.claim("a", "one").unwrap();
        let file = state.shard("a", 1).unwrap();
        std::fs::write(&file, "x").unwrap();
        state.claim("a", "one").unwrap();
        assert!(file.exists());
        state.claim("a", "two").unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_follower_deletes_nothing_that_a_task_has_and_learns_of_what_others_delete() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path());
        state.claim("a", "one").unwrap();
        let file = state.shard("a", 1).unwrap();
        std::fs::write(&file, "x").unwrap();
        let before = state.claim_to_follow("a", "one").unwrap();
        let task = state.holders().task("a");
        let refused = state.claim_to_follow("a", "two").unwrap_err();
        assert!(refused.retriable && file.exists(), "{refused}");
        drop(task);
        let after = state.claim_to_follow("a", "two").unwrap();
        assert!(!file.exists() && after > before);
        let mut follower = state.holders().follower("a");
        assert!(!follower.open(1, before) && follower.open(1, after));
        drop(follower);
        let purging = state.holders().purge("a");
        assert!(state.claim_to_follow("a", "two").unwrap_err().retriable);
        drop(purging);
        assert!(state.claim_to_follow("a", "two").unwrap() > after);
    }

    #[test]
    fn files_of_no_known_topic_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path());
        // A purge was interrupted after it had deleted the topic's identity.
        let file = state.shard("a", 1).unwrap();
        std::fs::write(&file, "x").unwrap();
        state.claim("a", "two").unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn what_is_not_there_is_purged_already() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path());
        state.purge("a").unwrap();
        std::fs::write(state.shard("a", 1).unwrap(), "x").unwrap();
        state.purge("a").unwrap();
        assert!(!state.connector("a").exists());
    }
}
