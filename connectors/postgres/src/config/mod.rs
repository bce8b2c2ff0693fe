//! Config keys, and their values parsed.

mod keys;
mod source;

pub(crate) use keys::{choice, connection_settings, flag, text};
pub(crate) use source::{Autocreate, SnapshotMode, SourceConfig, ValueModes, definition};
pub(crate) use source::{BinaryMode, DecimalMode, HstoreMode, IntervalMode, TimeMode};
