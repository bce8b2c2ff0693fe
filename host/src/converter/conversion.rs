//! What a converter promises, and the answers it gives.

use std::ops::Range;

use arrow_array::{Array, BinaryArray};
use tributary_sdk::{Column, Config, Result};

/// Between serialized keys or values and columns. One instance serves the keys or the values of one task, from one thread.
#[allow(clippy::wrong_self_convention)] // Kafka Connect's words.
pub trait Converter: Send {
    /// Takes the converter's own config, without the `key.converter.` or `value.converter.` prefix.
    fn configure(&mut self, config: &Config, is_key: bool) -> Result<()>;

    /// From Kafka. A null stays null, whatever the type.
    fn to_connect(&mut self, topic: &str, data: &BinaryArray) -> ToConnect;

    /// To Kafka. A null stays null (a tombstone), whatever the type.
    fn from_connect(&mut self, topic: &str, column: &Column) -> FromConnect;

    /// Whether a failure of the last call may pass, so that the same call may succeed later (a schema registry that is away).
    /// It is then made again, as long as `errors.retry.timeout` says; what the last one answered counts.
    fn retriable(&self) -> bool {
        false
    }
}

/// Columns made of serialized data: every row is in exactly one run, or failed.
#[derive(Debug)]
pub struct ToConnect {
    /// In the order of the rows.
    pub runs: Vec<Run>,
    /// By row, increasing.
    pub failures: Vec<RowFailure>,
}

impl ToConnect {
    /// All rows became one column.
    pub fn whole(column: Column) -> Self {
        let runs = if column.is_empty() { Vec::new() } else { vec![Run { rows: 0..column.len(), column }] };
        Self { runs, failures: Vec::new() }
    }

    /// All rows became one column, except those that failed (`failures` is increasing by row).
    pub fn without(column: &Column, failures: Vec<RowFailure>) -> Self {
        let mut runs = Vec::with_capacity(failures.len() + 1);
        let mut from = 0;
        for to in failures.iter().map(|failure| failure.row).chain([column.len()]) {
            if to > from {
                runs.push(Run { rows: from..to, column: column.slice(from, to - from) });
            }
            from = to + 1;
        }
        Self { runs, failures }
    }
}

/// Consecutive rows of one type.
#[derive(Debug)]
pub struct Run {
    /// Rows of the input.
    pub rows: Range<usize>,
    /// As many values.
    pub column: Column,
}

/// Serialized data made of a column.
#[derive(Debug)]
pub struct FromConnect {
    /// One value a row. A row that failed is null here and must not be sent.
    pub data: BinaryArray,
    /// By row, increasing.
    pub failures: Vec<RowFailure>,
}

impl FromConnect {
    /// No value of the column can be converted; nulls stay null.
    pub fn all_failed(column: &Column, message: &str) -> Self {
        let failed = (0..column.len()).filter(|&row| column.array().is_valid(row));
        let failures = failed.map(|row| RowFailure { row, message: message.to_owned() }).collect();
        Self { data: BinaryArray::new_null(column.len()), failures }
    }
}

/// A row that could not be converted or transformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFailure {
    /// Row of the input.
    pub row: usize,
    /// Why.
    pub message: String,
}

/// Adds the field that an error is in: of fields inside of it, a path grows.
pub(crate) fn within(name: &str, error: String) -> String {
    match error.rsplit_once(", in field ") {
        Some((what, path)) => format!("{what}, in field {name}.{path}"),
        None => format!("{error}, in field {name}"),
    }
}
