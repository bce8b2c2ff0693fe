//! Header converters: between headers in Kafka (key and bytes) and those of a batch (key, Connect type, serialized form).
//!
//! A header is serialized in one way whatever its type: text for strings, raw bytes for `bytes`, and what
//! `SimpleHeaderConverter` writes for the other types. So most headers pass through without a copy.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, ListArray, StringArray, StructArray, new_null_array};
use arrow_schema::{DataType, Field};
use tributary_sdk::{Config, Result};

use super::RowFailure;

/// Between the two kinds of header columns.
#[allow(clippy::wrong_self_convention)] // Kafka Connect's words.
pub trait HeaderConverter: Send {
    /// Takes the converter's own config, without the `header.converter.` prefix.
    fn configure(&mut self, config: &Config) -> Result<()>;
    /// From a [`crate::log::LogRecords`]'s headers to a [`tributary_sdk::Batch`]'s.
    fn to_connect(&mut self, topic: &str, headers: &ListArray) -> HeaderConversion;
    /// From a [`tributary_sdk::Batch`]'s headers to a [`crate::log::LogRecords`]'s.
    fn from_connect(&mut self, topic: &str, headers: &ListArray) -> HeaderConversion;
}

/// Converted headers, one list a row.
#[derive(Debug)]
pub struct HeaderConversion {
    /// Of failed rows, some list.
    pub headers: ListArray,
    /// By row, increasing.
    pub failures: Vec<RowFailure>,
}

impl From<ListArray> for HeaderConversion {
    fn from(headers: ListArray) -> Self {
        Self { headers, failures: Vec::new() }
    }
}

/// Passes serialized headers through; `schema` is the Connect type that those from Kafka get, `None`: not known until something asks.
#[derive(Debug)]
pub(super) struct PassThrough {
    pub schema: Option<&'static str>,
}

impl HeaderConverter for PassThrough {
    fn configure(&mut self, _config: &Config) -> Result<()> {
        Ok(())
    }

    fn to_connect(&mut self, _topic: &str, headers: &ListArray) -> HeaderConversion {
        let Some((keys, values)) = keys_and_values(headers) else { return headers.clone().into() };
        let schemas: ArrayRef = match self.schema {
            None => new_null_array(&DataType::Utf8, keys.len()),
            Some(name) => Arc::new(std::iter::repeat_n(Some(name), keys.len()).collect::<StringArray>()),
        };
        let fields = tributary_sdk::batch::HEADER_FIELDS.clone();
        rebuild(headers, StructArray::new(fields, vec![keys, schemas, values], None)).into()
    }

    fn from_connect(&mut self, _topic: &str, headers: &ListArray) -> HeaderConversion {
        let Some((keys, values)) = keys_and_values(headers) else { return headers.clone().into() };
        let fields = crate::log::HEADER_FIELDS.clone();
        rebuild(headers, StructArray::new(fields, vec![keys, values], None)).into()
    }
}

fn keys_and_values(headers: &ListArray) -> Option<(ArrayRef, ArrayRef)> {
    let items = headers.values().as_any().downcast_ref::<StructArray>()?;
    Some((items.column_by_name("key")?.clone(), items.column_by_name("value")?.clone()))
}

fn rebuild(headers: &ListArray, items: StructArray) -> ListArray {
    let item = Field::new("item", items.data_type().clone(), false);
    ListArray::new(Arc::new(item), headers.offsets().clone(), Arc::new(items), headers.nulls().cloned())
}
