//! A column of keys or values under way, in the form that its first non-null one decides.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{Array, StructArray};
use arrow_schema::{DataType, Field, Fields};
use serde_json::Value;

use super::Datum;
use super::infer::{Inferred, infer_fields};
use super::structured::struct_array;
use crate::batch::Column;
use crate::errors::{Error, Result};

pub(super) struct ColumnBuilder {
    state: State,
    schema: Option<Fields>,
}

enum State {
    /// Nulls only, so many.
    Undecided(usize),
    Bytes(BinaryBuilder),
    Text(StringBuilder),
    Json(StringBuilder),
    Rows(Vec<Option<Value>>, Inferred),
}

impl ColumnBuilder {
    pub fn new(schema: Option<Fields>) -> Self {
        Self { state: State::Undecided(0), schema }
    }

    /// Whether `datum` can stand in this column; if not, a new batch is due.
    pub fn takes(&self, datum: &Datum) -> bool {
        match (&self.state, datum) {
            (State::Undecided(_), _) | (_, Datum::Null) => true,
            (State::Bytes(_), Datum::Bytes(_))
            | (State::Text(_), Datum::Text(_))
            | (State::Json(_), Datum::Json(_)) => true,
            (State::Rows(_, inferred), Datum::Structured(value)) => self.schema.is_some() || inferred.merges(value),
            _ => false,
        }
    }

    pub fn is_all_null(&self) -> bool {
        matches!(self.state, State::Undecided(_))
    }

    /// Adds a datum that [`Self::takes`] agreed to, and answers its size.
    pub fn push(&mut self, datum: Datum) -> Result<usize> {
        if let (State::Undecided(nulls), false) = (&self.state, datum == Datum::Null) {
            self.state = State::decided(&datum, *nulls);
        }
        let mut size = 0;
        match (&mut self.state, datum) {
            (State::Undecided(nulls), Datum::Null) => *nulls += 1,
            (State::Bytes(builder), Datum::Bytes(bytes)) => {
                size = bytes.len();
                builder.append_value(bytes);
            }
            (State::Text(builder), Datum::Text(text)) | (State::Json(builder), Datum::Json(text)) => {
                size = text.len();
                builder.append_value(text);
            }
            (State::Rows(rows, inferred), Datum::Structured(value)) => {
                let Value::Object(members) = &value else {
                    return Err(Error::failed(format!("a structured value must be an object, not {value}")));
                };
                size = members.iter().map(|(name, value)| name.len() + size_of_value(value)).sum();
                match &self.schema {
                    // Checked now, so that the error comes with the record that is wrong.
                    Some(fields) => drop(struct_array(fields, &[Some(&value)])?),
                    None => inferred.merge(&value),
                }
                rows.push(Some(value));
            }
            (State::Bytes(builder), Datum::Null) => builder.append_null(),
            (State::Text(builder) | State::Json(builder), Datum::Null) => builder.append_null(),
            (State::Rows(rows, _), Datum::Null) => rows.push(None),
            _ => return Err(Error::failed("a record of another form was put into a batch")),
        }
        Ok(size)
    }

    pub fn finish(self) -> Result<Column> {
        match self.state {
            State::Undecided(nulls) => Ok(Column::bytes(std::iter::repeat_n(None::<&[u8]>, nulls).collect())),
            State::Bytes(mut builder) => Ok(Column::bytes(builder.finish())),
            State::Text(mut builder) => Ok(Column::text(builder.finish())),
            State::Json(mut builder) => Ok(Column::json(builder.finish())),
            State::Rows(rows, inferred) => {
                let rows: Vec<Option<&Value>> = rows.iter().map(Option::as_ref).collect();
                let fields = match self.schema {
                    Some(fields) => fields,
                    None => infer_fields(&inferred),
                };
                let array: StructArray = struct_array(&fields, &rows)?;
                let field = Field::new("", DataType::Struct(fields), array.null_count() > 0);
                Ok(Column::new(field, Arc::new(array)))
            }
        }
    }
}

impl State {
    fn decided(datum: &Datum, nulls: usize) -> Self {
        let text = || {
            let mut builder = StringBuilder::new();
            (0..nulls).for_each(|_| builder.append_null());
            builder
        };
        match datum {
            Datum::Bytes(_) => {
                let mut builder = BinaryBuilder::new();
                (0..nulls).for_each(|_| builder.append_null());
                Self::Bytes(builder)
            }
            Datum::Text(_) => Self::Text(text()),
            Datum::Json(_) => Self::Json(text()),
            Datum::Structured(_) => Self::Rows(vec![None; nulls], Inferred::default()),
            Datum::Null => Self::Undecided(nulls),
        }
    }
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of_value).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + size_of_value(value)).sum(),
    }
}
