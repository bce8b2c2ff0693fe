//! Kafka Connect's single-message transforms, one a file, each with its cases checked against the Java class.

mod insert_field;

use super::part::{Outcome, Part};

pub use insert_field::InsertField;

/// A transform that looks at nothing but the record.
pub trait SingleMessage: Send {
    /// Takes rows and says what goes on, what is refused and how many were dropped.
    fn apply<'a>(&'a self, part: Part<'a>, outcome: &mut Outcome<'a>);
}
