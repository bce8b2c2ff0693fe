//! The three converters of one task, with the class names that errors show.

use arrow_array::BinaryArray;
use tributary_sdk::Column;

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
