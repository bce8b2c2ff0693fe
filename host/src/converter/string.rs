//! `StringConverter`: text.
//!
//! From Kafka, bytes that are not valid in the encoding become U+FFFD, as they do in Kafka Connect. To Kafka, text goes as it is,
//! numbers and booleans as Java writes them, bytes as base64, and everything else as JSON (where Kafka Connect writes Java's
//! `toString`, such as `Struct{a=1}`, which nothing can read back).

use arrow_array::{Array, BinaryArray};
use arrow_schema::{DataType, Field, FieldRef};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use tributary_sdk::batch::SCHEMA_OPTIONAL;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{Column, Config, ConfigDef, ConfigKey, Error, Form, Importance, Result, Type, Width};

use super::json::syntax::Kind;
use super::json::{Encoder, Options, text};
use super::utf8::{self, TextBuilder};
use super::{Converter, FromConnect, RowFailure, ToConnect};

/// The config definition, as in Kafka Connect.
pub fn config_def() -> ConfigDef {
    let documentation = "The character set: UTF-8, US-ASCII or ISO-8859-1.";
    let key = ConfigKey::optional("converter.encoding", Type::String, "UTF-8", Importance::High, documentation);
    let key = key.validator(Validator::OneOfIgnoreCase(NAMES.iter().map(|(name, _)| (*name).to_owned()).collect()));
    super::config::with_type().define(ConfigKey { width: Width::Medium, display_name: "Encoding".to_owned(), ..key })
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct StringConverter {
    encoding: Encoding,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    #[default]
    Utf8,
    Ascii,
    Latin1,
}

/// As Java calls them.
const NAMES: [(&str, Encoding); 8] = [
    ("UTF-8", Encoding::Utf8),
    ("UTF8", Encoding::Utf8),
    ("US-ASCII", Encoding::Ascii),
    ("ASCII", Encoding::Ascii),
    ("ISO-8859-1", Encoding::Latin1),
    ("ISO8859_1", Encoding::Latin1),
    ("ISO8859-1", Encoding::Latin1),
    ("LATIN1", Encoding::Latin1),
];

/// Connect's optional string: what this converter makes of every value.
static FIELD: LazyLock<FieldRef> = LazyLock::new(|| {
    let optional = (SCHEMA_OPTIONAL.to_owned(), "true".to_owned());
    Arc::new(Field::new("", DataType::Utf8, true).with_metadata(HashMap::from([optional])))
});

impl Converter for StringConverter {
    fn configure(&mut self, config: &Config, _is_key: bool) -> Result<()> {
        let name = config.get("converter.encoding").unwrap_or("UTF-8");
        let known = NAMES.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
        (_, self.encoding) = known.ok_or_else(|| {
            Error::failed(format!(
                "Invalid value {name} for configuration converter.encoding: use UTF-8, US-ASCII or ISO-8859-1"
            ))
        })?;
        Ok(())
    }

    fn to_connect(&mut self, _topic: &str, data: &BinaryArray) -> ToConnect {
        let texts = match self.encoding {
            Encoding::Utf8 => utf8::decode_lossy(data),
            encoding => {
                let character = |&byte: &u8| match encoding {
                    Encoding::Ascii if byte > 0x7f => char::REPLACEMENT_CHARACTER,
                    _ => char::from(byte),
                };
                data.iter().map(|value| Some(value?.iter().map(character).collect::<String>())).collect()
            }
        };
        ToConnect::whole(Column::new(FIELD.clone(), Arc::new(texts)))
    }

    fn from_connect(&mut self, _topic: &str, column: &Column) -> FromConnect {
        let mut answer = match (column.form(), column.as_text()) {
            (Form::Text, Some(texts)) => FromConnect { data: BinaryArray::from(texts.clone()), failures: Vec::new() },
            (Form::Json, Some(texts)) => {
                let mut out = TextBuilder::with_capacity(texts.len(), texts.value_data().len());
                for value in texts {
                    match value {
                        None => out.push_null(),
                        Some(value) => {
                            match Kind::of(value.trim_ascii()) {
                                Kind::String => out.buffer().push_str(&text::string_value(value.trim_ascii())),
                                _ => out.buffer().push_str(value),
                            }
                            out.end_row();
                        }
                    }
                }
                FromConnect { data: out.finish_binary(), failures: Vec::new() }
            }
            _ => match super::canonical(column) {
                Ok(column) => encode(&column),
                Err(message) => FromConnect::all_failed(column, &message),
            },
        };
        if self.encoding != Encoding::Utf8 {
            answer.data = answer.data.iter().map(|value| Some(self.encode(value?))).collect();
        }
        answer
    }
}

impl StringConverter {
    /// Text in the encoding; `?` for what it does not have, as in Java.
    fn encode(&self, value: &[u8]) -> Vec<u8> {
        let limit = if self.encoding == Encoding::Ascii { 0x7f } else { 0xff };
        let byte = |c: char| u8::try_from(u32::from(c)).ok().filter(|&byte| byte <= limit).unwrap_or(b'?');
        String::from_utf8_lossy(value).chars().map(byte).collect()
    }
}

fn encode(column: &Column) -> FromConnect {
    // As Java's toString.
    let options = Options { numeric_decimals: true, ..Options::default() };
    let encoder = match Encoder::new(column.field(), column.array(), &options) {
        Ok(encoder) => encoder,
        Err(message) => return FromConnect::all_failed(column, &format!("Failed to serialize to a string: {message}")),
    };
    let mut out = TextBuilder::with_capacity(column.len(), column.array().get_array_memory_size());
    let mut failures = Vec::new();
    let mut json = String::new();
    for row in 0..column.len() {
        json.clear();
        if column.array().is_null(row) {
            out.push_null();
        } else if let Err(message) = encoder.write(row, &mut json) {
            out.push_null();
            failures.push(RowFailure { row, message: format!("Failed to serialize to a string: {message}") });
        } else {
            match Kind::of(&json) {
                Kind::String => out.buffer().push_str(&text::string_value(&json)),
                _ => out.buffer().push_str(&json),
            }
            out.end_row();
        }
    }
    FromConnect { data: out.finish_binary(), failures }
}
