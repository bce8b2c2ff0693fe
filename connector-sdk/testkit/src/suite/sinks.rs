//! What the suites of sinks share.

use tributary_sdk::{Batch, Config};

use super::sink::SinkSubject;
use crate::services::TestServices;
use crate::sink_run::SinkRun;

/// A task that is started.
pub fn start<S: SinkSubject>(config: &Config) -> SinkRun<S::Connector> {
    SinkRun::start_in(TestServices::new(), config).unwrap_or_else(|error| panic!("the task does not start: {error}"))
}

/// Puts a batch of good records.
pub fn put<S: SinkSubject>(run: &mut SinkRun<S::Connector>, batch: Batch) {
    let failures = run.put(batch).unwrap_or_else(|error| panic!("put failed: {error}"));
    assert!(failures.is_empty(), "good records were refused: {failures:?}");
}

/// Checks that these records are stored, each once, and nothing else is.
pub fn each_once<S: SinkSubject>(subject: &mut S, records: std::ops::Range<usize>) {
    let mut expected: Vec<String> = records.map(|record| subject.record(record)).collect();
    let mut stored = subject.stored();
    expected.sort();
    stored.sort();
    assert_eq!(stored, expected);
}
