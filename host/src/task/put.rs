//! Putting a batch, as often as it takes.

use std::time::Instant;

use tributary_sdk::sink::{Failures, RecordFailure};
use tributary_sdk::{Batch, Error};

use super::backoff::Backoff;
use super::control::TaskControl;
use super::error_policy::ErrorHandler;
use super::errors::TaskError;
use crate::plugin::SinkTaskHandle;

/// Why a batch was not put.
pub enum NotPut {
    /// What the connector answered to the call.
    Call(Error),
    /// What `dispose` said.
    Record(TaskError),
}

/// Puts a batch until each record is accepted, or refused for good: those are given to `dispose`, with the batch that their rows
/// are of. Answers `false` when the task has to stop instead, as `dispose` does.
pub fn put(
    handle: &mut dyn SinkTaskHandle,
    control: &TaskControl,
    errors: &ErrorHandler,
    mut batch: Batch,
    dispose: &mut dyn FnMut(&Batch, Vec<RecordFailure>) -> Result<bool, TaskError>,
) -> Result<bool, NotPut> {
    let mut backoff = Backoff::default();
    let mut retries = None;
    let counters = &control.counters;
    loop {
        if !control.wait_for_lease() {
            return Ok(false);
        }
        let mut failures = Failures::default();
        let begun = Instant::now();
        let put = handle.put(batch.clone(), &mut failures);
        counters.meters.called(begun.elapsed());
        match put {
            Ok(()) => {}
            Err(Error::Retriable(message)) => {
                counters.errors.attempt_failed(1);
                counters.set_retrying(Some(&message));
                tracing::warn!("put will be tried again in {:?}: {message}", backoff.next());
                if control.wait(backoff.advance()) {
                    return Ok(false);
                }
                counters.errors.retried();
                continue;
            }
            Err(error) => return Err(NotPut::Call(error)),
        }
        counters.set_retrying(None);
        if failures.is_empty() {
            counters.went_out(batch.len());
            return Ok(true);
        }
        // A row may be named more than once; what it was refused for at last counts.
        let mut failed = failures.into_records();
        failed.retain(|failure| failure.row < batch.len());
        failed.sort_by_key(|failure| failure.row);
        failed.dedup_by_key(|failure| failure.row);
        counters.went_out(batch.len() - failed.len());
        let (mut again, mut lost): (Vec<_>, Vec<_>) = failed.into_iter().partition(|failure| failure.retriable);
        if let Some(first) = again.first() {
            let retries = retries.get_or_insert_with(|| errors.policy.retries());
            let what = format!("put of {} records", again.len());
            if !errors.pause(retries, &what, &first.message) {
                if control.stopping() {
                    return Ok(false);
                }
                lost.append(&mut again);
            }
        }
        if !dispose(&batch, lost).map_err(NotPut::Record)? {
            return Ok(false);
        }
        if again.is_empty() {
            counters.set_retrying(None);
            return Ok(true);
        }
        let rows = again.iter().map(|failure| failure.row).collect::<Vec<_>>();
        batch = super::rows::take(&batch, &rows).map_err(|error| NotPut::Record(TaskError::new(error.to_string())))?;
    }
}
