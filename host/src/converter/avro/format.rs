//! Avro for the converter with a registry.

use std::sync::Arc;

use arrow_array::new_empty_array;
use arrow_schema::FieldRef;
use tributary_sdk::{Column, Config, ConfigDef, Form, Result};

use super::decode::{self, Node};
use super::encode::{Encoder, Rules};
use super::options::{self, Options};
use super::schema::Schema;
use super::{from_connect, to_connect};
use crate::converter::schema_registry::{Decoded, Format, Outgoing, Registered, SchemaText, schemaless, write_rows};

/// `io.confluent.connect.avro.AvroConverter`.
pub struct AvroFormat {
    options: Options,
}

/// A schema prepared for reading.
pub struct Reader {
    field: FieldRef,
    node: Node,
}

/// A schema prepared for writing.
pub struct Writer {
    schema: Arc<Schema>,
    rules: Rules,
}

impl Format for AvroFormat {
    type Reader = Reader;
    type Writer = Writer;
    const KIND: &'static str = "AVRO";

    fn new(config: &Config) -> Result<Self> {
        Ok(Self { options: Options::parse(config)? })
    }

    fn own_def() -> ConfigDef {
        options::own_def()
    }

    fn reader(&self, registered: &Registered, _prefix: &[u8]) -> std::result::Result<Reader, String> {
        let schema = Schema::parse(&registered.schema.text, &registered.dependencies)?;
        Ok(Reader { field: to_connect::root_field(&schema, self.options)?, node: Node::new(&schema, self.options) })
    }

    fn read(&self, reader: &Reader, rows: &[Option<&[u8]>]) -> std::result::Result<Decoded, String> {
        let (array, failures) = decode::decode(&reader.node, &reader.field, rows)?;
        Ok(Decoded { field: reader.field.clone(), array, failures })
    }

    fn outgoing(&self, column: &Column) -> std::result::Result<Outgoing, String> {
        if column.form() == Form::Json {
            return Err(schemaless("Avro"));
        }
        let (text, record) = from_connect::root_schema(column.field(), self.options)?;
        Ok(Outgoing { schema: SchemaText::plain(Self::KIND, text), record })
    }

    fn writer(&self, registered: &Registered, column: &Column, strict: bool) -> std::result::Result<Writer, String> {
        let schema = Schema::parse(&registered.schema.text, &registered.dependencies)?;
        let rules = Rules { options: self.options, strict };
        // Whether they fit is seen without any row.
        let none = new_empty_array(column.field().data_type());
        Encoder::new(&schema, column.field(), &none, rules)?;
        Ok(Writer { schema, rules })
    }

    fn write(
        &self,
        writer: &Writer,
        column: &Column,
        give: &mut dyn FnMut(usize, std::result::Result<&[u8], String>),
    ) -> std::result::Result<(), String> {
        let encoder = Encoder::new(&writer.schema, column.field(), column.array(), writer.rules)?;
        write_rows(column, &[], "Error serializing Avro message", give, |row, out| encoder.write(row, out));
        Ok(())
    }
}
