//! Expressions in CEL (the Common Expression Language), as transforms use them.
//!
//! An [`Expression`] is compiled once, from a config, and evaluated for each record. Compiling refuses what could never work: syntax
//! errors (with the column), names and functions that do not exist, and expressions that are too long, too deep or loop within a loop
//! within a loop. Evaluating reads from the record only what the expression names ([`Need`]), so a filter on one field of a large
//! document touches that field alone; it fails a record, never a batch, with a message that names the expression, the place and the reason.
//!
//! # What an expression sees
//!
//! | Name | Is |
//! |---|---|
//! | `v`, `value` | the value |
//! | `k`, `key` | the key |
//! | `h`, `headers` | a map of header names to values; of several of one name, the last |
//! | `topic` | text |
//! | `timestamp` | a CEL timestamp, or null |
//! | `partition`, `offset` | integers, or null where there is none |
//!
//! # Types
//!
//! | Kafka Connect, JSON | CEL |
//! |---|---|
//! | INT8 to INT64; JSON numbers without point and exponent | `int` (`uint` beyond 2⁶³) |
//! | FLOAT32, FLOAT64, other JSON numbers | `double` |
//! | Decimal | `double`, the nearest: `v.price` alone, as a field's new value, stays exact |
//! | STRING, BOOLEAN, BYTES, null | `string`, `bool`, `bytes`, `null` |
//! | Timestamp, Date | `timestamp` |
//! | Time | `duration` since midnight |
//! | ARRAY; STRUCT, MAP, JSON object | `list`; `map` |
//!
//! A field that is not there is an error unless it is asked for with `has(v.x)` or `v.?x.orValue(…)`. A struct's field that is null is there.
//!
//! # Bounds
//!
//! Text of 8192 bytes, 64 levels of nesting, macros (`all`, `exists`, `map`, `filter`, …) in two levels. In expressions that nest macros,
//! lists and maps of the record are limited to 1,000 entries and `split` is not allowed, so no record takes more than about a million steps.

mod answer;
mod check;
mod functions;
mod input;
mod need;
mod program;
mod typing;

pub use answer::Answer;
pub use input::{Record, Source, Variable};
pub use need::Need;
pub use program::Expression;
pub use typing::Types;

#[cfg(test)]
mod tests;
