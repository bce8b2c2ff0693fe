//! The keys of `JsonConverter`.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Error, Importance, Result, Type, Width};

use crate::converter::config::{boolean, with_type};

/// The config definition, as in Kafka Connect.
pub fn config_def() -> ConfigDef {
    with_type()
        .define(
            ConfigKey::optional("schemas.enable", Type::Boolean, "true", Importance::High,
                "Whether each serialized key or value is an envelope that carries its schema.")
            .ui("Schemas", 0, Width::Medium, "Enable Schemas"),
        )
        .define(
            ConfigKey::optional("schemas.cache.size", Type::Int, "1000", Importance::High,
                "How many schemas are kept parsed.")
            .ui("Schemas", 1, Width::Medium, "Schema Cache Size"),
        )
        .define(
            ConfigKey::nullable("schema.content", Type::String, Importance::High,
                "A schema for all messages of a sink; values are then read without an envelope. Only with schemas.enable=true.")
            .ui("Schemas", 2, Width::Medium, "Schema Content"),
        )
        .define(
            ConfigKey::optional("decimal.format", Type::String, "BASE64", Importance::Low,
                "How decimals are written: BASE64 (of the unscaled bytes) or NUMERIC, in any case.")
            .ui("Serialization", 0, Width::Medium, "Decimal Format")
            .validator(Validator::OneOfIgnoreCase(vec!["BASE64".to_owned(), "NUMERIC".to_owned()])),
        )
        .define(
            ConfigKey::optional("replace.null.with.default", Type::Boolean, "true", Importance::Low,
                "Whether a null in a field that has a default becomes the default.")
            .ui("Serialization", 1, Width::Medium, "Replace null with default"),
        )
}

/// The keys, parsed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Values stand in envelopes with their schemas.
    pub schemas_enable: bool,
    /// How many schemas are kept parsed.
    pub cache_size: usize,
    /// The schema of all messages.
    pub schema_content: Option<String>,
    /// Decimals are written as numbers.
    pub numeric_decimals: bool,
    /// Nulls become defaults.
    pub replace_null_with_default: bool,
    /// Entries of maps whose keys are not strings are objects with `key` and `value`, not pairs: as `JsonSchemaConverter` has it.
    pub entries_as_objects: bool,
    /// Structs that stand for several types ([`super::is_union`]) are written as the one that is set.
    pub unions: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schemas_enable: true,
            cache_size: 1000,
            schema_content: None,
            numeric_decimals: false,
            replace_null_with_default: true,
            entries_as_objects: false,
            unions: false,
        }
    }
}

impl Options {
    /// Of the converter's own config.
    pub fn parse(config: &Config) -> Result<Self> {
        let format = config.get("decimal.format").unwrap_or("BASE64");
        let numeric_decimals = match format.to_ascii_uppercase().as_str() {
            "BASE64" => false,
            "NUMERIC" => true,
            _ => {
                return Err(Error::failed(format!(
                    "Invalid value {format} for configuration decimal.format: String must be one of (case insensitive): NUMERIC, BASE64"
                )));
            }
        };
        Ok(Self {
            schemas_enable: boolean(config, "schemas.enable", true)?,
            cache_size: config.parsed("schemas.cache.size", 1000)?,
            schema_content: config.get("schema.content").filter(|text| !text.is_empty()).map(str::to_owned),
            numeric_decimals,
            replace_null_with_default: boolean(config, "replace.null.with.default", true)?,
            entries_as_objects: false,
            unions: false,
        })
    }
}
