//! A record as templates see it: parsed once, however many placeholders look into it.

use std::cell::OnceCell;

use serde_json::Value;
use tributary_sdk::{Cell, Row};

/// A record, and its key and value as JSON once somebody has asked for a field.
pub(crate) struct RecordView<'a> {
    pub row: Row<'a>,
    pub partition: Option<i32>,
    key: OnceCell<Result<Value, String>>,
    value: OnceCell<Result<Value, String>>,
}

impl<'a> RecordView<'a> {
    pub fn new(row: Row<'a>, partition: Option<i32>) -> Self {
        Self { row, partition, key: OnceCell::new(), value: OnceCell::new() }
    }

    pub fn key(&self) -> Result<&Value, String> {
        self.key.get_or_init(|| parsed("key", self.row.key())).as_ref().map_err(Clone::clone)
    }

    pub fn value(&self) -> Result<&Value, String> {
        self.value.get_or_init(|| parsed("value", self.row.value())).as_ref().map_err(Clone::clone)
    }

    /// The last header of a name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.row.headers().filter(|(key, _)| *key == name).last().and_then(|(_, value)| value)
    }
}

/// Text and bytes are read as JSON: somebody asks for a field of them.
fn parsed(what: &str, cell: Cell<'_>) -> Result<Value, String> {
    let json = match cell {
        Cell::Null => return Err(format!("the {what} is null")),
        Cell::Text(text) | Cell::Json(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        Cell::Bytes(bytes) => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        Cell::Structured(..) => cell.to_json().map_err(|error| error.to_string()),
    };
    json.map_err(|error| format!("the {what} is no JSON: {error}"))
}
