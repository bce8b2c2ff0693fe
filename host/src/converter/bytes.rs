//! `ByteArrayConverter`: bytes as they are. To Kafka it takes bytes only; anything else fails its row, as in Kafka Connect.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_array::BinaryArray;
use arrow_schema::{DataType, Field, FieldRef};
use tributary_sdk::batch::SCHEMA_OPTIONAL;
use tributary_sdk::{Column, Config, Form, Result};

use super::json::type_name;
use super::{Converter, FromConnect, ToConnect};

/// Connect's optional bytes: what this converter makes of every value.
static FIELD: LazyLock<FieldRef> = LazyLock::new(|| {
    let optional = (SCHEMA_OPTIONAL.to_owned(), "true".to_owned());
    Arc::new(Field::new("", DataType::Binary, true).with_metadata(HashMap::from([optional])))
});

/// Passes bytes through without a copy.
#[derive(Debug, Default)]
pub struct ByteArrayConverter;

impl Converter for ByteArrayConverter {
    fn configure(&mut self, _config: &Config, _is_key: bool) -> Result<()> {
        Ok(())
    }

    fn to_connect(&mut self, _topic: &str, data: &BinaryArray) -> ToConnect {
        ToConnect::whole(Column::new(FIELD.clone(), Arc::new(data.clone())))
    }

    fn from_connect(&mut self, _topic: &str, column: &Column) -> FromConnect {
        match (column.form(), column.as_bytes()) {
            (Form::Bytes, Some(data)) => FromConnect { data: data.clone(), failures: Vec::new() },
            _ => FromConnect::all_failed(
                column,
                &format!("Invalid schema type for ByteArrayConverter: {}", type_name(column.field().data_type())),
            ),
        }
    }
}
