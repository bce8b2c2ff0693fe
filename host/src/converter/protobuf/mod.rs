//! `ProtobufConverter`: Protobuf with a schema registry, in Confluent's mapping.
//!
//! `.proto` text is read by [`parse`] and its names are found by [`descriptor`]; messages become Connect's structs by
//! [`to_connect`] and structs messages by [`from_connect`]. Values are read from the wire straight into columns ([`decode`]) and
//! written from columns ([`encode`]). Messages that contain themselves, groups and extensions have no columns: the first are
//! refused, the others are skipped in values.

mod decode;
mod descriptor;
mod encode;
mod format;
mod from_connect;
mod options;
mod parse;
mod raw;
mod to_connect;
mod wire;

pub use format::ProtobufFormat;

#[cfg(test)]
mod tests;

/// Names that Confluent's mapping gives.
mod names {
    /// Parameter of a field: its number.
    pub const TAG: &str = "io.confluent.connect.protobuf.Tag";
    /// Parameter of a string that is an enum, and with `.SYMBOL` behind it, its symbols' numbers.
    pub const ENUM: &str = "io.confluent.connect.protobuf.Enum";
    /// Name of a struct that is a oneof, before the oneof's own.
    pub const UNION: &str = "io.confluent.connect.protobuf.Union.";
    /// Parameter of a field: Connect's type, where Protobuf has none such.
    pub const TYPE: &str = "connect.type";
}
