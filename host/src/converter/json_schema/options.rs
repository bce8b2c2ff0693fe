//! The keys of `JsonSchemaConverter` beside the registry's.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Importance, Result, Type};

use crate::converter::config::boolean;
use crate::converter::json::Options as JsonOptions;

/// The keys, parsed.
#[derive(Debug, Clone)]
pub struct Options {
    /// How values are read and written.
    pub json: JsonOptions,
    /// Structs may have further members.
    pub additional_properties: bool,
    /// Properties that are not required are optional.
    pub optional_for_nonrequired: bool,
    /// Enums are marked in the way that all formats share.
    pub generalized: bool,
}

impl Options {
    /// Of the converter's own config.
    pub fn parse(config: &Config) -> Result<Self> {
        Ok(Self {
            json: JsonOptions { entries_as_objects: true, ..JsonOptions::parse(config)? },
            additional_properties: boolean(config, "object.additional.properties", true)?,
            optional_for_nonrequired: boolean(config, "use.optional.for.nonrequired", false)?,
            generalized: boolean(config, "generalized.sum.type.support", false)?,
        })
    }
}

/// The keys.
pub fn own_def() -> ConfigDef {
    let flag = |name: &str, default: &str, documentation: &str| {
        ConfigKey::optional(name, Type::Boolean, default, Importance::Medium, documentation)
    };
    ConfigDef::new()
        .define(ConfigKey::optional("decimal.format", Type::String, "BASE64", Importance::Low,
            "How decimals are written: BASE64 (of the unscaled bytes) or NUMERIC, in any case.")
            .validator(Validator::OneOfIgnoreCase(vec!["BASE64".to_owned(), "NUMERIC".to_owned()])))
        .define(flag("replace.null.with.default", "true", "Whether a null in a field that has a default becomes the default."))
        .define(flag("object.additional.properties", "true", "Whether the schemas of structs allow members that they do not name."))
        .define(flag("use.optional.for.nonrequired", "false", "Whether a property that a schema does not require is optional."))
        .define(flag("generalized.sum.type.support", "false", "Whether enums are marked as org.apache.kafka.connect.data.Enum."))
        .define(flag("json.fail.invalid.schema", "false", "Accepted: values are always written and read by the types of the schema; its further rules (ranges, patterns) are not checked. The transform Validate does that."))
        .define(ConfigKey::optional("schemas.cache.config", Type::Int, "1000", Importance::Low, "Accepted; compiled schemas are bounded by themselves."))
}
