//! From Connect's schemas to `.proto` text.

use std::fmt::Write;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use serde_json::Value;
use tributary_sdk::batch::SCHEMA_NAME;

use super::descriptor::well_known;
use super::names::*;
use super::options::Options;
use super::raw;
use crate::converter::json::{logical, parameters, type_name};
use crate::converter::within;

/// The schema of a whole key or value, and the message's full name.
pub fn root_schema(field: &Field, options: Options) -> Result<(String, String), String> {
    if let Some(message) = raw::message_of(field.data_type()).filter(|_| options.wrapper_for_raw && raw::is_raw(field))
    {
        // The whole file, as Confluent registers it: values name the message by its place in it.
        let text = well_known(WRAPPERS).ok_or("google/protobuf/wrappers.proto is missing")?;
        return Ok((text.to_owned(), message.to_owned()));
    }
    let DataType::Struct(fields) = field.data_type() else {
        return Err(format!(
            "a Protobuf value is a message, so that it has to be a struct, and this is {}; put it into one with the transform HoistField",
            type_name(field.data_type())
        ));
    };
    let mut writer = Writer { options, imports: Vec::new(), unnamed: 0 };
    let (package, name) =
        match field.metadata().get(SCHEMA_NAME).map(|name| name.rsplit_once('.').unwrap_or(("", name))) {
            Some((package, name)) => (package.to_owned(), scrubbed(name, options)),
            None => (String::new(), writer.unnamed()),
        };
    let mut body = String::new();
    writer.message(&name, fields, 0, &mut body)?;
    let mut text = "syntax = \"proto3\";\n".to_owned();
    if !package.is_empty() {
        let parts: Vec<_> = package.split('.').map(|part| scrubbed(part, options)).collect();
        let _ = writeln!(text, "package {};", parts.join("."));
    }
    if !writer.imports.is_empty() {
        text.push('\n');
        writer.imports.sort_unstable();
        for import in &writer.imports {
            let _ = writeln!(text, "import \"{import}\";");
        }
    }
    text.push('\n');
    text.push_str(&body);
    let full = if package.is_empty() { name } else { format!("{package}.{name}") };
    Ok((text, full))
}

/// A name that Protobuf allows, if names are mended.
pub fn scrubbed(name: &str, options: Options) -> String {
    if !options.scrub_names {
        return name.to_owned();
    }
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let mut mended: String = name.chars().map(allowed).collect();
    if mended.starts_with(|c: char| c.is_ascii_digit()) {
        mended.insert(0, '_');
    }
    mended
}

/// Whether a struct was a oneof, and what that was called.
pub fn oneof_of(field: &Field) -> Option<&str> {
    field.metadata().get(SCHEMA_NAME)?.strip_prefix(UNION)
}

/// Where the wrapper messages are.
const WRAPPERS: &str = "google/protobuf/wrappers.proto";

/// Where a field stands.
struct Place {
    number: u32,
    in_oneof: bool,
    depth: usize,
}

struct Writer {
    options: Options,
    imports: Vec<&'static str>,
    /// How many messages without a name there are.
    unnamed: usize,
}

impl Writer {
    fn unnamed(&mut self) -> String {
        self.unnamed += 1;
        format!("ConnectDefault{}", self.unnamed)
    }

    fn import(&mut self, path: &'static str) {
        if !self.imports.contains(&path) {
            self.imports.push(path);
        }
    }

    fn message(&mut self, name: &str, fields: &Fields, depth: usize, out: &mut String) -> Result<(), String> {
        let indent = "  ".repeat(depth);
        let _ = writeln!(out, "{indent}message {} {{", plain(name)?);
        let mut inside = String::new();
        let mut used: Vec<u32> = Vec::new();
        let stated =
            |field: &Field| parameters(field).get(TAG).and_then(Value::as_str).and_then(|tag| tag.parse().ok());
        let flat = || {
            fields.iter().flat_map(|field| match (oneof_of(field), field.data_type()) {
                (Some(_), DataType::Struct(members)) => members.iter().collect::<Vec<_>>(),
                _ => vec![field],
            })
        };
        used.extend(flat().filter_map(|field| stated(field)));
        let mut next = 0;
        let mut number = |field: &Field| {
            stated(field).unwrap_or_else(|| {
                loop {
                    next += 1;
                    // 19000 to 19999 are Protobuf's own.
                    if !used.contains(&next) && !(19_000..20_000).contains(&next) {
                        return next;
                    }
                }
            })
        };
        for field in fields {
            match (oneof_of(field), field.data_type()) {
                (Some(oneof), DataType::Struct(members)) => {
                    let _ = writeln!(out, "{indent}  oneof {} {{", plain(oneof)?);
                    for member in members {
                        let number = number(member);
                        self.field(member, Place { number, in_oneof: true, depth: depth + 2 }, out, &mut inside)?;
                    }
                    let _ = writeln!(out, "{indent}  }}");
                }
                _ => {
                    let number = number(field);
                    self.field(field, Place { number, in_oneof: false, depth: depth + 1 }, out, &mut inside)?;
                }
            }
        }
        if !inside.is_empty() {
            out.push('\n');
            out.push_str(&inside);
        }
        let _ = writeln!(out, "{indent}}}");
        Ok(())
    }

    /// One line; types that it needs go to `inside`, the message's own.
    fn field(&mut self, field: &Field, place: Place, out: &mut String, inside: &mut String) -> Result<(), String> {
        let Place { number, in_oneof, depth } = place;
        let name = scrubbed(field.name(), self.options);
        let inner = if in_oneof { depth - 1 } else { depth };
        let mut params = Vec::new();
        let mut word = "";
        let kind = match field.data_type() {
            DataType::List(item) => {
                word = "repeated ";
                if matches!(item.data_type(), DataType::List(_) | DataType::Map(..)) {
                    return Err(format!("Protobuf has no lists of lists or of maps, in field {name}"));
                }
                self.kind(item, &name, inner, inside, &mut params)?
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let key = self.kind(&pair[0], &name, inner, inside, &mut Vec::new())?;
                if !matches!(key.as_str(), "int32" | "int64" | "bool" | "string") {
                    return Err(format!("the keys of a Protobuf map cannot be of type {key}, in field {name}"));
                }
                if matches!(pair[1].data_type(), DataType::List(_) | DataType::Map(..)) {
                    return Err(format!("Protobuf has no maps of lists or of maps, in field {name}"));
                }
                format!("map<{key}, {}>", self.kind(&pair[1], &name, inner, inside, &mut params)?)
            }
            _ => {
                let kind = self.kind(field, &name, inner, inside, &mut params)?;
                match wrapper(&kind).filter(|_| field.is_nullable() && !in_oneof && self.options.wrapper_for_nullables)
                {
                    Some(wrapper) => {
                        self.import(WRAPPERS);
                        wrapper.to_owned()
                    }
                    None => {
                        // Without the word a null could not be told from 0 or an empty text; Confluent leaves it out by default.
                        if field.is_nullable() && !in_oneof && self.options.optional_for_nullables {
                            word = "optional ";
                        }
                        kind
                    }
                }
            }
        };
        let _ = write!(out, "{}{word}{kind} {} = {number}", "  ".repeat(depth), plain(&name)?);
        if !params.is_empty() {
            self.import("confluent/meta.proto");
            let pairs: Vec<_> =
                params.iter().map(|(key, value)| format!("{{ key: \"{key}\", value: \"{value}\" }}")).collect();
            let _ = write!(out, " [(confluent.field_meta) = {{ params: [{}] }}]", pairs.join(", "));
        }
        out.push_str(";\n");
        Ok(())
    }

    fn kind(
        &mut self,
        field: &Field,
        name: &str,
        depth: usize,
        inside: &mut String,
        params: &mut Vec<(&'static str, String)>,
    ) -> Result<String, String> {
        let schema_name = field.metadata().get(SCHEMA_NAME).map(String::as_str);
        Ok(match field.data_type() {
            DataType::Boolean => "bool",
            DataType::Int8 => {
                params.push((TYPE, "int8".to_owned()));
                "int32"
            }
            DataType::Int16 => {
                params.push((TYPE, "int16".to_owned()));
                "int32"
            }
            DataType::Int32 => "int32",
            DataType::Int64 => "int64",
            DataType::Float32 => "float",
            DataType::Float64 => "double",
            DataType::Utf8 => {
                let parameters = parameters(field);
                let Some(own) = parameters.get(ENUM).and_then(Value::as_str) else { return Ok("string".to_owned()) };
                let mut values: Vec<(i64, &str)> = parameters
                    .iter()
                    .filter_map(|(key, value)| {
                        Some((value.as_str()?.parse().ok()?, key.strip_prefix(ENUM)?.strip_prefix('.')?))
                    })
                    .collect();
                // The first of proto3 is 0.
                values.sort_unstable();
                let indent = "  ".repeat(depth);
                if !inside.contains(&format!("enum {own} {{")) {
                    let _ = writeln!(inside, "{indent}enum {} {{", plain(own)?);
                    for (number, symbol) in values {
                        let _ = writeln!(inside, "{indent}  {} = {number};", plain(symbol)?);
                    }
                    let _ = writeln!(inside, "{indent}}}");
                }
                return Ok(own.to_owned());
            }
            DataType::Binary if schema_name == Some(logical::DECIMAL) => {
                self.import("confluent/type/decimal.proto");
                let scale = parameters(field).get("scale").and_then(Value::as_str).unwrap_or("0").to_owned();
                params.push(("scale", scale));
                "confluent.type.Decimal"
            }
            DataType::Binary => "bytes",
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                self.import("google/protobuf/timestamp.proto");
                "google.protobuf.Timestamp"
            }
            DataType::Date32 => {
                self.import("google/type/date.proto");
                "google.type.Date"
            }
            DataType::Time32(TimeUnit::Millisecond) => {
                self.import("google/type/timeofday.proto");
                "google.type.TimeOfDay"
            }
            DataType::Struct(fields) => {
                let own = match schema_name {
                    Some(name) => scrubbed(name.rsplit('.').next().unwrap_or(name), self.options),
                    None => self.unnamed(),
                };
                if inside.contains(&format!("message {own} {{")) {
                    let mut again = String::new();
                    self.message(&own, fields, depth, &mut again)?;
                    if !inside.contains(&again) {
                        return Err(format!(
                            "there are two different schemas with the name {own}, in field {name}; rename one"
                        ));
                    }
                } else {
                    self.message(&own, fields, depth, inside).map_err(|error| within(name, error))?;
                }
                return Ok(own);
            }
            other => return Err(format!("Couldn't translate unsupported schema type {other}, in field {name}")),
        }
        .to_owned())
    }
}

/// The wrapper message of a primitive type.
fn wrapper(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "double" => "google.protobuf.DoubleValue",
        "float" => "google.protobuf.FloatValue",
        "int64" => "google.protobuf.Int64Value",
        "int32" => "google.protobuf.Int32Value",
        "bool" => "google.protobuf.BoolValue",
        "string" => "google.protobuf.StringValue",
        "bytes" => "google.protobuf.BytesValue",
        _ => return None,
    })
}

/// A name that needs no mending.
fn plain(name: &str) -> Result<&str, String> {
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match good {
        true => Ok(name),
        false => Err(format!("{name} is not a name that Protobuf allows; set scrub.invalid.names=true, or rename it")),
    }
}
