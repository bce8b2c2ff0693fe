//! How far the records of a batch have come, kept while the batch is put again and again: what was answered is not sent twice.

use std::sync::Arc;
use std::time::Instant;

use tributary_sdk::{Batch, Failures, Offsets};

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    Open,
    Done,
    /// It is to blame itself, and why.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Progress {
    topic: Arc<str>,
    partition: Option<i32>,
    /// `None` where rows have no offsets: then no two batches are the same.
    offsets: Option<Vec<i64>>,
    pub marks: Vec<Mark>,
    /// When a record first met an error that may pass.
    pub since: Vec<Option<Instant>>,
    /// The server wants to be left alone until then.
    pub not_before: Option<Instant>,
}

impl Progress {
    /// Nothing yet.
    pub fn of(batch: &Batch) -> Self {
        Self {
            topic: batch.topic.clone(),
            partition: batch.partition,
            offsets: offsets(batch),
            marks: vec![Mark::Open; batch.len()],
            since: vec![None; batch.len()],
            not_before: None,
        }
    }

    /// Whether this is about the same records.
    pub fn is_of(&self, batch: &Batch) -> bool {
        self.offsets.is_some()
            && (&self.topic, self.partition, &self.offsets) == (&batch.topic, batch.partition, &offsets(batch))
    }

    /// Tells of the records that failed.
    pub fn report(self, failures: &mut Failures) {
        for (row, mark) in self.marks.into_iter().enumerate() {
            if let Mark::Failed(why) = mark {
                failures.fail(row, why);
            }
        }
    }
}

fn offsets(batch: &Batch) -> Option<Vec<i64>> {
    match &batch.offsets {
        Offsets::Sink(offsets) => Some(offsets.values().to_vec()),
        _ => None,
    }
}
