//! JSON Schema for the converter with a registry.

use arrow_array::Array;
use arrow_schema::FieldRef;
use tributary_sdk::{Column, Config, ConfigDef, Form, Result};

use super::options::{self, Options};
use super::rules::Rules;
use super::{from_connect, to_connect};
use crate::converter::RowFailure;
use crate::converter::json::{Encoder, decode, syntax, text};
use crate::converter::schema_registry::{Decoded, Format, Outgoing, Registered, SchemaText};

/// `io.confluent.connect.json.JsonSchemaConverter`.
pub struct JsonSchemaFormat {
    options: Options,
}

/// A schema prepared for reading.
#[derive(Debug)]
pub struct Reader {
    pub(super) field: FieldRef,
    rules: Option<Rules>,
}

/// A schema prepared for writing.
pub struct Writer {
    rules: Option<Rules>,
}

impl JsonSchemaFormat {
    fn rules(&self, registered: &Registered) -> std::result::Result<Option<Rules>, String> {
        let rules = || Rules::new(&registered.schema.text, &registered.dependencies);
        self.options.validate.then(rules).transpose()
    }
}

impl Format for JsonSchemaFormat {
    type Reader = Reader;
    type Writer = Writer;
    const KIND: &'static str = "JSON";

    fn new(config: &Config) -> Result<Self> {
        Ok(Self { options: Options::parse(config)? })
    }

    fn own_def() -> ConfigDef {
        options::own_def()
    }

    fn reader(&self, registered: &Registered, _prefix: &[u8]) -> std::result::Result<Reader, String> {
        let field = to_connect::root_field(&registered.schema.text, &registered.dependencies, &self.options)?;
        Ok(Reader { field, rules: self.rules(registered)? })
    }

    fn read(&self, reader: &Reader, rows: &[Option<&[u8]>]) -> std::result::Result<Decoded, String> {
        let mut malformed = Vec::new();
        let mut texts: Vec<Option<&str>> = Vec::with_capacity(rows.len());
        for (row, value) in rows.iter().enumerate() {
            let Some(value) = *value else {
                texts.push(None);
                continue;
            };
            let checked = syntax::check(value)
                .map_err(|error| error.to_string())
                .and_then(|range| std::str::from_utf8(&value[range]).map_err(|_| "invalid UTF-8".to_owned()))
                .and_then(|text| reader.rules.as_ref().map_or(Ok(()), |rules| rules.check(text)).map(|()| text));
            texts.push(
                checked
                    .map_err(|error| {
                        malformed
                            .push(RowFailure { row, message: format!("Error deserializing JSON message: {error}") });
                    })
                    .ok(),
            );
        }
        let (array, mut failures) = decode(&reader.field, &texts, &self.options.json)?;
        failures.extend(malformed);
        failures.sort_by_key(|failure| failure.row);
        Ok(Decoded { field: reader.field.clone(), array, failures })
    }

    fn outgoing(&self, column: &Column) -> std::result::Result<Outgoing, String> {
        if column.form() == Form::Json {
            // Documents without a schema go under one that allows everything.
            return Ok(Outgoing { schema: SchemaText::plain(Self::KIND, "{}".to_owned()), record: None });
        }
        let (text, record) = from_connect::root_schema(column.field(), &self.options)?;
        Ok(Outgoing { schema: SchemaText::plain(Self::KIND, text), record })
    }

    fn writer(&self, registered: &Registered, column: &Column, strict: bool) -> std::result::Result<Writer, String> {
        // A registered schema has to have a place for every field.
        if let Some(schema) = strict.then(|| serde_json::from_str(&registered.schema.text).ok()).flatten() {
            covered(&schema, column)?;
        }
        Ok(Writer { rules: self.rules(registered)? })
    }

    fn write(
        &self,
        writer: &Writer,
        column: &Column,
        give: &mut dyn FnMut(usize, std::result::Result<&[u8], String>),
    ) -> std::result::Result<(), String> {
        let encoder = Encoder::new(column.field(), column.array(), &self.options.json)?;
        let documents = column.as_text().filter(|_| column.form() == Form::Json);
        let mut out = String::with_capacity(256);
        for row in (0..column.len()).filter(|&row| column.array().is_valid(row)) {
            out.clear();
            let written = match documents {
                Some(texts) => {
                    out.push_str(&text::compact(texts.value(row)));
                    Ok(())
                }
                None => encoder.write(row, &mut out),
            };
            let written = written.and_then(|()| writer.rules.as_ref().map_or(Ok(()), |rules| rules.check(&out)));
            give(
                row,
                written.map(|()| out.as_bytes()).map_err(|error| format!("Error serializing JSON message: {error}")),
            );
        }
        Ok(())
    }
}

/// Whether an object's schema that allows no further members names all fields of the column.
fn covered(schema: &serde_json::Value, column: &Column) -> std::result::Result<(), String> {
    let arrow_schema::DataType::Struct(fields) = column.field().data_type() else { return Ok(()) };
    if schema.get("additionalProperties") != Some(&serde_json::Value::Bool(false)) {
        return Ok(());
    }
    let known = |name: &str| schema.get("properties").is_some_and(|properties| properties.get(name).is_some());
    match fields.iter().find(|field| !known(field.name())) {
        Some(field) => Err(format!("the schema has no property {}, and allows none beside its own", field.name())),
        None => Ok(()),
    }
}
