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
    /// A union of one type is that type.
    pub flatten_singletons: bool,
    /// Values have to keep all rules of their schema.
    pub validate: bool,
}

impl Options {
    /// Of the converter's own config.
    pub fn parse(config: &Config) -> Result<Self> {
        let json = JsonOptions::parse(config)?;
        Ok(Self {
            json: JsonOptions {
                entries_as_objects: true,
                unions: true,
                replace_null_with_default: json.replace_null_with_default
                    && !boolean(config, "ignore.default.for.nullables", false)?,
                ..json
            },
            additional_properties: boolean(config, "object.additional.properties", true)?,
            optional_for_nonrequired: boolean(config, "use.optional.for.nonrequired", false)?,
            generalized: boolean(config, "generalized.sum.type.support", false)?,
            flatten_singletons: boolean(config, "flatten.singleton.unions", true)?,
            validate: boolean(config, "json.fail.invalid.schema", false)?,
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
        .define(flag("generalized.sum.type.support", "false", "Whether enums and unions are marked as org.apache.kafka.connect.data.Enum and Union."))
        .define(flag("json.fail.invalid.schema", "false", "Whether values have to keep all rules of their schema (ranges, patterns, required members), when they are written and when they are read; otherwise only the types count."))
        .define(flag("ignore.default.for.nullables", "false", "Whether a null stays null in a field that has a default: as replace.null.with.default=false."))
        .define(flag("flatten.singleton.unions", "true", "Whether oneOf or anyOf of a single type is that type; otherwise a struct with one member."))
        .define(ConfigKey::optional("schemas.cache.config", Type::Int, "1000", Importance::Low, "Accepted; compiled schemas are bounded by themselves."))
}
