//! `JsonSchemaConverter`: JSON values with a JSON Schema in a schema registry, in Confluent's mapping.
//!
//! Schemas are read by [`to_connect`] and made by [`from_connect`]; values are read and written as `JsonConverter` does it,
//! without envelopes. `oneOf` and `anyOf` of several types are structs with a member each; recursive schemas have no columns and are refused.

mod format;
mod from_connect;
mod options;
mod rules;
mod to_connect;

pub use format::JsonSchemaFormat;

#[cfg(test)]
mod tests;

/// Properties of a schema that only Connect knows.
mod names {
    /// Connect's type, where JSON's says less.
    pub const TYPE: &str = "connect.type";
    /// The place of a field in its struct.
    pub const INDEX: &str = "connect.index";
    /// The schema's version.
    pub const VERSION: &str = "connect.version";
    /// The schema's parameters.
    pub const PARAMETERS: &str = "connect.parameters";
    /// Parameter of a string that is an enum.
    pub const ENUM: &str = "io.confluent.connect.json.Enum";
    /// As [`ENUM`], with `generalized.sum.type.support`.
    pub const GENERAL_ENUM: &str = "org.apache.kafka.connect.data.Enum";
}
