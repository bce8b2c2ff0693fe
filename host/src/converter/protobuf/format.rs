//! Protobuf for the converter with a registry.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, new_empty_array};
use arrow_schema::{DataType, FieldRef};
use tributary_sdk::batch::SCHEMA_NAME;
use tributary_sdk::{Column, Config, ConfigDef, Form, Result};

use super::decode::{self, MessageNode};
use super::descriptor::{Message, Schema};
use super::encode::{Encoder, Rules};
use super::options::{self, Options};
use super::{from_connect, raw, to_connect, wire};
use crate::converter::schema_registry::{Decoded, Format, Outgoing, Registered, SchemaText, schemaless, write_rows};

/// `io.confluent.connect.protobuf.ProtobufConverter`.
pub struct ProtobufFormat {
    options: Options,
}

/// A message prepared for reading.
pub struct Reader {
    field: FieldRef,
    node: MessageNode,
}

/// A message prepared for writing.
pub struct Writer {
    message: Arc<Message>,
    prefix: Vec<u8>,
    rules: Rules,
}

impl ProtobufFormat {
    /// The message for the plain values of a column, if they are put into one.
    fn raw(&self, column: &Column) -> Option<&'static str> {
        let plain = self.options.wrapper_for_raw && raw::is_raw(column.field());
        raw::message_of(column.field().data_type()).filter(|_| plain)
    }
}

impl Format for ProtobufFormat {
    type Reader = Reader;
    type Writer = Writer;
    const KIND: &'static str = "PROTOBUF";

    fn new(config: &Config) -> Result<Self> {
        Ok(Self { options: Options::parse(config)? })
    }

    fn own_def() -> ConfigDef {
        options::own_def()
    }

    fn prefix_len(&self, after_id: &[u8]) -> std::result::Result<usize, String> {
        Ok(wire::indexes(after_id)?.1)
    }

    fn reader(&self, registered: &Registered, prefix: &[u8]) -> std::result::Result<Reader, String> {
        let schema = Schema::parse(&registered.schema.text, &registered.dependencies)?;
        let message = schema.message_at(&wire::indexes(prefix)?.0)?;
        Ok(Reader {
            field: to_connect::root_field(&message, self.options)?,
            node: MessageNode::new(&message, self.options),
        })
    }

    fn read(&self, reader: &Reader, rows: &[Option<&[u8]>]) -> std::result::Result<Decoded, String> {
        if !matches!(reader.field.data_type(), DataType::Struct(_)) && raw::is_raw(&reader.field) {
            let (array, failures) = decode::decode(&reader.node, &raw::message_field(&reader.field), rows)?;
            return Ok(Decoded { field: reader.field.clone(), array: raw::out_of_message(&array)?, failures });
        }
        let (array, failures) = decode::decode(&reader.node, &reader.field, rows)?;
        Ok(Decoded { field: reader.field.clone(), array, failures })
    }

    fn outgoing(&self, column: &Column) -> std::result::Result<Outgoing, String> {
        if column.form() == Form::Json {
            return Err(schemaless("Protobuf"));
        }
        let (text, record) = from_connect::root_schema(column.field(), self.options)?;
        Ok(Outgoing { schema: SchemaText::plain(Self::KIND, text), record: Some(record) })
    }

    fn writer(&self, registered: &Registered, column: &Column, strict: bool) -> std::result::Result<Writer, String> {
        let wrapper = self.raw(column);
        if wrapper.is_none() && !matches!(column.field().data_type(), DataType::Struct(_)) {
            return Err("a Protobuf value has to be a struct".to_owned());
        }
        let schema = Schema::parse(&registered.schema.text, &registered.dependencies)?;
        let name = wrapper.unwrap_or_else(|| column.field().metadata().get(SCHEMA_NAME).map_or("", String::as_str));
        let place = schema.place_of(name)?;
        let message = schema.message_at(&place)?;
        let rules = Rules { options: self.options, strict };
        // Whether they fit is seen without any row.
        let none = new_empty_array(column.field().data_type());
        let none: ArrayRef = if wrapper.is_some() { Arc::new(raw::in_message(&none)) } else { none };
        Encoder::new(&message, none.as_struct(), rules)?;
        let mut prefix = Vec::new();
        wire::put_indexes(&mut prefix, &place);
        Ok(Writer { message, prefix, rules })
    }

    fn write(
        &self,
        writer: &Writer,
        column: &Column,
        give: &mut dyn FnMut(usize, std::result::Result<&[u8], String>),
    ) -> std::result::Result<(), String> {
        let wrapped = self.raw(column).map(|_| raw::in_message(column.array()));
        let structs = wrapped.as_ref().or_else(|| column.array().as_struct_opt());
        let structs = structs.ok_or("a Protobuf value has to be a struct")?;
        let encoder = Encoder::new(&writer.message, structs, writer.rules)?;
        let what = "Error serializing Protobuf message";
        write_rows(column, &writer.prefix, what, give, |row, out| encoder.write(row, out));
        Ok(())
    }
}
