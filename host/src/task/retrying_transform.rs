//! A plugin's transform whose failures may pass: applied again with Kafka Connect's back-off (`errors.retry.*`).
//!
//! The batch is applied as a whole again, so that the order of what is emitted stays; what an attempt emitted before it failed
//! is dropped. When the time is up, the records that still fail are named as failed.

use tributary_sdk::sink::Failures;
use tributary_sdk::{Batch, Config, Error, Result};

use super::error_policy::ErrorHandler;
use crate::plugin::TransformHandle;

/// Wraps the transform of one task.
pub struct RetryingTransform {
    /// The plugin's.
    pub inner: Box<dyn TransformHandle>,
    /// Its class, for status and logs.
    pub class: String,
    /// How to retry.
    pub errors: ErrorHandler,
}

impl TransformHandle for RetryingTransform {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.inner.configure(config)
    }

    fn apply(&mut self, batch: Batch, batches: &mut Vec<Batch>, failures: &mut Failures) -> Result<()> {
        let rows = batch.len();
        let emitted_before = batches.len();
        let mut retries = None;
        let what = format!("transform {}", self.class);
        loop {
            let mut failed = Failures::default();
            let applied = self.inner.apply(batch.clone(), batches, &mut failed);
            let why = match &applied {
                Err(Error::Retriable(message)) => Some(message.clone()),
                Err(_) => return applied,
                Ok(()) => failed.records().iter().find(|failure| failure.retriable).map(|first| first.message.clone()),
            };
            let done = why.is_none();
            if let Some(why) = why
                && self.errors.pause(retries.get_or_insert_with(|| self.errors.policy.retries()), &what, &why)
            {
                batches.truncate(emitted_before);
                continue;
            }
            if retries.is_some() {
                self.errors.control.counters.set_retrying(None);
            }
            if !done && self.errors.control.stopping() {
                return Err(Error::retriable("the task stops while a transform is tried again"));
            }
            match applied {
                Err(error) => {
                    batches.truncate(emitted_before);
                    (0..rows).for_each(|row| failures.retry(row, error.to_string()));
                }
                Ok(()) => *failures = failed,
            }
            return Ok(());
        }
    }

    fn on_watermark(&mut self, watermark_ms: i64, batches: &mut Vec<Batch>) -> Result<()> {
        self.inner.on_watermark(watermark_ms, batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::control::TaskControl;
    use crate::task::error_policy::ErrorPolicy;
    use arrow_array::StringArray;
    use std::sync::Arc;
    use tributary_sdk::Column;

    /// Fails as a whole, then emits half a batch and fails the rest, then works.
    struct Moody(u32);

    impl TransformHandle for Moody {
        fn configure(&mut self, _: &Config) -> Result<()> {
            Ok(())
        }
        fn apply(&mut self, batch: Batch, batches: &mut Vec<Batch>, failures: &mut Failures) -> Result<()> {
            self.0 += 1;
            batches.push(batch.slice(0, 1));
            match self.0 {
                1 => return Err(Error::retriable("lookup timed out")),
                2 => failures.retry(1, "busy"),
                _ => batches.push(batch.slice(1, 1)),
            }
            Ok(())
        }
        fn on_watermark(&mut self, _: i64, _: &mut Vec<Batch>) -> Result<()> {
            Ok(())
        }
    }

    fn apply(retry_timeout_ms: i64) -> (Vec<Batch>, Failures, Arc<TaskControl>) {
        let policy = ErrorPolicy { retry_timeout_ms, retry_delay_max_ms: 1, ..ErrorPolicy::default() };
        let control = Arc::new(TaskControl::default());
        let errors = ErrorHandler { policy, task: "c-0".into(), control: control.clone() };
        let mut transform = RetryingTransform { inner: Box::new(Moody(0)), class: "Moody".into(), errors };
        let (mut batches, mut failures) = (Vec::new(), Failures::default());
        let batch = Batch::new("t", Column::text(StringArray::from(vec!["a", "b"])));
        transform.apply(batch, &mut batches, &mut failures).unwrap();
        (batches, failures, control)
    }

    #[test]
    fn a_transform_that_may_succeed_later_is_applied_again_and_emits_once() {
        let (batches, failures, control) = apply(-1);
        assert_eq!((batches.len(), failures.is_empty()), (2, true));
        let totals = control.counters.errors.totals();
        assert_eq!((totals.record_failures, totals.retries), (2, 2));
        assert!(control.counters.progress().retrying.is_none());
    }

    #[test]
    fn when_the_time_is_up_its_records_have_failed() {
        let (batches, failures, _) = apply(0);
        assert!(batches.is_empty());
        assert_eq!(failures.records().iter().map(|failure| failure.row).collect::<Vec<_>>(), [0, 1]);
    }
}
