//! What this worker reports, and whether the status topic still says so.
//!
//! A worker that stood still may send what it had queued before, after another one has taken over; nothing fences it. Whoever
//! reads the topic would believe it for as long as the task runs, so the one that was overwritten reports again.

use std::collections::BTreeMap;

use super::status_records::StatusKey;
use crate::storage::StatusRecord;

/// See the module.
#[derive(Default)]
pub(super) struct OwnStatuses {
    /// Of the last report of this worker.
    generation: i32,
    reports: BTreeMap<StatusKey, OwnReport>,
    /// To be written again.
    overwritten: Vec<StatusKey>,
}

struct OwnReport {
    status: StatusRecord,
    /// Whether the topic's newest record says so.
    read: bool,
}

impl OwnStatuses {
    /// This worker is about to write a status.
    pub(super) fn reported(&mut self, key: &StatusKey, status: &StatusRecord) {
        self.generation = status.generation;
        self.overwritten.retain(|overwritten| overwritten != key);
        self.reports.insert(key.clone(), OwnReport { status: status.clone(), read: false });
    }

    /// There is no such connector or task any more.
    pub(super) fn removed(&mut self, key: &StatusKey) {
        self.reports.remove(key);
    }

    /// Whether a status that was read hides this worker's, which is newer: then it is noted, to be written again.
    pub(super) fn overwritten_by(&mut self, key: &StatusKey, read: &StatusRecord) -> bool {
        let Some(own) = self.reports.get_mut(key) else { return false };
        if read.worker_id == own.status.worker_id {
            own.read = *read == own.status;
            return false;
        }
        // A group that began anew counts its generations anew.
        if read.generation >= own.status.generation || own.status.generation > self.generation {
            self.reports.remove(key);
            return false;
        }
        let overwritten = std::mem::take(&mut own.read);
        if overwritten {
            self.overwritten.push(key.clone());
        }
        overwritten
    }

    /// What is to be written again.
    pub(super) fn take_overwritten(&mut self) -> Vec<StatusKey> {
        std::mem::take(&mut self.overwritten)
    }

    /// What this worker says of a connector or task by now.
    pub(super) fn report(&self, key: &StatusKey) -> Option<StatusRecord> {
        Some(self.reports.get(key)?.status.clone())
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
        own.reported(&key(), &status("me", 9));
        own.reported(&StatusKey::Connector("moved".to_owned()), &status("me", 12));
        let answers: Vec<bool> = records.iter().map(|read| own.overwritten_by(&key(), read)).collect();
        assert_eq!(own.take_overwritten().len(), answers.iter().filter(|answer| **answer).count());
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
    fn only_the_last_of_several_reports_is_defended() {
        let mut own = OwnStatuses::default();
        let restarting = StatusRecord { state: State::Restarting, ..status("me", 9) };
        own.reported(&key(), &restarting);
        own.reported(&key(), &status("me", 9));
        let read = [restarting, status("me", 9), status("other", 6)].map(|read| own.overwritten_by(&key(), &read));
        assert_eq!(read, [false, false, true]);
        assert_eq!(own.report(&key()), Some(status("me", 9)));
        own.reported(&key(), &StatusRecord { state: State::Failed, ..status("me", 9) });
        assert!(own.take_overwritten().is_empty(), "what is written now hides the other one by itself");
    }

    #[test]
    fn reports_from_before_the_group_began_anew_are_not_defended() {
        let mut own = OwnStatuses::default();
        own.reported(&key(), &status("me", 9));
        assert!(!own.overwritten_by(&key(), &status("me", 9)));
        own.reported(&StatusKey::Connector("d".to_owned()), &status("me", 1));
        assert!(!own.overwritten_by(&key(), &status("other", 2)));
    }

    #[test]
    fn what_was_removed_is_not_written_again() {
        let mut own = OwnStatuses::default();
        own.reported(&key(), &status("me", 9));
        assert!(!own.overwritten_by(&key(), &status("me", 9)));
        assert!(own.overwritten_by(&key(), &status("other", 6)));
        own.removed(&key());
        assert_eq!(own.report(&key()), None);
    }
}
