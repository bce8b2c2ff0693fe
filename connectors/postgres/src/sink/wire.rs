//! How values go to the server: in the binary form of their column's type, or as a text of which the server makes the value.

use super::datum::{Datum, Kind, unquoted};
use super::number;
use super::text::{self, Purpose};

/// Microseconds from 1970 to 2000, where the server counts from.
const EPOCH: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i64 = 10_957;

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Text,
    Bytea,
    Uuid,
    Json,
    Jsonb,
    Date,
    Time,
    /// With and without zone: the same.
    Timestamp {
        zoned: bool,
    },
    Interval,
    Numeric,
    /// A text that the server casts.
    Cast(Purpose),
    /// A timestamp's text, whose zone the column does not have: it is that of UTC.
    Utc,
}

/// The form of values of a kind in a column whose type has this OID, or an array's or `hstore`'s.
pub(super) fn wire(kind: Kind, oid: u32, array: bool, hstore: bool) -> Wire {
    use Kind as K;
    match (oid, kind) {
        _ if array => Wire::Cast(Purpose::Array),
        _ if hstore => Wire::Cast(Purpose::Hstore),
        (16, K::Bool | K::Json) => Wire::Bool,
        (21, K::Int | K::Json) => Wire::Int2,
        (23, K::Int | K::Json) => Wire::Int4,
        (20, K::Int | K::Json) => Wire::Int8,
        (26, K::Int | K::Json) => Wire::Oid,
        (700, K::Int | K::Float | K::Json) => Wire::Float4,
        (701, K::Int | K::Float | K::Json) => Wire::Float8,
        (19 | 25 | 1042 | 1043, _) => Wire::Text,
        (17, K::Bytes | K::Json) => Wire::Bytea,
        (2950, K::Str | K::Json) => Wire::Uuid,
        (114, _) => Wire::Json,
        (3802, _) => Wire::Jsonb,
        (1082, K::Date | K::Timestamp) => Wire::Date,
        (1082 | 1114, K::Zoned) => Wire::Utc,
        (1082, _) => Wire::Cast(Purpose::Day),
        (1083, K::Time) => Wire::Time,
        (1083 | 1266, _) => Wire::Cast(Purpose::Clock),
        (1114, K::Timestamp | K::Date) => Wire::Timestamp { zoned: false },
        (1184, K::Timestamp | K::Date) => Wire::Timestamp { zoned: true },
        (1114 | 1184, _) => Wire::Cast(Purpose::Moment),
        (1186, K::Duration) => Wire::Interval,
        (1700, K::Decimal | K::Int) => Wire::Numeric,
        (1560, _) => Wire::Cast(Purpose::Bit),
        (1562, _) => Wire::Cast(Purpose::VarBit),
        _ => Wire::Cast(Purpose::Plain),
    }
}

impl Wire {
    /// The type of a column that takes the form.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Oid => "oid",
            Self::Float4 => "float4",
            Self::Float8 => "float8",
            Self::Text | Self::Cast(_) | Self::Utc => "text",
            Self::Bytea => "bytea",
            Self::Uuid => "uuid",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp { zoned: false } => "timestamp",
            Self::Timestamp { zoned: true } => "timestamptz",
            Self::Interval => "interval",
            Self::Numeric => "numeric",
        }
    }

    /// Appends a value with its length, as COPY wants it. The error says what is wrong, behind the column's name; what was appended then is
    /// of no use.
    pub fn write(self, out: &mut Vec<u8>, datum: &Datum<'_>) -> Result<(), String> {
        if let Datum::Null = datum {
            out.extend((-1i32).to_be_bytes());
            return Ok(());
        }
        let at = out.len();
        out.extend([0; 4]);
        self.write_value(out, datum)?;
        let length = i32::try_from(out.len() - at - 4).map_err(|_| "is larger than 2 GiB")?;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn write_value(self, out: &mut Vec<u8>, datum: &Datum<'_>) -> Result<(), String> {
        if let Datum::Beyond = datum {
            return Err(self.beyond());
        }
        match self {
            Self::Bool => match datum {
                Datum::Bool(value) => out.push((*value).into()),
                Datum::Json("true") => out.push(1),
                Datum::Json("false") => out.push(0),
                _ => return Err(self.misfit("is neither true nor false")),
            },
            Self::Int2 => out.extend(i16::try_from(self.integer(datum)?).map_err(|_| self.beyond())?.to_be_bytes()),
            Self::Int4 => out.extend(i32::try_from(self.integer(datum)?).map_err(|_| self.beyond())?.to_be_bytes()),
            Self::Int8 => out.extend(self.integer(datum)?.to_be_bytes()),
            Self::Oid => out.extend(u32::try_from(self.integer(datum)?).map_err(|_| self.beyond())?.to_be_bytes()),
            Self::Float4 => {
                let value = match datum {
                    Datum::F32(value) => *value,
                    other => {
                        let wide = self.float(other)?;
                        let narrow = wide as f32;
                        if wide.is_finite() && (narrow.is_infinite() || narrow == 0.0 && wide != 0.0) {
                            return Err(self.beyond());
                        }
                        narrow
                    }
                };
                out.extend(value.to_be_bytes());
            }
            Self::Float8 => out.extend(self.float(datum)?.to_be_bytes()),
            Self::Text => match datum {
                Datum::Str(value) | Datum::Document(value) => push_text(out, value)?,
                other => push_made(out, other, Purpose::Plain)?,
            },
            Self::Cast(purpose) => match datum {
                // What sources make of maps, where they make texts of them.
                Datum::Document(_) if purpose == Purpose::Hstore => push_made(out, datum, purpose)?,
                Datum::Str(value) | Datum::Document(value) => push_text(out, value)?,
                other => push_made(out, other, purpose)?,
            },
            Self::Utc => push_made(out, datum, Purpose::Moment)?,
            Self::Json => push_made(out, datum, Purpose::Json)?,
            Self::Jsonb => {
                out.push(1);
                push_made(out, datum, Purpose::Json)?;
            }
            Self::Bytea => match datum {
                Datum::Bytes(bytes) => out.extend_from_slice(bytes),
                Datum::Json(raw) => {
                    use base64::Engine;
                    let text = unquoted(raw).ok_or_else(|| self.misfit("is no text in base64"))?;
                    let bytes = base64::engine::general_purpose::STANDARD.decode(&*text);
                    out.extend(bytes.map_err(|_| self.misfit("is no text in base64"))?);
                }
                _ => return Err(self.misfit("is not of bytes")),
            },
            Self::Uuid => {
                let wrong = || self.misfit("is no UUID");
                match datum {
                    Datum::Str(text) => out.extend(uuid(text).ok_or_else(wrong)?),
                    Datum::Json(raw) => out.extend(unquoted(raw).and_then(|text| uuid(&text)).ok_or_else(wrong)?),
                    _ => return Err(wrong()),
                }
            }
            Self::Date => {
                let days = match datum {
                    Datum::Date(days) => *days,
                    Datum::Timestamp(i64::MAX) => i64::from(i32::MAX),
                    Datum::Timestamp(i64::MIN) => i64::from(i32::MIN),
                    Datum::Timestamp(micros) => micros.div_euclid(86_400_000_000),
                    _ => return Err(self.misfit("is no date")),
                };
                let days = match days {
                    // What sources make of infinity.
                    days if days == i64::from(i32::MAX) => i32::MAX,
                    days if days == i64::from(i32::MIN) => i32::MIN,
                    days => i32::try_from(days - EPOCH_DAYS).map_err(|_| self.beyond())?,
                };
                out.extend(days.to_be_bytes());
            }
            Self::Time => match datum {
                Datum::Time(micros @ 0..=86_400_000_000) => out.extend(micros.to_be_bytes()),
                Datum::Time(_) => return Err(self.beyond()),
                _ => return Err(self.misfit("is no time of day")),
            },
            Self::Timestamp { .. } => {
                let micros = match datum {
                    Datum::Timestamp(micros) => *micros,
                    Datum::Date(days) => days.checked_mul(86_400_000_000).ok_or_else(|| self.beyond())?,
                    _ => return Err(self.misfit("is no timestamp")),
                };
                let micros = match micros {
                    i64::MAX | i64::MIN => micros,
                    micros => micros.checked_sub(EPOCH).ok_or_else(|| self.beyond())?,
                };
                out.extend(micros.to_be_bytes());
            }
            Self::Interval => match datum {
                Datum::Duration(micros) => {
                    out.extend(micros.to_be_bytes());
                    out.extend([0; 8]);
                }
                _ => return Err(self.misfit("is no interval")),
            },
            Self::Numeric => match datum {
                Datum::Decimal(unscaled, scale) => {
                    number::encode(out, unscaled, *scale).ok_or_else(|| self.beyond())?
                }
                Datum::Int(value) => number::encode(out, &value.to_be_bytes(), 0).ok_or_else(|| self.beyond())?,
                _ => return Err(self.misfit("is no decimal")),
            },
        }
        Ok(())
    }

    fn integer(self, datum: &Datum<'_>) -> Result<i64, String> {
        match datum {
            Datum::Int(value) => Ok(*value),
            Datum::Json(raw) => raw.parse().map_err(|_| self.misfit("is no integer of the column's range")),
            _ => Err(self.misfit("is no integer")),
        }
    }

    fn float(self, datum: &Datum<'_>) -> Result<f64, String> {
        match datum {
            Datum::F64(value) => Ok(*value),
            Datum::F32(value) => Ok(f64::from(*value)),
            Datum::Int(value) => Ok(*value as f64),
            Datum::Json(raw) => match raw.parse::<f64>() {
                // JSON has no infinity: it is a number that is too large.
                Ok(value) if value.is_infinite() => Err(self.beyond()),
                Ok(value) => Ok(value),
                Err(_) => Err(self.misfit("is no number")),
            },
            _ => Err(self.misfit("is no number")),
        }
    }

    fn misfit(self, what: &str) -> String {
        format!("{what}, and the column is of type {}", self.type_name())
    }

    fn beyond(self) -> String {
        format!("is beyond the range of the column's type {}", self.type_name())
    }
}

/// The server's texts have no zero bytes.
fn push_text(out: &mut Vec<u8>, text: &str) -> Result<(), String> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err("has a character of code 0, which PostgreSQL does not store in text".into());
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn push_made(out: &mut Vec<u8>, datum: &Datum<'_>, purpose: Purpose) -> Result<(), String> {
    let mut made = String::new();
    text::write(&mut made, datum, purpose)?;
    push_text(out, &made)
}

/// With or without hyphens and braces, as the server reads them.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    let mut digits = text.bytes().filter(|byte| *byte != b'-').map(|byte| char::from(byte).to_digit(16));
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = (digits.next()?? * 16 + digits.next()??) as u8;
    }
    digits.next().is_none().then_some(bytes)
}
