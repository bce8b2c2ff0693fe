//! Names that Confluent's mapping gives.

/// Property of a schema: the Connect schema's name.
pub const CONNECT_NAME: &str = "connect.name";
/// Property of a schema: the Connect schema's version.
pub const CONNECT_VERSION: &str = "connect.version";
/// Property of a schema: the Connect schema's documentation.
pub const CONNECT_DOC: &str = "connect.doc";
/// Property of a schema: the Connect schema's parameters.
pub const CONNECT_PARAMETERS: &str = "connect.parameters";
/// Property of a schema: the Connect schema's default.
pub const CONNECT_DEFAULT: &str = "connect.default";
/// Property of an int: `int8` or `int16`.
pub const CONNECT_TYPE: &str = "connect.type";
/// Property of an array's items: they are entries of a map.
pub const INTERNAL_TYPE: &str = "connect.internal.type";
/// The value of that.
pub const MAP_ENTRY: &str = "MapEntry";
/// Where names that Connect does not know live.
pub const NAMESPACE: &str = "io.confluent.connect.avro";
/// The name of records without one.
pub const DEFAULT_RECORD: &str = "ConnectDefault";
/// Parameter of a string: the Avro enum it was, and with `.SYMBOL` behind it, its symbols.
pub const ENUM: &str = "io.confluent.connect.avro.Enum";
/// Name of a struct that was a union.
pub const UNION: &str = "io.confluent.connect.avro.Union";
/// As [`ENUM`], with `generalized.sum.type.support`.
pub const GENERAL_ENUM: &str = "org.apache.kafka.connect.data.Enum";
/// As [`UNION`], a parameter, with `generalized.sum.type.support`.
pub const GENERAL_UNION: &str = "org.apache.kafka.connect.data.Union";
/// What a member of such a union is called, before its number.
pub const GENERAL_UNION_FIELD: &str = "connect_union_field_";
/// Parameter of a Decimal: its precision, if that is not [`DEFAULT_PRECISION`].
pub const PRECISION: &str = "connect.decimal.precision";
/// The precision of Decimals that state none.
pub const DEFAULT_PRECISION: u64 = 64;
/// Parameter of bytes: they have this length, always.
pub const FIXED_SIZE: &str = "connect.fixed.size";
