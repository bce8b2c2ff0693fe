//! The headers column, record by record.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{ListArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};

use super::Header;
use crate::batch::HEADER_FIELDS;
use crate::errors::Result;

#[derive(Default)]
pub(super) struct HeadersBuilder {
    counts: Vec<usize>,
    keys: StringBuilder,
    schemas: StringBuilder,
    values: BinaryBuilder,
    any: bool,
}

impl HeadersBuilder {
    /// Adds a record's headers, and answers their size.
    pub fn push(&mut self, headers: Vec<Header>) -> usize {
        self.counts.push(headers.len());
        self.any |= !headers.is_empty();
        let mut bytes = 0;
        for header in headers {
            bytes += header.key.len() + header.value.as_ref().map_or(0, Vec::len);
            self.keys.append_value(&header.key);
            self.schemas.append_option(header.schema);
            self.values.append_option(header.value);
        }
        bytes
    }

    /// The column; `None` when no record has a header.
    pub fn finish(mut self) -> Result<Option<ListArray>> {
        if !self.any {
            return Ok(None);
        }
        let columns: Vec<arrow_array::ArrayRef> =
            vec![Arc::new(self.keys.finish()), Arc::new(self.schemas.finish()), Arc::new(self.values.finish())];
        let items = StructArray::try_new(HEADER_FIELDS.clone(), columns, None)?;
        let item = Arc::new(Field::new("item", DataType::Struct(HEADER_FIELDS.clone()), false));
        Ok(Some(ListArray::try_new(item, OffsetBuffer::from_lengths(self.counts), Arc::new(items), None)?))
    }
}
