//! What this worker reports, and whether the status topic still says so.
//!
//! A worker that stood still may send what it had queued before, after another one has taken over; nothing fences it. Whoever
//! reads the topic would believe it for as long as the task runs, so the one that was overwritten reports again.

use std::collections::BTreeSet;

use super::status_records::StatusKey;
use crate::storage::StatusRecord;

/// See the module.
#[derive(Default)]
pub(super) struct OwnStatuses {
    worker_id: String,
    generation: i32,
    /// Of these the topic's newest record is what this worker reported last.
    read: BTreeSet<StatusKey>,
    overwritten: Vec<(StatusKey, StatusRecord)>,
}

impl OwnStatuses {
    /// This worker is about to write a status.
    pub(super) fn reported(&mut self, key: &StatusKey, status: &StatusRecord) {
        self.worker_id.clone_from(&status.worker_id);
        self.generation = status.generation;
        self.read.remove(key);
    }

    /// A tombstone was read.
    pub(super) fn removed(&mut self, key: &StatusKey) {
        self.read.remove(key);
    }

    /// Whether a status that was read hides this worker's, which is newer: then it is noted, to be written again.
    pub(super) fn overwritten_by(
        &mut self,
        key: &StatusKey,
        known: Option<&StatusRecord>,
        read: &StatusRecord,
    ) -> bool {
        let was_read = self.read.remove(key);
        let is_own = |known: &&StatusRecord| known.worker_id == self.worker_id && known.generation == self.generation;
        let Some(known) = known.filter(is_own) else { return false };
        if known == read {
            self.read.insert(key.clone());
        }
        let overwritten = was_read && read.worker_id != known.worker_id && read.generation < known.generation;
        if overwritten {
            self.overwritten.push((key.clone(), known.clone()));
        }
        overwritten
    }

    /// What is to be written again.
    pub(super) fn take_overwritten(&mut self) -> Vec<(StatusKey, StatusRecord)> {
        std::mem::take(&mut self.overwritten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{State, TaskId};

    fn key() -> StatusKey {
        StatusKey::Task(TaskId { connector: "c".to_owned(), task: 0 })
    }

    fn status(worker: &str, generation: i32) -> StatusRecord {
        let worker_id = worker.to_owned();
        StatusRecord { state: State::Running, trace: None, worker_id, generation, version: None }
    }

    /// Which reports of worker `me`, in generation 9, are overwritten by these records.
    fn overwritten(records: &[StatusRecord]) -> Vec<bool> {
        let mut own = OwnStatuses::default();
        let mine = status("me", 9);
        own.reported(&key(), &mine);
        let answers = records.iter().map(|read| own.overwritten_by(&key(), Some(&mine), read)).collect();
        let noted = own.take_overwritten();
        assert!(noted.iter().all(|(_, status)| *status == mine), "{noted:?}");
        answers
    }

    #[test]
    fn what_came_before_this_workers_report_is_none_of_its_business() {
        assert_eq!(overwritten(&[status("other", 6), status("me", 9)]), [false, false]);
    }

    #[test]
    fn an_older_status_behind_this_workers_is_answered_once() {
        let records = [status("me", 9), status("other", 6), status("other", 6), status("me", 9), status("other", 6)];
        assert_eq!(overwritten(&records), [false, true, false, false, true]);
    }

    #[test]
    fn a_newer_owner_is_right() {
        assert_eq!(overwritten(&[status("me", 9), status("other", 10), status("other", 6)]), [false, false, false]);
    }

    #[test]
    fn reports_of_an_earlier_generation_of_this_worker_are_not_defended() {
        let mut own = OwnStatuses::default();
        let mine = status("me", 9);
        own.reported(&key(), &mine);
        assert!(!own.overwritten_by(&key(), Some(&mine), &mine));
        own.reported(&StatusKey::Connector("d".to_owned()), &status("me", 1));
        assert!(!own.overwritten_by(&key(), Some(&mine), &status("other", 2)), "the group began anew");
    }
}
