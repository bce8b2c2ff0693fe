//! Records as structs with a Connect schema: amounts are doubles, times are Connect's Timestamp.

use std::collections::HashMap;
use std::sync::Arc;

use tributary_sdk::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StructArray, TimestampMillisecondArray,
};
use tributary_sdk::arrow::schema::{DataType, Field, Fields};
use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_OPTIONAL, SCHEMA_VERSION};
use tributary_sdk::{Column, Result};

use super::{Id, Name, Strings, Writer};

#[derive(Debug)]
pub(crate) struct StructuredWriter {
    rows: usize,
    columns: Vec<(Name, Values)>,
    /// The column of the next field.
    at: usize,
}

#[derive(Debug)]
enum Values {
    Integers(Vec<i64>),
    Amounts(Vec<f64>),
    Texts(Strings),
    Times(Vec<i64>),
    Flags(Vec<bool>),
}

impl StructuredWriter {
    pub fn new(rows: usize) -> Self {
        Self { rows, columns: Vec::new(), at: 0 }
    }

    pub fn finish(self, schema_name: &str) -> Result<Column> {
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for (name, values) in self.columns {
            let array: ArrayRef = match values {
                Values::Integers(values) => Arc::new(Int64Array::from(values)),
                Values::Amounts(values) => Arc::new(Float64Array::from(values)),
                Values::Texts(values) => Arc::new(values.finish()?),
                Values::Times(values) => Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC")),
                Values::Flags(values) => Arc::new(BooleanArray::from(values)),
            };
            fields.push(Field::new(name.plain, array.data_type().clone(), false));
            arrays.push(array);
        }
        let array = StructArray::try_new(Fields::from(fields), arrays, None)?;
        let metadata = HashMap::from([
            (SCHEMA_NAME.to_owned(), schema_name.to_owned()),
            (SCHEMA_VERSION.to_owned(), "1".to_owned()),
            (SCHEMA_OPTIONAL.to_owned(), "false".to_owned()),
        ]);
        let data_type = DataType::Struct(array.fields().clone());
        Ok(Column::new(Field::new("", data_type, true).with_metadata(metadata), Arc::new(array)))
    }

    /// The column of the field, made with the first record.
    fn next(&mut self, name: Name, make: impl FnOnce(usize) -> Values) -> &mut Values {
        if self.at == self.columns.len() {
            self.columns.push((name, make(self.rows)));
        }
        self.at += 1;
        &mut self.columns[self.at - 1].1
    }
}

impl Writer for StructuredWriter {
    fn integer(&mut self, name: Name, value: i64) {
        if let Values::Integers(values) = self.next(name, |rows| Values::Integers(Vec::with_capacity(rows))) {
            values.push(value);
        }
    }

    fn cents(&mut self, name: Name, value: i64) {
        if let Values::Amounts(values) = self.next(name, |rows| Values::Amounts(Vec::with_capacity(rows))) {
            values.push(value as f64 / 100.0);
        }
    }

    fn text(&mut self, name: Name, value: &'static str) {
        if let Values::Texts(values) = self.next(name, |rows| Values::Texts(Strings::new(rows, 16))) {
            values.bytes.extend_from_slice(value.as_bytes());
            values.end_value();
        }
    }

    fn id(&mut self, name: Name, id: Id) {
        if let Values::Texts(values) = self.next(name, |rows| Values::Texts(Strings::new(rows, 16))) {
            id.write(&mut values.bytes);
            values.end_value();
        }
    }

    fn time(&mut self, name: Name, ms: i64) {
        if let Values::Times(values) = self.next(name, |rows| Values::Times(Vec::with_capacity(rows))) {
            values.push(ms);
        }
    }

    fn flag(&mut self, name: Name, value: bool) {
        if let Values::Flags(values) = self.next(name, |rows| Values::Flags(Vec::with_capacity(rows))) {
            values.push(value);
        }
    }

    fn end(&mut self) {
        self.at = 0;
    }
}
