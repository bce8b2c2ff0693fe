//! The three converters of one task, with the class names that errors show.

use arrow_array::BinaryArray;
use tributary_sdk::Column;

use super::errors::{FailedRecord, Stage, TaskError};
use crate::converter::{Converter, FromConnect, HeaderConverter, RowFailure, ToConnect};

/// A converter and its class.
pub struct Named<C: ?Sized> {
    /// Class name, the Java one where it has one.
    pub class: String,
    /// The converter, configured.
    pub converter: Box<C>,
}

/// Key, value and header converter.
pub struct Converters {
    /// For keys.
    pub key: Named<dyn Converter>,
    /// For values.
    pub value: Named<dyn Converter>,
    /// For headers.
    pub header: Named<dyn HeaderConverter>,
}

impl Converters {
    /// The end of the task where records failed for something that is no fault of theirs and will pass (a schema registry that is
    /// away): they are neither skipped nor dead-lettered, whatever is tolerated, but come again when the task starts again.
    pub fn check_away(&self, failures: &[FailedRecord]) -> Result<(), TaskError> {
        for (stage, named) in [(Stage::KeyConverter, &self.key), (Stage::ValueConverter, &self.value)] {
            if let Some(failed) = failures.iter().find(|failed| failed.stage == stage)
                && named.converter.retriable()
            {
                return Err(TaskError::new(format!(
                    "{} failed for what is no fault of the records, which wait for the task's next start: {}; \
                     errors.retry.timeout sets how long the task itself waits",
                    named.class, failed.message
                )));
            }
        }
        Ok(())
    }
}

/// With the reason why the same call may succeed later, if it may.
#[allow(clippy::wrong_self_convention)] // Kafka Connect's words.
impl Named<dyn Converter> {
    /// From Kafka.
    pub fn to_connect(&mut self, topic: &str, data: &BinaryArray) -> (ToConnect, Option<String>) {
        let converted = self.converter.to_connect(topic, data);
        let why = self.why(&converted.failures);
        (converted, why)
    }

    /// To Kafka.
    pub fn from_connect(&mut self, topic: &str, column: &Column) -> (FromConnect, Option<String>) {
        let converted = self.converter.from_connect(topic, column);
        let why = self.why(&converted.failures);
        (converted, why)
    }

    fn why(&self, failures: &[RowFailure]) -> Option<String> {
        let first = failures.first()?;
        self.converter.retriable().then(|| first.message.clone())
    }
}
