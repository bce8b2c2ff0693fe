//! Which of Connect's types a column has: Debezium's mapping.

use std::collections::HashMap;

use serde_json::json;
use tributary_sdk::arrow::schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use tributary_sdk::batch::{SCHEMA_DOC, SCHEMA_NAME, SCHEMA_PARAMETERS, SCHEMA_VERSION};

use crate::cdc::catalog::{Sort, TypeInfo, Types};
use crate::config::{BinaryMode, DecimalMode, HstoreMode, IntervalMode, TimeMode, ValueModes};

/// How texts become values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Bool,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Text,
    /// `bytea` as bytes.
    Bytes,
    /// `bytea` as text.
    BytesText(BinaryMode),
    /// The text's own bytes: of a type that is not known.
    Opaque,
    /// The same as text.
    OpaqueText(BinaryMode),
    Decimal(usize),
    /// `numeric` as text, with so many digits behind the point.
    DecimalText(usize),
    /// A scale in each value.
    VariableDecimal,
    /// One bit.
    Bit,
    Bits,
    /// Days since 1970.
    Date,
    /// Time of day, divided by so many microseconds.
    Time(i64),
    /// The same in nanoseconds.
    TimeNanos,
    TimeIso,
    TimeTz,
    Timestamp(i64),
    TimestampNanos,
    TimestampIso,
    /// With so many digits of the second.
    TimestampTz(u8),
    DateIso,
    IntervalMicros,
    IntervalText,
    Point,
    HstoreJson,
    HstoreMap,
    /// An array; its items are of the kind, behind this delimiter.
    List(Box<ColumnType>, u8),
}

/// A column's type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnType {
    pub kind: Kind,
    pub data_type: DataType,
    pub metadata: HashMap<String, String>,
}

impl ColumnType {
    fn new(kind: Kind, data_type: DataType) -> Self {
        Self { kind, data_type, metadata: HashMap::new() }
    }

    /// With a schema's name, version 1.
    fn named(kind: Kind, data_type: DataType, name: &str) -> Self {
        let mut this = Self::new(kind, data_type);
        this.metadata.insert(SCHEMA_NAME.into(), name.into());
        this.metadata.insert(SCHEMA_VERSION.into(), "1".into());
        this
    }

    fn parameters(mut self, parameters: serde_json::Value) -> Self {
        self.metadata.insert(SCHEMA_PARAMETERS.into(), parameters.to_string());
        self
    }

    fn documented(mut self, text: &str) -> Self {
        self.metadata.insert(SCHEMA_DOC.into(), text.into());
        self
    }

    /// Whether there is something that can stand for a value that was not sent.
    pub fn has_placeholder(&self) -> bool {
        match (&self.kind, &self.data_type) {
            (Kind::HstoreMap, _) | (_, DataType::Utf8) => true,
            (Kind::Decimal(_) | Kind::Bits, _) => false,
            (Kind::List(item, _), _) => item.data_type == DataType::Utf8,
            (_, other) => *other == DataType::Binary,
        }
    }

    /// As a field of a row.
    pub fn field(&self, name: &str, optional: bool) -> FieldRef {
        Field::new(name, self.data_type.clone(), optional).with_metadata(self.metadata.clone()).into()
    }
}

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// The type of a column by its type's OID and modifier (-1: none). `Ok(None)`: it is not known, and left out. The error says what to do.
pub(crate) fn column_type(
    types: &Types,
    oid: u32,
    modifier: i32,
    modes: &ValueModes,
) -> Result<Option<ColumnType>, String> {
    use DataType as D;
    let utf8 = |kind, name| ColumnType::named(kind, D::Utf8, name);
    Ok(Some(match oid {
        16 => ColumnType::new(Kind::Bool, D::Boolean),
        21 => ColumnType::new(Kind::Int16, D::Int16),
        23 => ColumnType::new(Kind::Int32, D::Int32),
        // int8, oid, xid
        20 | 26 | 28 => ColumnType::new(Kind::Int64, D::Int64),
        700 => ColumnType::new(Kind::Float32, D::Float32),
        701 => ColumnType::new(Kind::Float64, D::Float64),
        // char, name, text, bpchar, varchar, inet, cidr, macaddr, macaddr8
        18 | 19 | 25 | 1042 | 1043 | 869 | 650 | 829 | 774 => ColumnType::new(Kind::Text, D::Utf8),
        17 => binary(modes.binary),
        790 => {
            return Err("has the type money, whose text depends on the server's locale: change the column to numeric, or leave it out with column.exclude.list".into());
        }
        1700 => numeric(modifier, modes.decimal),
        1560 if modifier == 1 || modifier == -1 => ColumnType::new(Kind::Bit, D::Boolean),
        1560 | 1562 => {
            let length = if modifier < 0 { i32::MAX } else { modifier };
            ColumnType::named(Kind::Bits, D::Binary, "io.debezium.data.Bits")
                .parameters(json!({"length": length.to_string()}))
        }
        1082 => date(modes.time),
        1083 => time(modifier, modes.time),
        1114 => timestamp(modifier, modes.time),
        1184 => utf8(Kind::TimestampTz(digits(modifier) as u8), "io.debezium.time.ZonedTimestamp"),
        1266 => utf8(Kind::TimeTz, "io.debezium.time.ZonedTime"),
        1186 if modes.interval == IntervalMode::Text => utf8(Kind::IntervalText, "io.debezium.time.Interval"),
        1186 => ColumnType::named(Kind::IntervalMicros, D::Int64, "io.debezium.time.MicroDuration"),
        2950 => utf8(Kind::Text, "io.debezium.data.Uuid"),
        114 | 3802 => utf8(Kind::Text, "io.debezium.data.Json"),
        142 => utf8(Kind::Text, "io.debezium.data.Xml"),
        3614 => utf8(Kind::Text, "io.debezium.data.Tsvector"),
        600 => ColumnType::named(Kind::Point, D::Struct(point_fields()), "io.debezium.data.geometry.Point")
            .documented("Geometry (POINT)"),
        other => match types.get(other) {
            Some(info) => return by_catalog(types, info, modifier, modes),
            None if modes.unknown => opaque(modes.binary),
            None => return Ok(None),
        },
    }))
}

fn by_catalog(types: &Types, info: &TypeInfo, modifier: i32, modes: &ValueModes) -> Result<Option<ColumnType>, String> {
    use DataType as D;
    let utf8 = |kind, name| ColumnType::named(kind, D::Utf8, name);
    Ok(Some(match &info.sort {
        Sort::Domain { base, modifier } => return column_type(types, *base, *modifier, modes),
        Sort::Enum(labels) => {
            utf8(Kind::Text, "io.debezium.data.Enum").parameters(json!({"allowed": labels.join(",")}))
        }
        Sort::Array { item, delimiter } => {
            let Some(item) = column_type(types, *item, modifier, modes)? else { return Ok(None) };
            let field = item.field("item", true);
            ColumnType::new(Kind::List(Box::new(item), *delimiter), D::List(field))
        }
        Sort::Range => ColumnType::new(Kind::Text, D::Utf8),
        Sort::Other => match &*info.name {
            "citext" => ColumnType::new(Kind::Text, D::Utf8),
            "ltree" => utf8(Kind::Text, "io.debezium.data.Ltree"),
            "hstore" if modes.hstore == HstoreMode::Map => {
                let pair =
                    [("key", false), ("value", true)].map(|(name, optional)| Field::new(name, D::Utf8, optional));
                let entries = Field::new("entries", D::Struct(Fields::from(pair.to_vec())), false);
                ColumnType::new(Kind::HstoreMap, D::Map(entries.into(), false))
            }
            "hstore" => utf8(Kind::HstoreJson, "io.debezium.data.Json"),
            _ if modes.unknown => opaque(modes.binary),
            _ => return Ok(None),
        },
    }))
}

fn binary(mode: BinaryMode) -> ColumnType {
    match mode {
        BinaryMode::Bytes => ColumnType::new(Kind::Bytes, DataType::Binary),
        mode => ColumnType::new(Kind::BytesText(mode), DataType::Utf8),
    }
}

/// What is not known.
fn opaque(mode: BinaryMode) -> ColumnType {
    match mode {
        BinaryMode::Bytes => ColumnType::new(Kind::Opaque, DataType::Binary),
        mode => ColumnType::new(Kind::OpaqueText(mode), DataType::Utf8),
    }
}

fn numeric(modifier: i32, mode: DecimalMode) -> ColumnType {
    let (precision, scale) = ((modifier - 4) >> 16 & 0xffff, (modifier - 4) & 0x7ff);
    let fixed = modifier >= 4 && scale & 0x400 == 0;
    match mode {
        DecimalMode::Double => return ColumnType::new(Kind::Float64, DataType::Float64),
        DecimalMode::Text => {
            let digits = if fixed { scale as usize } else { 0 };
            return ColumnType::new(Kind::DecimalText(digits), DataType::Utf8);
        }
        DecimalMode::Precise => {}
    }
    // A scale below zero, or above the precision, is rare; there each value has its own.
    if !fixed {
        return ColumnType::named(
            Kind::VariableDecimal,
            DataType::Struct(variable_decimal_fields()),
            "io.debezium.data.VariableScaleDecimal",
        )
        .documented("Variable scaled decimal");
    }
    ColumnType::named(Kind::Decimal(scale as usize), DataType::Binary, DECIMAL)
        .parameters(json!({"scale": scale.to_string(), "connect.decimal.precision": precision.to_string()}))
}

pub(super) fn variable_decimal_fields() -> Fields {
    vec![Field::new("scale", DataType::Int32, false), Field::new("value", DataType::Binary, false)].into()
}

pub(super) fn point_fields() -> Fields {
    vec![
        Field::new("x", DataType::Float64, false),
        Field::new("y", DataType::Float64, false),
        Field::new("wkb", DataType::Binary, true),
        Field::new("srid", DataType::Int32, true),
    ]
    .into()
}

fn date(mode: TimeMode) -> ColumnType {
    match mode {
        TimeMode::Connect => ColumnType::new(Kind::Date, DataType::Date32),
        TimeMode::Iso => ColumnType::named(Kind::DateIso, DataType::Utf8, "io.debezium.time.IsoDate"),
        _ => ColumnType::named(Kind::Date, DataType::Int32, "io.debezium.time.Date"),
    }
}

/// Digits of the second that a column keeps.
fn digits(modifier: i32) -> i32 {
    if modifier < 0 { 6 } else { modifier }
}

fn time(modifier: i32, mode: TimeMode) -> ColumnType {
    match mode {
        TimeMode::Connect => ColumnType::new(Kind::Time(1000), DataType::Time32(TimeUnit::Millisecond)),
        TimeMode::Iso => ColumnType::named(Kind::TimeIso, DataType::Utf8, "io.debezium.time.IsoTime"),
        TimeMode::Nanos => ColumnType::named(Kind::TimeNanos, DataType::Int64, "io.debezium.time.NanoTime"),
        TimeMode::Adaptive if digits(modifier) <= 3 => {
            ColumnType::named(Kind::Time(1000), DataType::Int32, "io.debezium.time.Time")
        }
        _ => ColumnType::named(Kind::Time(1), DataType::Int64, "io.debezium.time.MicroTime"),
    }
}

fn timestamp(modifier: i32, mode: TimeMode) -> ColumnType {
    match mode {
        TimeMode::Connect => ColumnType::new(Kind::Timestamp(1000), DataType::Timestamp(TimeUnit::Millisecond, None)),
        TimeMode::Iso => ColumnType::named(Kind::TimestampIso, DataType::Utf8, "io.debezium.time.IsoTimestamp"),
        TimeMode::Nanos => ColumnType::named(Kind::TimestampNanos, DataType::Int64, "io.debezium.time.NanoTimestamp"),
        TimeMode::Adaptive | TimeMode::AdaptiveMicros if digits(modifier) <= 3 => {
            ColumnType::named(Kind::Timestamp(1000), DataType::Int64, "io.debezium.time.Timestamp")
        }
        _ => ColumnType::named(Kind::Timestamp(1), DataType::Int64, "io.debezium.time.MicroTimestamp"),
    }
}
