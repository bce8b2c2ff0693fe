//! Texts to typed values, as Kafka reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ConfigDef, ConfigKey, DefaultValue, Type, Validator, hash_order};
use crate::config::Config;
use crate::errors::{Error, Result};
use crate::pattern::Pattern;

/// A value of a key's type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Text(String),
    List(Vec<String>),
    Password(String),
}

impl Value {
    /// Reads `text` as Kafka does. The error is Kafka's, without the part that names value and key.
    pub fn parse(kind: Type, text: &str) -> std::result::Result<Self, String> {
        let trimmed = text.trim();
        let number = |name: &str| format!("Not a number of type {name}");
        match kind {
            Type::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Self::Boolean(true)),
            Type::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Self::Boolean(false)),
            Type::Boolean => Err("Expected value to be either true or false".into()),
            Type::String | Type::Class => Ok(Self::Text(trimmed.to_owned())),
            Type::Password => Ok(Self::Password(trimmed.to_owned())),
            Type::Short => trimmed.parse::<i16>().map(|n| Self::Integer(n.into())).map_err(|_| number("SHORT")),
            Type::Int => trimmed.parse::<i32>().map(|n| Self::Integer(n.into())).map_err(|_| number("INT")),
            Type::Long => trimmed.parse::<i64>().map(Self::Integer).map_err(|_| number("LONG")),
            Type::Double => java_double(trimmed).map(Self::Double).ok_or_else(|| number("DOUBLE")),
            Type::List if trimmed.is_empty() => Ok(Self::List(Vec::new())),
            Type::List => Ok(Self::List(trimmed.split(',').map(|item| item.trim().to_owned()).collect())),
        }
    }

    /// As REST shows it; `None` for null. Passwords stay hidden.
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Boolean(value) => Some(value.to_string()),
            Self::Integer(value) => Some(value.to_string()),
            Self::Double(value) => Some(shown_double(*value)),
            Self::Text(text) => Some(text.clone()),
            Self::List(items) => Some(items.join(",")),
            Self::Password(_) => Some("[hidden]".into()),
        }
    }
}

/// Java reads a suffix of `f` or `d`, and spells out the special values in one way only.
fn java_double(text: &str) -> Option<f64> {
    let bare = text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text);
    match bare.trim_start_matches(['+', '-']) {
        "NaN" | "Infinity" => bare.parse().ok(),
        digits if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => bare.parse().ok(),
        _ => None,
    }
}

/// Java's text of a double: always with a point, with an exponent outside of 10⁻³ to 10⁷.
pub(super) fn shown_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        let text = format!("{value:E}");
        let (digits, exponent) = text.split_once('E').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        return format!("{digits}{point}E{exponent}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

impl ConfigKey {
    /// The value in `config` or the default. A value that does not parse is null, and the errors say why, in Kafka's words.
    pub(super) fn evaluate(&self, config: &Config) -> (Value, Vec<String>) {
        self.evaluate_as(config, &self.name)
    }

    /// The same, where the validator's messages call the key `short`: Kafka takes the prefix of embedded keys away there.
    pub(super) fn evaluate_as(&self, config: &Config, short: &str) -> (Value, Vec<String>) {
        let mut errors = Vec::new();
        let mut parse = |text: &str| {
            Value::parse(self.kind, text).unwrap_or_else(|why| {
                errors.push(format!("Invalid value {text} for configuration {}: {why}", self.name));
                Value::Null
            })
        };
        let value = match (config.get(&self.name), &self.default) {
            (Some(text), _) => parse(text),
            (None, DefaultValue::Value(text)) => parse(text),
            (None, DefaultValue::Null) => Value::Null,
            (None, DefaultValue::Required) => {
                errors.push(format!("Missing required configuration \"{}\" which has no default value.", self.name));
                Value::Null
            }
        };
        // Kafka asks the validator also about the null that a bad value leaves, and shows both messages.
        if let Some(error) = self.validator.as_ref().and_then(|validator| validator.check(self, short, &value)) {
            errors.push(error);
        }
        (value, errors)
    }
}

impl Validator {
    fn check(&self, key: &ConfigKey, name: &str, value: &Value) -> Option<String> {
        let invalid = |why: String| {
            let shown = match value {
                Value::List(items) => format!("[{}]", items.join(", ")),
                other => other.shown().unwrap_or_else(|| "null".into()),
            };
            Some(format!("Invalid value {shown} for configuration {name}: {why}"))
        };
        match (self, value) {
            (Self::Range { .. }, Value::Null) => invalid("Value must be non-null".into()),
            (Self::Range { min, max }, Value::Integer(_) | Value::Double(_)) => {
                let number = match value {
                    Value::Integer(number) => *number as f64,
                    Value::Double(number) => *number,
                    _ => return None,
                };
                match (min, max) {
                    (Some(min), _) if number < *min => invalid(format!("Value must be at least {}", key.bound(*min))),
                    (_, Some(max)) if number > *max => {
                        invalid(format!("Value must be no more than {}", key.bound(*max)))
                    }
                    _ => None,
                }
            }
            (Self::OneOf(allowed), Value::List(items)) => {
                if let Some(odd) = indistinct(name, items) {
                    return Some(odd);
                }
                let odd = items.iter().find(|item| !allowed.contains(item))?;
                let allowed = allowed.join(", ");
                Some(format!("Invalid value {odd} for configuration {name}: String must be one of: {allowed}"))
            }
            // A key that may be left out has no value that could be among them.
            (Self::OneOf(_) | Self::OneOfIgnoreCase(_), Value::Null) if key.default == DefaultValue::Null => None,
            (Self::OneOf(allowed), _) if !matches!(value, Value::Text(text) if allowed.contains(text)) => {
                invalid(format!("String must be one of: {}", allowed.join(", ")))
            }
            (Self::OneOfIgnoreCase(allowed), _) => {
                let fits = |text: &String| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(text));
                match value {
                    Value::Text(text) if fits(text) => None,
                    _ => {
                        let allowed: Vec<_> = allowed.iter().map(|value| value.to_uppercase()).collect();
                        let allowed = hash_order(allowed.iter().map(String::as_str)).join(", ");
                        invalid(format!("String must be one of (case insensitive): {allowed}"))
                    }
                }
            }
            (Self::NonEmpty, Value::Text(text) | Value::Password(text)) if text.is_empty() => {
                invalid("String must be non-empty".into())
            }
            (Self::NonEmpty | Self::Distinct, Value::Null) if key.kind == Type::List => {
                Some(format!("Configuration '{name}' values must not be null."))
            }
            (Self::NonEmpty, Value::List(items)) if items.is_empty() => {
                Some(format!("Configuration '{name}' must not be empty. Valid values include: any non-empty value"))
            }
            (Self::NonEmpty | Self::Distinct, Value::List(items)) => indistinct(name, items),
            (Self::NonEmptyList, Value::Null) => invalid("Empty list".into()),
            (Self::NonEmptyList, Value::List(items)) if items.is_empty() => invalid("Empty list".into()),
            (Self::NonNull | Self::Aliases, Value::Null) => invalid("entry must be non null".into()),
            (Self::Aliases, Value::List(items)) if repeated(items) => invalid("Duplicate alias provided.".into()),
            (Self::Name, Value::Text(text)) if text.is_empty() => invalid("String may not be empty".into()),
            (Self::Name, Value::Text(text)) => {
                let odd: Vec<_> = text.chars().filter(|c| c.is_control()).map(|c| u32::from(c).to_string()).collect();
                let why = "String may not contain control sequences but had the following ASCII chars: ";
                if odd.is_empty() { None } else { invalid(format!("{why}{}", odd.join(", "))) }
            }
            (Self::Regex, Value::Null) => invalid("Invalid regex: there is none".into()),
            (Self::Regex, Value::Text(text)) => match Pattern::new(text) {
                Ok(_) => None,
                Err(what) => invalid(format!("Invalid regex: {what}")),
            },
            _ => None,
        }
    }
}

fn repeated(items: &[String]) -> bool {
    items.iter().enumerate().any(|(at, item)| items[..at].contains(item))
}

/// What is wrong with a list whose items have to be different and not empty.
fn indistinct(name: &str, items: &[String]) -> Option<String> {
    if repeated(items) {
        return Some(format!("Configuration '{name}' values must not be duplicated."));
    }
    let empty = items.iter().any(String::is_empty);
    empty.then(|| format!("Configuration '{name}' values must not be empty."))
}

impl ConfigKey {
    /// A bound of a range in the key's own type.
    pub(super) fn bound(&self, bound: f64) -> String {
        if self.kind == Type::Double { shown_double(bound) } else { format!("{bound}") }
    }
}

/// A config as typed values. Fetch them by what you want to have: `parsed.get::<usize>("batch.size")?`; a key that may be
/// left out as an `Option`.
#[derive(Clone)]
pub struct Parsed(BTreeMap<String, Value>);

impl std::fmt::Debug for Parsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(key, value)| (key, value.shown()))).finish()
    }
}

impl Parsed {
    /// The value of a defined key. Fails when it is null and `T` is not an `Option`, or does not fit into `T`.
    ///
    /// # Panics
    /// If the key is not defined, or its type has nothing to do with `T`: a mistake in the connector.
    pub fn get<T: FromConfig>(&self, key: &str) -> Result<T> {
        let value = self.0.get(key).unwrap_or_else(|| panic!("configuration {key} is not in the config definition"));
        T::from_value(key, Raw(value))
    }
}

impl ConfigDef {
    /// The typed values of the defined keys; fails with everything that is wrong with them, in Kafka's words.
    pub fn parse(&self, config: &Config) -> Result<Parsed> {
        let mut values = BTreeMap::new();
        let mut problems = Vec::new();
        for key in &self.keys {
            let (value, errors) = key.evaluate(config);
            problems.extend(errors);
            values.insert(key.name.clone(), value);
        }
        if problems.is_empty() { Ok(Parsed(values)) } else { Err(Error::failed(problems.join("; "))) }
    }
}

/// A parsed value on its way into a Rust type.
#[derive(Clone, Copy)]
pub struct Raw<'a>(&'a Value);

/// Types that [`Parsed::get`] gives.
pub trait FromConfig: Sized {
    #[doc(hidden)]
    fn from_value(key: &str, value: Raw<'_>) -> Result<Self>;
}

impl<T: FromConfig> FromConfig for Option<T> {
    fn from_value(key: &str, value: Raw<'_>) -> Result<Self> {
        if *value.0 == Value::Null { Ok(None) } else { T::from_value(key, value).map(Some) }
    }
}

fn unfit<T>(key: &str, value: &Value) -> Result<T> {
    match value {
        Value::Null => Err(Error::failed(format!("configuration {key} is not set"))),
        _ => panic!("configuration {key} is not of the type {}", std::any::type_name::<T>()),
    }
}

macro_rules! integers {
    ($($ty:ty),+) => { $(
        impl FromConfig for $ty {
            fn from_value(key: &str, value: Raw<'_>) -> Result<Self> {
                match value.0 {
                    Value::Integer(number) => Self::try_from(*number).map_err(|_| {
                        let range = format!("{} to {}", Self::MIN, Self::MAX);
                        Error::failed(format!("Invalid value {number} for configuration {key}: it must be in {range}"))
                    }),
                    other => unfit(key, other),
                }
            }
        }
    )+ };
}

integers!(i16, i32, i64, u16, u32, u64, usize);

impl FromConfig for bool {
    fn from_value(key: &str, value: Raw<'_>) -> Result<Self> {
        match value.0 {
            Value::Boolean(value) => Ok(*value),
            other => unfit(key, other),
        }
    }
}

impl FromConfig for f64 {
    fn from_value(key: &str, value: Raw<'_>) -> Result<Self> {
        match value.0 {
            Value::Double(value) => Ok(*value),
            Value::Integer(value) => Ok(*value as f64),
            other => unfit(key, other),
        }
    }
}

/// Also of passwords.
impl FromConfig for String {
    fn from_value(key: &str, value: Raw<'_>) -> Result<Self> {
        match value.0 {
            Value::Text(text) | Value::Password(text) => Ok(text.clone()),
            other => unfit(key, other),
        }
    }
}

impl FromConfig for Vec<String> {
    fn from_value(key: &str, value: Raw<'_>) -> Result<Self> {
        match value.0 {
            Value::List(items) => Ok(items.clone()),
            other => unfit(key, other),
        }
    }
}

/// Milliseconds, as in all keys that end in `.ms`.
impl FromConfig for Duration {
    fn from_value(key: &str, value: Raw<'_>) -> Result<Self> {
        u64::from_value(key, value).map(Duration::from_millis)
    }
}
