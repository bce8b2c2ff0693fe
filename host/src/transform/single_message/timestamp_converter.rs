//! `TimestampConverter`: a point in time as text, as a number, or as Connect's Date, Time or Timestamp.
//!
//! A value that is no such time refuses its record. Schemaless data has no dates: there, Date, Time and Timestamp are numbers of
//! milliseconds (Kafka Connect makes Java dates, which its JSON converter then cannot write).

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int64Type, Time32MillisecondType, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, Date32Array, Int64Array, StringArray, Time32MillisecondArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, TimeUnit};
use tributary_sdk::batch::SCHEMA_OPTIONAL;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{Column, ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::{SingleMessage, replace_nulls};
use crate::converter::json::{logical, timestamp_type, type_name};
use crate::transform::config::Settings;
use crate::transform::date_format::DateFormat;
use crate::transform::json::{Json, Key};
use crate::transform::part::{Opened, Outcome, Part, Side, Target, require_map};
use crate::transform::structs::is_optional;

const PURPOSE: &str = "converting timestamp formats";
const MS_PER_DAY: i64 = 86_400_000;

/// See the module's documentation.
pub struct TimestampConverter {
    target: Target,
    /// `None`: the whole key or value.
    field: Option<(String, Key<'static>)>,
    kind: Kind,
    format: Option<DateFormat>,
    precision: Precision,
    replace_nulls: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Unix,
    Date,
    Time,
    Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl TimestampConverter {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let one_of = |names: &[&str]| Validator::OneOf(names.iter().map(|&name| name.to_owned()).collect());
        let format = "The text's format, in the letters of Java's SimpleDateFormat; the time zone is UTC.";
        let precision = "What a number counts: seconds, milliseconds, microseconds or nanoseconds.";
        ConfigDef::new()
            .define(ConfigKey::optional(
                "field",
                Type::String,
                "",
                Importance::High,
                "The field; empty: the whole key or value.",
            ))
            .define(
                ConfigKey::required(
                    "target.type",
                    Type::String,
                    Importance::High,
                    "The new form: string, unix, Date, Time or Timestamp.",
                )
                .validator(one_of(&["string", "unix", "Date", "Time", "Timestamp"])),
            )
            .define(ConfigKey::optional("format", Type::String, "", Importance::Medium, format))
            .define(
                ConfigKey::optional("unix.precision", Type::String, "milliseconds", Importance::Low, precision)
                    .validator(one_of(&["nanoseconds", "microseconds", "milliseconds", "seconds"])),
            )
            .define(replace_nulls())
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let kind = match settings.text("target.type") {
            "string" => Kind::Text,
            "unix" => Kind::Unix,
            "Date" => Kind::Date,
            "Time" => Kind::Time,
            _ => Kind::Timestamp,
        };
        let pattern = settings.text("format");
        let format = match pattern.trim() {
            "" if kind == Kind::Text => {
                let message = "TimestampConverter requires format option to be specified when using string timestamps";
                return Err(Error::failed(message));
            }
            "" => None,
            _ => Some(DateFormat::new(pattern).map_err(|_| {
                Error::failed(format!(
                    "TimestampConverter requires a SimpleDateFormat-compatible pattern for string timestamps: {pattern}"
                ))
            })?),
        };
        let precision = match settings.text("unix.precision") {
            "seconds" => Precision::Seconds,
            "microseconds" => Precision::Micros,
            "nanoseconds" => Precision::Nanos,
            _ => Precision::Millis,
        };
        let field = match settings.text("field") {
            "" => None,
            name => Some((name.to_owned(), Key::new(name))),
        };
        let replace_nulls = settings.boolean("replace.null.with.default")?;
        Ok(Box::new(Self { target, field, kind, format, precision, replace_nulls }))
    }

    fn of_unix(&self, value: i64) -> i64 {
        match self.precision {
            Precision::Seconds => value.saturating_mul(1000),
            Precision::Millis => value,
            // Java's TimeUnit cuts towards zero.
            Precision::Micros => value / 1000,
            Precision::Nanos => value / 1_000_000,
        }
    }

    fn to_unix(&self, ms: i64) -> i64 {
        match self.precision {
            Precision::Seconds => ms / 1000,
            Precision::Millis => ms,
            Precision::Micros => ms.saturating_mul(1000),
            Precision::Nanos => ms.saturating_mul(1_000_000),
        }
    }

    fn of_text(&self, value: &str) -> std::result::Result<i64, String> {
        let format = self.format.as_ref().ok_or("a text timestamp needs the format option; set format")?;
        format.parse(value).ok_or_else(|| {
            format!("Could not parse timestamp: value ({value}) does not match pattern ({})", format.pattern())
        })
    }

    fn to_text(&self, ms: i64) -> String {
        self.format.as_ref().map(|format| format.format(ms)).unwrap_or_default()
    }

    fn convert_json(&self, value: &Json<'_>) -> std::result::Result<Json<'static>, String> {
        let ms = match (value.java_class(), value.as_str()) {
            ("null", _) => return Ok(Json::NULL),
            (_, Some(text)) => self.of_text(&text)?,
            ("java.lang.Long", _) => {
                let text = value.to_string();
                self.of_unix(text.parse().map_err(|_| format!("{text} is too large for a timestamp"))?)
            }
            (class, _) => {
                return Err(format!("TimestampConverter does not support class {class} objects as timestamps"));
            }
        };
        Ok(match self.kind {
            Kind::Text => Json::string(&self.to_text(ms)),
            Kind::Unix => Json::integer(self.to_unix(ms)),
            Kind::Date => Json::integer(ms - ms.rem_euclid(MS_PER_DAY)),
            Kind::Time => Json::integer(ms.rem_euclid(MS_PER_DAY)),
            Kind::Timestamp => Json::integer(ms),
        })
    }

    /// Milliseconds of each row; texts that are no time are refused.
    fn read_column(
        &self,
        field: &Field,
        column: &ArrayRef,
        refused: &mut Vec<(usize, String)>,
    ) -> std::result::Result<Vec<Option<i64>>, String> {
        let rows = |value: &dyn Fn(usize) -> i64| {
            (0..column.len()).map(|row| column.is_valid(row).then(|| value(row))).collect::<Vec<_>>()
        };
        Ok(match field.data_type() {
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                let values = column.as_primitive::<TimestampMillisecondType>().values();
                rows(&|row| values[row])
            }
            DataType::Date32 => {
                let values = column.as_primitive::<Date32Type>().values();
                rows(&|row| i64::from(values[row]) * MS_PER_DAY)
            }
            DataType::Time32(TimeUnit::Millisecond) => {
                let values = column.as_primitive::<Time32MillisecondType>().values();
                rows(&|row| i64::from(values[row]))
            }
            DataType::Int64 => {
                let values = column.as_primitive::<Int64Type>().values();
                rows(&|row| self.of_unix(values[row]))
            }
            DataType::Utf8 => {
                let texts = column.as_string::<i32>();
                let parse = |row: usize| {
                    if texts.is_null(row) {
                        return None;
                    }
                    Some(self.of_text(texts.value(row)).unwrap_or_else(|message| {
                        refused.push((row, message));
                        0
                    }))
                };
                (0..texts.len()).map(parse).collect()
            }
            other => {
                let found = type_name(other);
                return Err(format!("Schema {found} does not correspond to a known timestamp type format"));
            }
        })
    }

    fn convert_column(
        &self,
        field: &Field,
        column: &ArrayRef,
        refused: &mut Vec<(usize, String)>,
    ) -> std::result::Result<(Field, ArrayRef), String> {
        let times = self.read_column(field, column, refused)?.into_iter();
        let plain = |data_type| Field::new(field.name(), data_type, field.is_nullable());
        Ok(match self.kind {
            Kind::Text => {
                let texts: StringArray = times.map(|ms| Some(self.to_text(ms?))).collect();
                (plain(DataType::Utf8), Arc::new(texts))
            }
            Kind::Unix => {
                let numbers: Int64Array = times.map(|ms| Some(self.to_unix(ms?))).collect();
                (plain(DataType::Int64), Arc::new(numbers))
            }
            Kind::Date => {
                let days: Date32Array = times.map(|ms| i32::try_from(ms?.div_euclid(MS_PER_DAY)).ok()).collect();
                (logical::named(plain(DataType::Date32), logical::DATE), Arc::new(days))
            }
            Kind::Time => {
                let times: Time32MillisecondArray = times.map(|ms| Some(ms?.rem_euclid(MS_PER_DAY) as i32)).collect();
                (logical::named(plain(times.data_type().clone()), logical::TIME), Arc::new(times))
            }
            Kind::Timestamp => {
                let times: TimestampMillisecondArray = times.collect();
                let field = logical::named(plain(timestamp_type()), logical::TIMESTAMP);
                (field, Arc::new(times.with_timezone("UTC")))
            }
        })
    }
}

impl SingleMessage for TimestampConverter {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(self.target) {
            let part = part.edit_json(self.target, outcome, |_, json| {
                let Some(document) = json else { return Ok(()) };
                match &self.field {
                    None => *document = self.convert_json(document)?,
                    Some((_, key)) => {
                        let object = require_map(json, PURPOSE)?;
                        match object.get_mut(key) {
                            Some(value) => *value = self.convert_json(value)?,
                            None => object.set(key.borrowed(), Json::NULL),
                        }
                    }
                }
                Ok(())
            });
            return outcome.push(part);
        }
        let Some((name, _)) = &self.field else {
            let Opened::Column(column) = part.open(self.target) else { return outcome.push(part) };
            let (old, array) = (column.field().clone(), column.array().clone());
            let mut refused = Vec::new();
            return match self.convert_column(&old, &array, &mut refused) {
                Ok((field, array)) => {
                    let mut metadata = field.metadata().clone();
                    metadata.insert(SCHEMA_OPTIONAL.to_owned(), is_optional(&old).to_string());
                    let column = Column::new(field.with_name("").with_metadata(metadata), array);
                    part.set(self.target, Side::Column(column));
                    let part = part.refuse(refused, outcome);
                    outcome.push(part);
                }
                Err(message) => part.refuse_all(self.target, &message, outcome),
            };
        };
        part.edit_struct(self.target, PURPOSE, self.replace_nulls, outcome, |_, mut structs, refused| {
            if let Some(at) = structs.position(name) {
                let (field, array) = self.convert_column(&structs.fields[at], &structs.columns[at], refused)?;
                structs.set(field, array);
            }
            let optional = is_optional(&structs.field);
            Ok(super::cast::keep_optional(structs, optional))
        });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/timestamp_converter.json"));
    }
}
