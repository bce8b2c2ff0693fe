//! The keys of `AvroConverter` beside the registry's.

use tributary_sdk::{Config, ConfigDef, ConfigKey, Importance, Result, Type};

use crate::converter::config::boolean;

/// The keys, parsed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What only Connect knows of a schema is kept in properties of the Avro schema.
    pub connect_meta_data: bool,
    /// Enums and unions are kept as such, and members of unions have full names.
    pub enhanced: bool,
    /// Enums and unions are marked in the way that all formats share.
    pub generalized: bool,
    /// Names that Avro does not allow are mended.
    pub scrub_names: bool,
    /// A null stays null in a field that has a default.
    pub ignore_defaults: bool,
}

impl Options {
    /// Of the converter's own config.
    pub fn parse(config: &Config) -> Result<Self> {
        Ok(Self {
            connect_meta_data: boolean(config, "connect.meta.data", true)?,
            enhanced: boolean(config, "enhanced.avro.schema.support", false)?,
            generalized: boolean(config, "generalized.sum.type.support", false)?,
            scrub_names: boolean(config, "scrub.invalid.names", false)?,
            ignore_defaults: boolean(config, "ignore.default.for.nullables", false)?,
        })
    }
}

/// The keys.
pub fn own_def() -> ConfigDef {
    let flag = |name: &str, default: &str, documentation: &str| {
        ConfigKey::optional(name, Type::Boolean, default, Importance::Low, documentation)
    };
    ConfigDef::new()
        .define(flag("connect.meta.data", "true", "Whether names, versions, parameters and defaults of Connect's schemas are kept as properties of the Avro schemas, connect.*."))
        .define(flag("enhanced.avro.schema.support", "false", "Whether enums stay enums, and members of unions are named by their full names."))
        .define(flag("generalized.sum.type.support", "false", "Whether enums and unions are marked as org.apache.kafka.connect.data.Enum and Union."))
        .define(flag("scrub.invalid.names", "false", "Whether characters that Avro does not allow in names become _."))
        .define(flag("ignore.default.for.nullables", "false", "Whether a null stays null in a field that is optional and has a default; otherwise it is written as the default."))
        .define(ConfigKey::optional("schemas.cache.config", Type::Int, "1000", Importance::Low, "Accepted; compiled schemas are bounded by themselves."))
}
