//! Single values on their way to another type, by Java's rules.

use std::borrow::Cow;

use super::cast::unsupported;
use crate::converter::json::syntax::Kind;
use crate::converter::json::{decimal, text};
use crate::transform::date_format::DateFormat;
use crate::transform::json::Json;

type Result<T> = std::result::Result<T, String>;

/// A type to cast to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Boolean,
    Text,
}

/// A value to cast.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar<'v> {
    Boolean(bool),
    Integer(i64),
    Single(f32),
    Double(f64),
    /// Decimal text.
    Decimal(String),
    Text(Cow<'v, str>),
}

impl Wanted {
    /// By Connect's name of the type, in any case.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "boolean" => Self::Boolean,
            "string" => Self::Text,
            kind @ ("bytes" | "array" | "map" | "struct") => {
                return Err(format!(
                    "Cast transformation does not support casting to {}; supported types are [INT8, INT16, INT32, INT64, FLOAT32, FLOAT64, BOOLEAN, STRING]",
                    kind.to_ascii_uppercase()
                ));
            }
            _ => return Err(format!("Invalid type found in casting spec: {name}")),
        })
    }
}

impl<'v> Scalar<'v> {
    /// Of a JSON value that is not null.
    pub fn of_json(value: &'v Json<'_>) -> Result<Self> {
        let Json::Text(raw) = value else {
            return Err(unsupported(if value.kind() == Kind::Array { "ARRAY" } else { "MAP" }));
        };
        Ok(match value.kind() {
            Kind::Boolean => Self::Boolean(raw == "true"),
            Kind::String => Self::Text(text::string_value(raw)),
            Kind::Number => match raw.parse() {
                Ok(whole) => Self::Integer(whole),
                Err(_) => Self::Double(raw.parse().map_err(|_| format!("{raw} is not a number"))?),
            },
            Kind::Array => return Err(unsupported("ARRAY")),
            _ => return Err(unsupported("MAP")),
        })
    }

    /// As JSON of the wanted type.
    pub fn cast_json(&self, wanted: Wanted) -> Result<Json<'static>> {
        let double = |value: f64, shown: String| {
            if value.is_finite() { Json::Text(shown.into()) } else { Json::string(&shown) }
        };
        Ok(match wanted {
            Wanted::Int8 => Json::integer(self.int8()?.into()),
            Wanted::Int16 => Json::integer(self.int16()?.into()),
            Wanted::Int32 => Json::integer(self.int32()?.into()),
            Wanted::Int64 => Json::integer(self.int64()?),
            Wanted::Float32 => {
                let value = self.float32()?;
                double(value.into(), text::java_single(value))
            }
            Wanted::Float64 => {
                let value = self.float64()?;
                double(value, text::java_double(value))
            }
            Wanted::Boolean => Json::text(if self.boolean()? { "true" } else { "false" }),
            Wanted::Text => Json::string(&self.text()?),
        })
    }

    /// As Java's `Number.byteValue` or `Byte.parseByte`.
    pub fn int8(&self) -> Result<i8> {
        // By way of int, as Java goes.
        self.narrow(|whole| whole as i8, |double| double as i32 as i8)
    }

    /// As Java's `Number.shortValue` or `Short.parseShort`.
    pub fn int16(&self) -> Result<i16> {
        self.narrow(|whole| whole as i16, |double| double as i32 as i16)
    }

    /// As Java's `Number.intValue` or `Integer.parseInt`.
    pub fn int32(&self) -> Result<i32> {
        self.narrow(|whole| whole as i32, |double| double as i32)
    }

    /// As Java's `Number.longValue` or `Long.parseLong`.
    pub fn int64(&self) -> Result<i64> {
        self.narrow(|whole| whole, |double| double as i64)
    }

    fn narrow<T: std::str::FromStr + From<bool>>(
        &self,
        whole: impl Fn(i64) -> T,
        double: impl Fn(f64) -> T,
    ) -> Result<T> {
        Ok(match self {
            Self::Boolean(value) => T::from(*value),
            Self::Integer(value) => whole(*value),
            Self::Single(value) => double(f64::from(*value)),
            Self::Double(value) => double(*value),
            Self::Decimal(text) => match decimal::whole_part(text) {
                Some(value) => whole(value),
                None => return Err(out_of_range(text)),
            },
            Self::Text(text) => text.parse().map_err(|_| out_of_range(text))?,
        })
    }

    /// As Java's `Number.floatValue` or `Float.parseFloat`.
    pub fn float32(&self) -> Result<f32> {
        Ok(match self {
            Self::Integer(value) => *value as f32,
            Self::Single(value) => *value,
            Self::Double(value) => *value as f32,
            Self::Text(text) => {
                java_float(text).and_then(|text| text.parse().ok()).ok_or_else(|| out_of_range(text))?
            }
            _ => self.float64()? as f32,
        })
    }

    /// As Java's `Number.doubleValue` or `Double.parseDouble`.
    pub fn float64(&self) -> Result<f64> {
        Ok(match self {
            Self::Boolean(value) => f64::from(u8::from(*value)),
            Self::Integer(value) => *value as f64,
            Self::Single(value) => f64::from(*value),
            Self::Double(value) => *value,
            Self::Decimal(text) => text.parse().map_err(|_| out_of_range(text))?,
            Self::Text(text) => {
                java_float(text).and_then(|text| text.parse().ok()).ok_or_else(|| out_of_range(text))?
            }
        })
    }

    /// Whether a number is not zero (its whole part), or a text is `true` in any case.
    pub fn boolean(&self) -> Result<bool> {
        Ok(match self {
            Self::Boolean(value) => *value,
            Self::Text(text) => text.eq_ignore_ascii_case("true"),
            _ => self.int64()? != 0,
        })
    }

    /// As Java's `toString`.
    pub fn text(&self) -> Result<String> {
        Ok(match self {
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Single(value) => text::java_single(*value),
            Self::Double(value) => text::java_double(*value),
            Self::Decimal(text) => text.clone(),
            Self::Text(text) => text.clone().into_owned(),
        })
    }
}

fn out_of_range(value: &str) -> String {
    format!("Value ({value}) was out of range for requested data type")
}

/// What Java's parser of floating-point text accepts and Rust's does not, and the other way round.
fn java_float(value: &str) -> Option<&str> {
    let value = value.trim();
    match value {
        "NaN" | "Infinity" | "+Infinity" | "-Infinity" => Some(value),
        _ if value.contains(['n', 'N', 'i', 'I']) => None,
        _ => Some(value.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(value)),
    }
}

/// A date or time as Kafka Connect writes it: the form depends on the value.
pub fn time_text(ms: i64) -> String {
    let pattern = match ms {
        ..86_400_000 => "HH:mm:ss.SSS'Z'",
        _ if ms % 86_400_000 == 0 => "yyyy-MM-dd",
        _ => "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
    };
    DateFormat::new(pattern).map(|format| format.format(ms)).unwrap_or_default()
}
