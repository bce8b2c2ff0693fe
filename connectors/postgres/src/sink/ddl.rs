//! The types of columns that are made for fields.

use tributary_sdk::arrow::schema::{DataType, FieldRef};
use tributary_sdk::batch::SCHEMA_NAME;

use super::datum::parameter;

/// Where a column's type comes from.
#[derive(Debug, Clone)]
pub(super) enum TypeSource {
    Schema(FieldRef),
    /// A value of a JSON document; `None`: there are only nulls.
    Json(Option<String>),
    Fixed(&'static str),
}

impl TypeSource {
    /// The type's name; `None` while it is not known.
    pub fn type_name(&self) -> Option<String> {
        match self {
            Self::Schema(field) => Some(of_field(field)),
            Self::Json(raw) => raw.as_deref().map(|raw| of_json(raw).to_owned()),
            Self::Fixed(name) => Some((*name).to_owned()),
        }
    }
}

fn of_json(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "text",
        Some(b't' | b'f') => "boolean",
        Some(b'{' | b'[') => "jsonb",
        _ if raw.parse::<i64>().is_ok() => "bigint",
        // Neither digits nor size are lost.
        _ => "numeric",
    }
}

fn of_field(field: &FieldRef) -> String {
    let name = field.metadata().get(SCHEMA_NAME).map_or("", String::as_str);
    let fixed = match (name, field.data_type()) {
        ("org.apache.kafka.connect.data.Decimal", _) => {
            let scale = parameter::<i32>(field, "scale").unwrap_or(0);
            return match parameter::<i32>(field, "connect.decimal.precision") {
                Some(precision) if (1..=1000).contains(&precision) && (0..=precision).contains(&scale) => {
                    format!("numeric({precision}, {scale})")
                }
                _ => "numeric".into(),
            };
        }
        ("io.debezium.data.VariableScaleDecimal", _) => "numeric",
        ("io.debezium.data.Uuid", _) => "uuid",
        ("io.debezium.data.Json", _) => "json",
        ("io.debezium.data.Xml", _) => "xml",
        ("io.debezium.data.Tsvector", _) => "tsvector",
        ("io.debezium.data.Bits", _) => "bit varying",
        ("io.debezium.data.geometry.Point", _) => "point",
        ("io.debezium.time.Date" | "io.debezium.time.IsoDate", _) => "date",
        (
            "io.debezium.time.Time"
            | "io.debezium.time.MicroTime"
            | "io.debezium.time.NanoTime"
            | "io.debezium.time.IsoTime",
            _,
        ) => "time",
        (
            "io.debezium.time.Timestamp"
            | "io.debezium.time.MicroTimestamp"
            | "io.debezium.time.NanoTimestamp"
            | "io.debezium.time.IsoTimestamp",
            _,
        ) => "timestamp",
        ("io.debezium.time.ZonedTimestamp", _) => "timestamptz",
        ("io.debezium.time.ZonedTime", _) => "timetz",
        ("io.debezium.time.MicroDuration" | "io.debezium.time.NanoDuration" | "io.debezium.time.Interval", _) => {
            "interval"
        }
        (_, DataType::Boolean) => "boolean",
        (_, DataType::Int8 | DataType::Int16) => "smallint",
        (_, DataType::Int32) => "integer",
        (_, DataType::Int64) => "bigint",
        (_, DataType::Float32) => "real",
        (_, DataType::Float64) => "double precision",
        (_, DataType::Binary) => "bytea",
        (_, DataType::Date32) => "date",
        (_, DataType::Time32(_)) => "time",
        (_, DataType::Timestamp(..)) => "timestamp",
        (_, DataType::List(item)) => {
            let item = of_field(item);
            // An array of arrays is one type with that of its items.
            return if item.ends_with("[]") { item } else { format!("{item}[]") };
        }
        (_, DataType::Struct(_) | DataType::Map(..)) => "jsonb",
        _ => "text",
    };
    fixed.into()
}
