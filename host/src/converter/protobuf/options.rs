//! The keys of `ProtobufConverter` beside the registry's.

use tributary_sdk::{Config, ConfigDef, ConfigKey, Importance, Result, Type};

use crate::converter::config::boolean;

/// The keys, parsed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Schemas have the messages' full names.
    pub enhanced: bool,
    /// Enums are numbers.
    pub int_for_enums: bool,
    /// Only fields with `optional` are optional.
    pub optional_for_nullables: bool,
    /// Optional primitives are wrapper messages.
    pub wrapper_for_nullables: bool,
    /// Keys and values that are wrapper messages are plain values.
    pub wrapper_for_raw: bool,
    /// The fields of a oneof are fields of the message's struct.
    pub flatten_unions: bool,
    /// The struct of a oneof has its number in its name.
    pub index_for_unions: bool,
    /// Optional fields of proto2 that were not written are null.
    pub optional_for_proto2: bool,
    /// Nothing but a oneof is null: what was not written has its default.
    pub struct_for_nulls: bool,
    /// A null stays null in a field that has a default.
    pub ignore_defaults: bool,
    /// Names that Protobuf does not allow are mended.
    pub scrub_names: bool,
}

impl Options {
    /// Of the converter's own config.
    pub fn parse(config: &Config) -> Result<Self> {
        Ok(Self {
            enhanced: boolean(config, "enhanced.protobuf.schema.support", false)?,
            int_for_enums: boolean(config, "int.for.enums", false)?,
            optional_for_nullables: boolean(config, "optional.for.nullables", false)?,
            wrapper_for_nullables: boolean(config, "wrapper.for.nullables", false)?,
            wrapper_for_raw: boolean(config, "wrapper.for.raw.primitives", true)?,
            flatten_unions: boolean(config, "flatten.unions", false)?,
            index_for_unions: boolean(config, "generate.index.for.unions", true)?,
            optional_for_proto2: boolean(config, "optional.for.proto2", true)?,
            struct_for_nulls: boolean(config, "generate.struct.for.nulls", false)?,
            ignore_defaults: boolean(config, "ignore.default.for.nullables", false)?,
            scrub_names: boolean(config, "scrub.invalid.names", false)?,
        })
    }
}

/// The keys.
pub fn own_def() -> ConfigDef {
    let flag = |name: &str, default: &str, documentation: &str| {
        ConfigKey::optional(name, Type::Boolean, default, Importance::Low, documentation)
    };
    ConfigDef::new()
        .define(flag("enhanced.protobuf.schema.support", "false", "Whether schemas have the full names of their messages, package included."))
        .define(flag("int.for.enums", "false", "Whether enums are read as numbers instead of their names."))
        .define(flag("optional.for.nullables", "false", "Whether fields with the word optional are the only primitive ones that are optional, and optional fields get it."))
        .define(flag("wrapper.for.nullables", "false", "Whether messages such as google.protobuf.StringValue are read as optional primitives, and optional primitives are written as such."))
        .define(flag("wrapper.for.raw.primitives", "true", "Whether keys and values that are plain texts, numbers, booleans or bytes are written as messages such as google.protobuf.StringValue, and such messages are read as plain values."))
        .define(flag("flatten.unions", "false", "Whether the fields of a oneof are read as optional fields of the message itself, instead of a struct of their own."))
        .define(flag("generate.index.for.unions", "true", "Whether the field of a oneof has _ and the oneof's number behind its name."))
        .define(flag("optional.for.proto2", "true", "Whether a field of proto2 that is optional and was not written is null; otherwise it is its default."))
        .define(flag("generate.struct.for.nulls", "false", "Whether messages and optional fields that were not written are read as their defaults instead of null."))
        .define(flag("ignore.default.for.nullables", "false", "Whether a null stays null in a field that has a default; otherwise it is written as the default."))
        .define(flag("scrub.invalid.names", "false", "Whether characters that Protobuf does not allow in names become _."))
        .define(ConfigKey::optional("schemas.cache.config", Type::Int, "1000", Importance::Low, "Accepted; compiled schemas are bounded by themselves."))
}
