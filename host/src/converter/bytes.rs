//! `ByteArrayConverter`: bytes as they are. To Kafka it takes bytes only; anything else fails its row, as in Kafka Connect.

use arrow_array::BinaryArray;
use tributary_sdk::{Column, Config, Form, Result};

use super::{Converter, FromConnect, ToConnect};

/// Passes bytes through without a copy.
#[derive(Debug, Default)]
pub struct ByteArrayConverter;

impl Converter for ByteArrayConverter {
    fn configure(&mut self, _config: &Config, _is_key: bool) -> Result<()> {
        Ok(())
    }

    fn to_connect(&mut self, _topic: &str, data: &BinaryArray) -> ToConnect {
        ToConnect::whole(Column::bytes(data.clone()))
    }

    fn from_connect(&mut self, _topic: &str, column: &Column) -> FromConnect {
        match (column.form(), column.as_bytes()) {
            (Form::Bytes, Some(data)) => FromConnect { data: data.clone(), failures: Vec::new() },
            _ => FromConnect::all_failed(
                column,
                &format!("Invalid schema type for ByteArrayConverter: {}", column.field().data_type()),
            ),
        }
    }
}
