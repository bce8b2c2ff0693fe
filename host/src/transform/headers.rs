//! Headers of a part, edited record by record.

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ListArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use std::sync::Arc;
use tributary_sdk::Batch;
use tributary_sdk::batch::HEADER_FIELDS;

/// A header: key, Connect type (`None`: not known) and serialized value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'h> {
    /// Its key.
    pub key: &'h str,
    /// Connect type name.
    pub schema: Option<&'h str>,
    /// Serialized value.
    pub value: Option<&'h [u8]>,
}

/// The headers of each record, or none at all.
pub struct Headers<'h> {
    list: Option<&'h ListArray>,
    columns: Option<(&'h arrow_array::StringArray, &'h arrow_array::StringArray, &'h arrow_array::BinaryArray)>,
}

impl<'h> Headers<'h> {
    /// Of a headers column.
    pub fn of(list: Option<&'h ListArray>) -> Self {
        let columns = list.map(|list| {
            let items = list.values().as_struct();
            (items.column(0).as_string(), items.column(1).as_string(), items.column(2).as_binary())
        });
        Self { list, columns }
    }

    /// The headers of a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = Header<'h>> + use<'h> {
        let (from, to) = match self.list {
            Some(list) if list.is_valid(row) => (list.value_offsets()[row], list.value_offsets()[row + 1]),
            _ => (0, 0),
        };
        let columns = self.columns;
        (from as usize..to as usize).filter_map(move |i| {
            let (keys, schemas, values) = columns?;
            let schema = schemas.is_valid(i).then(|| schemas.value(i));
            Some(Header { key: keys.value(i), schema, value: values.is_valid(i).then(|| values.value(i)) })
        })
    }
}

/// Makes a headers column.
pub struct HeadersBuilder {
    keys: StringBuilder,
    schemas: StringBuilder,
    values: BinaryBuilder,
    ends: Vec<i32>,
}

impl HeadersBuilder {
    /// For about so many records.
    pub fn new(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self {
            keys: StringBuilder::with_capacity(rows, rows * 8),
            schemas: StringBuilder::with_capacity(rows, rows * 8),
            values: BinaryBuilder::with_capacity(rows, rows * 16),
            ends,
        }
    }

    /// Adds a header to the record.
    pub fn push(&mut self, header: Header<'_>) {
        self.keys.append_value(header.key);
        self.schemas.append_option(header.schema);
        self.values.append_option(header.value);
    }

    /// The record is complete.
    pub fn end_row(&mut self) {
        use arrow_array::builder::ArrayBuilder;
        self.ends.push(self.keys.len() as i32);
    }

    /// The column; `None` when no record has a header.
    pub fn finish(mut self) -> Option<ListArray> {
        if self.ends.last() == Some(&0) {
            return None;
        }
        let DataType::List(item) = Batch::headers_type() else { unreachable!("headers are lists") };
        let items = StructArray::new(
            HEADER_FIELDS.clone(),
            vec![Arc::new(self.keys.finish()), Arc::new(self.schemas.finish()), Arc::new(self.values.finish())],
            None,
        );
        Some(ListArray::new(item, OffsetBuffer::new(ScalarBuffer::from(self.ends)), Arc::new(items), None))
    }
}
